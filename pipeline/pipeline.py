"""The pipeline: one function that reads like the picture in the README."""

import os
from collections.abc import Callable, Mapping

from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.orchestration import metadata
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import transform_pb2

from components.candidate_index import settings as candidate_index
from components.candidate_index.component import CandidateIndex
from components.candidate_sampler import settings as candidate_sampler
from components.candidate_sampler.component import CandidateSampler
from components.catalog_example_gen import settings as catalog_example_gen
from components.catalog_example_gen.component import CatalogExampleGen
from components.common import artifacts, catalogue
from components.common.fingerprint import code_version, data_version
from components.data_quality_gate.component import DataQualityGate
from components.evaluator.component import Evaluator
from components.event_example_gen import settings as event_example_gen
from components.event_example_gen.component import EventExampleGen
from components.funnel_evaluator import settings as funnel_settings
from components.funnel_evaluator.component import FunnelEvaluator
from components.infra_validator.component import InfraValidator
from components.model_registry.component import BaselineModel, WarmStartModel
from components.model_registry.settings import Settings as WarmStartSettings
from components.pusher.component import Pusher
from components.ranking_trainer import settings as ranking_trainer
from components.ranking_trainer.component import RankingTrainer
from components.ranking_tuner import settings as ranking_tuner
from components.ranking_tuner.component import RankingTuner
from components.retrieval_trainer import settings as retrieval_trainer
from components.retrieval_trainer.component import RetrievalTrainer
from components.schema_importer import executor as schema_executor
from components.schema_importer.component import SchemaImporter
from components.servable_builder import settings as servable_builder
from components.servable_builder.component import ServableBuilder
from components.text_encoder_trainer import settings as text_encoder_trainer
from components.text_encoder_trainer.component import TextEncoderTrainer
from pipeline.stages import evaluation
from schema.config import Config, dump_sections

# Code that the model components share; a component adds its own package. What is not listed
# here cannot change a component's output, so it does not re-run it.
_DATA_CODE = (
    "components.common.artifacts",
    "components.common.beam_io",
    "components.common.columns",
    "components.common.tables",
)
_SHOP_CODE = (
    "components.common.artifacts",
    "components.common.catalogue",
    "components.common.windows",
    "models.data.example_io",
    "schema.names",
    "models.data.item_table",
    "models.data.arrays",
)
_REGISTRY_CODE = ("components.common.registry", "components.common.standing")
_TEXT_CODE = (
    "models.data.event_log",
    "models.text.encoder",
    "models.text.groups",
    "models.text.noise",
    "models.text.training",
)
_TOWER_CODE = (
    *_SHOP_CODE,
    "models.retrieval.towers",
    "models.retrieval.two_tower",
    "models.retrieval.collaborative",
    "models.data.parameters",
    "models.data.frozen",
    "models.retrieval.warm_start",
)
_RETRIEVER_CODE = (
    *_TOWER_CODE,
    "components.common.retriever_inputs",
    "components.common.retriever_spec",
    "components.common.sections",
    "components.common.candidate_lists",
    "models.data.event_log",
    "models.retrieval.index",
    "models.ranking.features",
    "models.data.preprocessing",
    "models.data.requests",
    "models.funnel.retriever",
    "models.retrieval.snapshot",
    "models.retrieval.collaborative",
    "models.retrieval.sources",
)
_RANKER_CODE = (
    "components.ranking_trainer",
    "components.common.candidate_lists",
    "components.common.hyperparameters",
    "components.common.labelled_features",
    "models.ranking.calibration",
    "models.ranking.ranker",
    "models.ranking.training",
    *_RETRIEVER_CODE,
)


