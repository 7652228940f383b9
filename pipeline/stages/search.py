"""Search: the encoder of queries, the ranker of what is found, and whether it is good enough."""

from __future__ import annotations

from dataclasses import dataclass, field

from tfx.dsl.components.base.base_node import BaseNode
from tfx.types import BaseChannel

from components.catalogue_servable_builder import settings as catalogue_servable_builder
from components.catalogue_servable_builder.component import CatalogueServableBuilder
from components.common.fingerprint import code_version
from components.judgement_example_gen import settings as judgement_example_gen
from components.judgement_example_gen.component import JudgementExampleGen
from components.query_encoder_trainer import settings as query_encoder_trainer
from components.query_encoder_trainer.component import QueryEncoderTrainer
from components.search_evaluator import settings as search_evaluator
from components.search_evaluator.component import SearchEvaluator
from components.search_trainer import settings as search_trainer
from components.search_trainer.component import SearchTrainer
from pipeline.stages.data import Features, Fingerprint, Tables, Version
from pipeline.stages.models import Model, Retriever
from pipeline.stages.nodes import rebuilt
from schema.config import Config


@dataclass(frozen=True)
class Judgements:
    """The judgements by the name of the input; empty in a shop without."""

    nodes: list[BaseNode] = field(default_factory=list)
    inputs: dict[str, BaseChannel] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """What was learned for the search: the components, and its parts by the names of a servable's inputs.

    `inputs` is empty in a shop without search.
    """

    nodes: list[BaseNode] = field(default_factory=list)
    inputs: dict[str, BaseChannel] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchQuality:
    """SearchEvaluator, and its blessing by the name of Pusher's input; empty in a shop without search."""

    nodes: list[BaseNode] = field(default_factory=list)
    blessing: dict[str, BaseChannel] = field(default_factory=dict)


def read_judgements(config: Config, tables: Tables, fingerprint: Fingerprint) -> Judgements:
    """The judgements, divided by query."""
    judged = config.search.judgements
    if not config.search.enabled or judged is None:
        return Judgements()
    version = Version.of("Judgement", config, {"search.judgements.path": judged.path}, fingerprint)
    node = JudgementExampleGen(
        items=tables.items,
        config=judgement_example_gen.Settings.of(config).to_json(),
        data_version=version.value,
        code_version=code_version("components.judgement_example_gen"),
    )
    return Judgements([*version.nodes, node], {"judgements": node.outputs["judgements"]})


def train_search(
    config: Config,
    tables: Tables,
    features: Features,
    judgements: Judgements,
    text_encoder: Model,
    retriever: Retriever | None = None,
    ranker: Model | None = None,
) -> Search:
    """The encoder of queries, then the ranker; with events it also learns what each user wants of what is
    found.
    """
    if not config.search.enabled:
        return Search()
    catalogue = {"catalog": tables.items, **features.item_inputs, "text_encoder": text_encoder.model}
    encoder = QueryEncoderTrainer(
        **catalogue,
        **judgements.inputs,
        config=query_encoder_trainer.Settings.of(config).to_json(),
        code_version=code_version("components.query_encoder_trainer"),
    )
    personal = {}
    if retriever is not None and ranker is not None:
        personal = {
            **tables.raw_sessions,
            **features.session_graph,
            **features.user_inputs,
            **retriever.inputs,
            "ranking_model": ranker.model,
        }
    trainer = SearchTrainer(
        **catalogue,
        **judgements.inputs,
        **personal,
        query_encoder=encoder.outputs["model"],
        config=search_trainer.Settings.of(config).to_json(),
        code_version=code_version("components.search_trainer"),
    )
    parts = {"query_encoder": encoder.outputs["model"], "search": trainer.outputs["search"]}
    return Search([encoder, trainer], parts | {"catalog": tables.items})


def build_catalogue_servable(
    config: Config, features: Features, text_encoder: Model, search: Search
) -> Model:
    """The SavedModel of a shop without events."""
    servable = CatalogueServableBuilder(
        **features.item_inputs,
        **search.inputs,
        text_encoder=text_encoder.model,
        config=catalogue_servable_builder.Settings.of(config).to_json(),
        code_version=code_version("components.catalogue_servable_builder"),
    )
    return Model([rebuilt(servable)], servable.outputs["model"])


def evaluate_search(
    config: Config, tables: Tables, features: Features, search: Search, servable: Model
) -> SearchQuality:
    """Asks the servable's search what is known to be right."""
    if not search.inputs:
        return SearchQuality()
    node = SearchEvaluator(
        catalog=tables.items,
        **features.item_inputs,
        **tables.raw_sessions,
        search=search.inputs["search"],
        model=servable.model,
        config=search_evaluator.Settings.of(config).to_json(),
        code_version=code_version("components.search_evaluator"),
    )
    return SearchQuality([rebuilt(node)], {"search_blessing": node.outputs["blessing"]})
