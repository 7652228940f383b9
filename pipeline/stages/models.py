"""From transformed examples to one servable: text encoder, towers, index, candidate lists, ranker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.types import BaseChannel

from components.candidate_index import settings as candidate_index
from components.candidate_index.component import CandidateIndex
from components.candidate_sampler import settings as candidate_sampler
from components.candidate_sampler.component import CandidateSampler
from components.common.fingerprint import code_version
from components.model_registry import settings as model_registry
from components.model_registry.component import WarmStartModel
from components.ranking_trainer import settings as ranking_trainer
from components.ranking_trainer.component import RankingTrainer
from components.ranking_tuner import settings as ranking_tuner
from components.ranking_tuner.component import RankingTuner
from components.retrieval_trainer import settings as retrieval_trainer
from components.retrieval_trainer.component import RetrievalTrainer
from components.servable_builder import settings as servable_builder
from components.servable_builder.component import ServableBuilder
from components.text_encoder_trainer import settings as text_encoder_trainer
from components.text_encoder_trainer.component import TextEncoderTrainer
from pipeline.stages.data import Features, Tables
from pipeline.stages.nodes import rebuilt
from schema.config import Config


@dataclass(frozen=True)
class Model:
    """A trained model: its components in order, and its Model artifact."""

    nodes: list[BaseNode]
    model: BaseChannel


@dataclass(frozen=True)
class WarmStart:
    """An earlier model: the component that looks for it, and its answer as RetrievalTrainer's parameter.

    Both are empty where the configuration asks for no warm start.
    """

    nodes: list[BaseNode]
    last_model: dict[str, Placeholder]


@dataclass(frozen=True)
class Retriever:
    """What finds candidates: the index's component, and towers and index by the names of inputs."""

    nodes: list[BaseNode]
    inputs: dict[str, BaseChannel]


@dataclass(frozen=True)
class Candidates:
    """Labelled candidate lists and the component that draws them."""

    nodes: list[BaseNode]
    candidates: BaseChannel


def train_text_encoder(config: Config, tables: Tables, features: Features) -> Model:
    """The text encoder; its training data are the events, so a frozen one does not read them."""
    encoder = TextEncoderTrainer(
        **features.item_inputs,
        **(tables.raw_sessions if config.text_encoder.mode != "frozen" else {}),
        config=text_encoder_trainer.Settings.of(config).to_json(),
        code_version=code_version("components.text_encoder_trainer"),
    )
    return Model([encoder], encoder.outputs["model"])


def find_warm_start(config: Config, tables: Tables, serving_dir: str) -> WarmStart:
    """The pushed version below `serving_dir` that the towers start from."""
    # With leave-one-out no model is earlier than another.
    if not config.retrieval.warm_start or config.split.strategy != "time":
        return WarmStart([], {})
    earlier = WarmStartModel(
        **tables.raw_sessions,
        destination=serving_dir,
        config=model_registry.Settings.of(config).to_json(),
        code_version=code_version("components.model_registry"),
    )
    return WarmStart([earlier], {"last_model": earlier.outputs["version"].future()[0].value})


def train_towers(
    config: Config, tables: Tables, features: Features, text_encoder: Model, warm_start: WarmStart
) -> Model:
    """The two towers, from first purchases before the ranker's label windows."""
    towers = RetrievalTrainer(
        sessions=features.sessions,
        **tables.raw_sessions,
        **features.session_graph,
        **features.item_inputs,
        **features.user_inputs,
        text_encoder=text_encoder.model,
        **warm_start.last_model,
        config=retrieval_trainer.Settings.of(config).to_json(),
        code_version=code_version("components.retrieval_trainer"),
    )
    return Model([towers], towers.outputs["model"])


def build_index(
    config: Config, tables: Tables, features: Features, text_encoder: Model, towers: Model
) -> Retriever:
    """Item vectors, their search, and what else the candidate sources need."""
    index = CandidateIndex(
        **tables.raw_sessions,
        **features.session_graph,
        catalog=tables.items,
        **features.item_inputs,
        text_encoder=text_encoder.model,
        retrieval_model=towers.model,
        config=candidate_index.Settings.of(config).to_json(),
        code_version=code_version("components.candidate_index"),
    )
    return Retriever([rebuilt(index)], {"retrieval_model": towers.model, "index": index.outputs["index"]})


def sample_candidates(config: Config, tables: Tables, features: Features, retriever: Retriever) -> Candidates:
    """Candidate lists of past requests, labelled by what was then bought."""
    sampler = CandidateSampler(
        **tables.raw_sessions,
        **features.session_graph,
        **features.item_inputs,
        **features.user_inputs,
        **tables.raw_users,
        **retriever.inputs,
        config=candidate_sampler.Settings.of(config).to_json(),
        code_version=code_version("components.candidate_sampler"),
    )
    return Candidates([sampler], sampler.outputs["candidates"])


def train_ranker(config: Config, features: Features, retriever: Retriever, lists: Candidates) -> Model:
    """The ranker, after a search for its settings where the configuration asks for one."""
    learning = {
        "candidates": lists.candidates,
        **features.session_graph,
        **features.item_inputs,
        **features.user_inputs,
        **retriever.inputs,
    }
    nodes: list[BaseNode] = []
    found = {}
    if config.ranking.tune:
        tuner = RankingTuner(
            **learning,
            config=ranking_tuner.Settings.of(config).to_json(),
            code_version=code_version("components.ranking_tuner"),
        )
        nodes = [tuner]
        found = {"hyperparameters": tuner.outputs["best_hyperparameters"]}
    ranker = RankingTrainer(
        **learning,
        **found,
        config=ranking_trainer.Settings.of(config).to_json(),
        code_version=code_version("components.ranking_trainer"),
    )
    return Model([*nodes, ranker], ranker.outputs["model"])


def build_servable(
    config: Config,
    tables: Tables,
    features: Features,
    text_encoder: Model,
    retriever: Retriever,
    ranker: Model,
    search: Mapping[str, BaseChannel],
) -> Model:
    """All of it as one SavedModel; `search` is what was learned for the search, empty without."""
    servable = ServableBuilder(
        **search,
        **tables.raw_sessions,
        **features.session_graph,
        **features.item_inputs,
        **features.user_inputs,
        **retriever.inputs,
        text_encoder=text_encoder.model,
        ranking_model=ranker.model,
        config=servable_builder.Settings.of(config).to_json(),
        code_version=code_version("components.servable_builder"),
    )
    return Model([rebuilt(servable)], servable.outputs["model"])
