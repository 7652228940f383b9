"""From transformed examples to one servable: text encoder, towers, index, candidate lists, ranker."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.types import BaseChannel, Channel, standard_artifacts

from components.candidate_index.component import CandidateIndex
from components.candidate_sampler.component import CandidateSampler
from components.common import retriever_inputs as retrieval_setup
from components.common.fingerprint import code_version
from components.ranking_trainer.component import RankingTrainer
from components.ranking_tuner.component import RankingTuner
from components.retrieval_trainer.component import RetrievalTrainer
from components.servable_builder.component import ServableBuilder
from components.text_encoder_trainer.component import TextEncoderTrainer
from pipeline.stages.data import Features, Tables
from pipeline.stages.latest_blessed import LatestBlessedEarlierModelStrategy
from pipeline.stages.nodes import rebuilt
from schema.config import LISTS, Config, dump_sections


@dataclass(frozen=True)
class Model:
    """A trained model: its components in order, and its Model artifact."""

    nodes: list[BaseNode]
    model: BaseChannel


@dataclass(frozen=True)
class WarmStart:
    """An earlier model: its component, and what RetrievalTrainer takes; both empty without a warm start."""

    nodes: list[BaseNode]
    last_model: dict[str, BaseChannel]


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
        config=_text_encoder_config(config),
        code_version=code_version("components.text_encoder_trainer"),
    )
    return Model([encoder], encoder.outputs["model"])


def find_warm_start(config: Config, tables: Tables, metadata_path: str | None) -> WarmStart:
    """The earlier model that the towers start from, if the configuration asks for one."""
    # Kubeflow's compiler knows TFX's own strategies only; with leave-one-out no model is earlier
    if not (config.retrieval.warm_start and metadata_path and config.split.strategy == "time"):
        return WarmStart([], {})
    earlier = Resolver(
        strategy_class=LatestBlessedEarlierModelStrategy,
        config={
            "split": config.split.to_json(),
            "ranking": json.dumps(_only(config, "ranking", "windows", "window_days")),
        },
        **tables.raw_sessions,
        **blessed_models(),
    ).with_id("WarmStartModel")
    # a resolver has no outputs of its own to re-use
    return WarmStart([rebuilt(earlier)], {"last_model": earlier.outputs["model"]})


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
        config=_retrieval_config(config),
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
        config=_index_config(config),
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
        config=_sampler_config(config),
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
            config=dump_sections(config, *retrieval_setup.SECTIONS),
            code_version=code_version("components.ranking_tuner"),
        )
        nodes = [tuner]
        found = {"hyperparameters": tuner.outputs["best_hyperparameters"]}
    ranker = RankingTrainer(
        **learning,
        **found,
        config=dump_sections(config, *retrieval_setup.SECTIONS),
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
) -> Model:
    """All of it as one SavedModel."""
    servable = ServableBuilder(
        **tables.raw_sessions,
        **features.session_graph,
        **features.item_inputs,
        **features.user_inputs,
        **retriever.inputs,
        text_encoder=text_encoder.model,
        ranking_model=ranker.model,
        config=dump_sections(config, *retrieval_setup.SECTIONS, "serving"),
        code_version=code_version("components.servable_builder"),
    )
    return Model([rebuilt(servable)], servable.outputs["model"])


def blessed_models() -> dict[str, Channel]:
    """All servables of earlier runs and the verdicts on them, as inputs of a resolver."""
    return {
        "model": Channel(type=standard_artifacts.Model, producer_component_id="ServableBuilder"),
        "model_blessing": Channel(
            type=standard_artifacts.ModelBlessing, producer_component_id="FunnelEvaluator"
        ),
    }


def _only(config: Config, section: str, *names: str) -> dict[str, object]:
    dumped = getattr(config, section).model_dump(mode="json")
    return {name: dumped[name] for name in names}


def _text_encoder_config(config: Config) -> str:
    sections = json.loads(dump_sections(config, "items", "text_encoder"))
    if config.text_encoder.mode == "frozen":
        return json.dumps(sections, sort_keys=True)
    sections |= json.loads(dump_sections(config, "split"))
    sections |= {"ranking": _only(config, "ranking", "windows", "window_days")}
    return json.dumps(sections, sort_keys=True)


def _retrieval_config(config: Config) -> str:
    # of the ranker, the towers only need to know when its label windows begin: a change of
    # its layers must not train them again
    sections = json.loads(dump_sections(config, "items", "users", "events", "split", "retrieval"))
    sections |= {"ranking": _only(config, "ranking", "windows", "window_days")}
    return json.dumps(sections | {"candidates": _only(config, "candidates", "collaborative")}, sort_keys=True)


def _sampler_config(config: Config) -> str:
    # the ranker's layers and losses do not change what it learns from
    sections = json.loads(dump_sections(config, *retrieval_setup.SECTIONS))
    sections["ranking"] = _only(config, "ranking", *LISTS)
    return json.dumps(sections | {"quality": _only(config, "quality", "item_slices")}, sort_keys=True)


def _index_config(config: Config) -> str:
    sections = json.loads(dump_sections(config, "items", "exposures", "split", "candidates"))
    sections |= {"ranking": _only(config, "ranking", "windows", "window_days")}
    return json.dumps(sections | {"quality": _only(config, "quality", "min_index_recall")}, sort_keys=True)