def create_pipeline(
    config: Config,
    pipeline_root: str,
    metadata_path: str | None,
    serving_dir: str,
    fingerprint: Callable[[Mapping[str, str]], str] = data_version,
) -> tfx_pipeline.Pipeline:
    """Assembles the pipeline of one shop.

    Args:
      config: the shop.
      pipeline_root: folder or URL of the artifacts.
      metadata_path: SQLite file of the metadata store; None where the platform has its own.
      serving_dir: folder or URL whose sub-folders are the pushed versions.
      fingerprint: fingerprint of input files, given by the configuration key of each.

    Returns:
      The pipeline, for `LocalDagRunner` or `KubeflowV2DagRunner`.
    """
    # --- data ------------------------------------------------------------------------
    catalog = CatalogExampleGen(
        config=catalog_example_gen.Settings.of(config).to_json(),
        data_version=fingerprint(_files(config, "items", "users", "exposures")),
        code_version=code_version("components.catalog_example_gen", "schema.names", *_DATA_CODE),
    )
    events = EventExampleGen(
        config=event_example_gen.Settings.of(config).to_json(),
        data_version=fingerprint(_files(config, "events")),
        code_version=code_version("components.event_example_gen", *_DATA_CODE),
    )
    tables = {"Item": catalog.outputs["items"], "Event": events.outputs["examples"]}
    if config.users is not None:
        tables["User"] = catalog.outputs["users"]
    statistics = {
        name: StatisticsGen(examples=examples).with_id(f"{name}Statistics")
        for name, examples in tables.items()
    }
    schemas = {name: _schema(config, name) for name in tables}
    validators = {
        name: ExampleValidator(
            statistics=statistics[name].outputs["statistics"], schema=schemas[name].outputs["schema"]
        ).with_id(f"{name}Validator")
        for name in tables
    }
    gate = DataQualityGate(
        **{f"{name.lower()}s": validator.outputs["anomalies"] for name, validator in validators.items()},
        schema_dir=config.schema_dir,
        code_version=code_version("components.data_quality_gate"),
    )
    transforms = {
        name: Transform(
            examples=tables[name],
            schema=schemas[name].outputs["schema"],
            preprocessing_fn=f"models.data.preprocessing.{name.lower()}s_preprocessing_fn",
            splits_config=transform_pb2.SplitsConfig(analyze=analyze, transform=transform),
            disable_statistics=True,  # the model components check what they read
            custom_config=_transform_config(config)[name]
            | {"code_version": code_version("models.data.preprocessing", "schema.names")},
        ).with_id(f"{name}Transform")
        for name, (analyze, transform) in _transform_splits(config).items()
        if name in tables
    }
    for transform in transforms.values():
        transform.add_upstream_node(gate)  # nothing learns from data that failed the check

    # --- models ----------------------------------------------------------------------
    item_inputs = {
        "items": transforms["Item"].outputs["transformed_examples"],
        "item_graph": transforms["Item"].outputs["transform_graph"],
    }
    user_inputs = {}
    if config.users is not None:
        user_inputs = {
            "users": transforms["User"].outputs["transformed_examples"],
            "user_graph": transforms["User"].outputs["transform_graph"],
        }
    raw_users = {"raw_users": catalog.outputs["users"]} if config.users is not None else {}
    raw_sessions = {"raw_sessions": events.outputs["examples"]}
    session_graph = {"session_graph": transforms["Event"].outputs["transform_graph"]}

    text_encoder = TextEncoderTrainer(
        **item_inputs,
        **(raw_sessions if config.text_encoder.mode != "frozen" else {}),
        config=text_encoder_trainer.Settings.of(config).to_json(),
        code_version=code_version("components.text_encoder_trainer", *_TEXT_CODE, *_SHOP_CODE),
    )
    # with leave-one-out no model is earlier than another
    warm_start = (
        WarmStartModel(
            **raw_sessions,
            destination=serving_dir,
            config=WarmStartSettings.of(config).to_json(),
            code_version=code_version("components.model_registry", *_REGISTRY_CODE),
        )
        if config.retrieval.warm_start and config.split.strategy == "time"
        else None
    )
    retrieval = RetrievalTrainer(
        sessions=transforms["Event"].outputs["transformed_examples"],
        **raw_sessions,
        **session_graph,
        **item_inputs,
        **user_inputs,
        text_encoder=text_encoder.outputs["model"],
        **({"last_model": warm_start.outputs["version"].future()[0].value} if warm_start else {}),
        config=retrieval_trainer.Settings.of(config).to_json(),
        code_version=code_version("components.retrieval_trainer", *_TOWER_CODE),
    )
    index = CandidateIndex(
        **raw_sessions,
        **session_graph,
        catalog=catalog.outputs["items"],
        **item_inputs,
        text_encoder=text_encoder.outputs["model"],
        retrieval_model=retrieval.outputs["model"],
        config=candidate_index.Settings.of(config).to_json(),
        code_version=code_version(
            "components.candidate_index",
            "components.common.artifact_types",
            "models.retrieval.index",
            "models.retrieval.snapshot",
            "models.retrieval.collaborative",
            "models.funnel.retriever",
            "models.data.event_log",
            *_TOWER_CODE,
        ),
    )
    retrieved = {"retrieval_model": retrieval.outputs["model"], "index": index.outputs["index"]}
    sampler = CandidateSampler(
        **raw_sessions,
        **session_graph,
        **item_inputs,
        **user_inputs,
        **raw_users,
        **retrieved,
        config=candidate_sampler.Settings.of(config).to_json(),
        code_version=code_version(
            "components.candidate_sampler", "components.common.slicing", *_RETRIEVER_CODE
        ),
    )
    learning = {
        "candidates": sampler.outputs["candidates"],
        **session_graph,
        **item_inputs,
        **user_inputs,
        **retrieved,
    }
    tuner = (
        RankingTuner(
            **learning,
            config=ranking_tuner.Settings.of(config).to_json(),
            code_version=code_version("components.ranking_tuner", *_RANKER_CODE),
        )
        if config.ranking.tune
        else None
    )
    ranking = RankingTrainer(
        **learning,
        **({"hyperparameters": tuner.outputs["best_hyperparameters"]} if tuner else {}),
        config=ranking_trainer.Settings.of(config).to_json(),
        code_version=code_version(*_RANKER_CODE),
    )
    servable = ServableBuilder(
        **raw_sessions,
        **session_graph,
        **item_inputs,
        **user_inputs,
        **retrieved,
        text_encoder=text_encoder.outputs["model"],
        ranking_model=ranking.outputs["model"],
        config=servable_builder.Settings.of(config).to_json(),
        code_version=code_version(
            "components.servable_builder",
            "components.common.artifact_types",
            "models.ranking.explanations",
            "models.funnel.servable",
            "models.funnel.reasons",
            "models.funnel.reranking",
            *_RETRIEVER_CODE,
        ),
    )

    # --- blessing --------------------------------------------------------------------
    baseline = BaselineModel(
        model=servable.outputs["model"],
        destination=serving_dir,
        code_version=code_version("components.model_registry", *_REGISTRY_CODE),
    )
    last_pushed = baseline.outputs["version"].future()[0].value
    evaluator = Evaluator(
        examples=sampler.outputs["candidates"],
        model=servable.outputs["model"],
        baseline=last_pushed,
        eval_config=evaluation.eval_config(config),
        code_version=code_version("components.evaluator", "schema.names", *_REGISTRY_CODE),
    )
    funnel_evaluator = FunnelEvaluator(
        **raw_sessions,
        **raw_users,
        candidates=sampler.outputs["candidates"],
        model=servable.outputs["model"],
        ranking_blessing=evaluator.outputs["blessing"],
        baseline=last_pushed,
        config=funnel_settings.Settings.of(config).to_json(),
        code_version=code_version(
            "components.funnel_evaluator",
            *_REGISTRY_CODE,
            "components.common.candidate_lists",
            "components.common.slicing",
            "models.ranking.calibration",
            "models.data.event_log",
            *_SHOP_CODE,
        ),
    )
    infra_validator = InfraValidator(
        model=servable.outputs["model"],
        config=dump_sections(config, "infra_validator"),
        code_version=code_version("components.infra_validator", "serving.model_server"),
    )
    pusher = Pusher(
        model=servable.outputs["model"],
        model_blessing=funnel_evaluator.outputs["blessing"],
        ranking_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"],
        destination=serving_dir,
        code_version=code_version("components.pusher", *_REGISTRY_CODE),
    )
    nodes = [catalog, events, *statistics.values(), *schemas.values(), *validators.values(), gate]
    nodes += [*transforms.values(), text_encoder, *([warm_start] if warm_start else [])]
    nodes += [retrieval, index, sampler]
    nodes += [*([tuner] if tuner else []), ranking, servable]
    nodes += [baseline, evaluator, funnel_evaluator, infra_validator, pusher]
    return tfx_pipeline.Pipeline(
        pipeline_name=config.name,
        pipeline_root=pipeline_root,
        components=nodes,
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(metadata_path)
        if metadata_path
        else None,
        beam_pipeline_args=list(config.beam_args),
    )


def _schema(config: Config, table: str) -> SchemaImporter:
    path = os.path.join(config.schema_dir, f"{table.lower()}s.pbtxt")
    return SchemaImporter(
        schema_file=path,
        schema_version=schema_executor.schema_version(path),
        code_version=code_version("components.schema_importer"),
    ).with_id(f"{table}Schema")


def _files(config: Config, *sections: str) -> dict[str, str]:
    """Full paths of the sections' files by their configuration key."""
    named = {name: getattr(config, name) for name in sections}
    return {
        f"{name}.path": config.data.resolve(section.path)
        for name, section in named.items()
        if section is not None
    }


def _transform_splits(config: Config) -> dict[str, tuple[list[str], list[str]]]:
    """Table -> (splits whose values make the vocabularies, splits that are transformed)."""
    past = ["train", "eval"] if config.split.evaluate_on == "test" else ["train"]
    return {
        "Item": ([artifacts.ITEMS_SPLIT], [artifacts.ITEMS_SPLIT]),
        "User": ([artifacts.USERS_SPLIT], [artifacts.USERS_SPLIT]),
        "Event": (past, past),
    }


def _transform_config(config: Config) -> dict[str, dict[str, object]]:
    return {
        "Item": {
            "text": list(config.items.text),
            "categorical": list(config.items.categorical),
            "channels": catalogue.channels(config.exposures),
        },
        "User": {"categorical": list(config.users.categorical) if config.users else []},
        "Event": {
            "contexts": list(config.events.context),
            "min_item_events": config.retrieval.min_item_events,
        },
    }


def _only(config: Config, section: str, *names: str) -> dict[str, object]:
    dumped = getattr(config, section).model_dump(mode="json")
    return {name: dumped[name] for name in names}
