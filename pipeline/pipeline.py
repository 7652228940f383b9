"""The pipeline: one function that reads like the picture in the README."""

import json
import os
from collections.abc import Callable, Mapping

from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration import metadata
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import transform_pb2
from tfx.types import Channel, standard_artifacts

from components.candidate_index.component import CandidateIndex
from components.candidate_sampler.component import CandidateSampler
from components.catalog_example_gen import executor as catalog_executor
from components.catalog_example_gen.component import CatalogExampleGen
from components.common import retriever_inputs as retrieval_setup
from components.common import shop
from components.common.fingerprint import code_version, data_version
from components.data_quality_gate.component import DataQualityGate
from components.evaluator.component import Evaluator
from components.event_example_gen import executor as event_executor
from components.event_example_gen.component import EventExampleGen
from components.funnel_evaluator.component import FunnelEvaluator
from components.infra_validator.component import InfraValidator
from components.pusher.component import Pusher
from components.ranking_trainer.component import RankingTrainer
from components.ranking_tuner.component import RankingTuner
from components.retrieval_trainer.component import RetrievalTrainer
from components.schema_importer import executor as schema_executor
from components.schema_importer.component import SchemaImporter
from components.servable_builder.component import ServableBuilder
from components.text_encoder_trainer.component import TextEncoderTrainer
from pipeline.stages import evaluation
from pipeline.stages.latest_blessed import LatestBlessedEarlierModelStrategy, LatestBlessedOtherModelStrategy
from schema.config import LISTS, Config, dump_sections


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
        config=catalog_executor.settings_json(config),
        data_version=fingerprint(_files(config, "items", "users", "exposures")),
        code_version=code_version("components.catalog_example_gen"),
    )
    events = EventExampleGen(
        config=event_executor.settings_json(config),
        data_version=fingerprint(_files(config, "events")),
        code_version=code_version("components.event_example_gen"),
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
            | {"code_version": code_version("models.data.preprocessing")},
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
    retriever_config = dump_sections(config, *retrieval_setup.SECTIONS)

    text_encoder = TextEncoderTrainer(
        **item_inputs,
        **(raw_sessions if config.text_encoder.mode != "frozen" else {}),
        config=_text_encoder_config(config),
        code_version=code_version("components.text_encoder_trainer"),
    )
    blessed_models = {
        "model": Channel(type=standard_artifacts.Model, producer_component_id="ServableBuilder"),
        "model_blessing": Channel(
            type=standard_artifacts.ModelBlessing, producer_component_id="FunnelEvaluator"
        ),
    }
    # Kubeflow's compiler knows TFX's own strategies only; with leave-one-out no model is earlier
    warm_start = (
        Resolver(
            strategy_class=LatestBlessedEarlierModelStrategy,
            config={
                "split": config.split.to_json(),
                "ranking": json.dumps(_only(config, "ranking", "windows", "window_days")),
            },
            **raw_sessions,
            **blessed_models,
        ).with_id("WarmStartModel")
        if config.retrieval.warm_start and metadata_path and config.split.strategy == "time"
        else None
    )
    retrieval = RetrievalTrainer(
        sessions=transforms["Event"].outputs["transformed_examples"],
        **raw_sessions,
        **session_graph,
        **item_inputs,
        **user_inputs,
        text_encoder=text_encoder.outputs["model"],
        **({"last_model": warm_start.outputs["model"]} if warm_start else {}),
        config=_retrieval_config(config),
        code_version=code_version("components.retrieval_trainer"),
    )
    index = CandidateIndex(
        **raw_sessions,
        **session_graph,
        catalog=catalog.outputs["items"],
        **item_inputs,
        text_encoder=text_encoder.outputs["model"],
        retrieval_model=retrieval.outputs["model"],
        config=_index_config(config),
        code_version=code_version("components.candidate_index"),
    )
    retrieved = {"retrieval_model": retrieval.outputs["model"], "index": index.outputs["index"]}
    sampler = CandidateSampler(
        **raw_sessions,
        **session_graph,
        **item_inputs,
        **user_inputs,
        **raw_users,
        **retrieved,
        config=_sampler_config(config),
        code_version=code_version("components.candidate_sampler"),
    )
    learning = {
        "candidates": sampler.outputs["candidates"],
        **session_graph,
        **item_inputs,
        **user_inputs,
        **retrieved,
        "config": retriever_config,
    }
    tuner = (
        RankingTuner(**learning, code_version=code_version("components.ranking_tuner"))
        if config.ranking.tune
        else None
    )
    ranking = RankingTrainer(
        **learning,
        **({"hyperparameters": tuner.outputs["best_hyperparameters"]} if tuner else {}),
        code_version=code_version("components.ranking_trainer"),
    )
    servable = ServableBuilder(
        **raw_sessions,
        **session_graph,
        **item_inputs,
        **user_inputs,
        **retrieved,
        text_encoder=text_encoder.outputs["model"],
        ranking_model=ranking.outputs["model"],
        config=dump_sections(config, *retrieval_setup.SECTIONS, "serving"),
        code_version=code_version("components.servable_builder"),
    )

    # --- blessing --------------------------------------------------------------------
    # Kubeflow's compiler knows TFX's own strategies only
    strategy = LatestBlessedOtherModelStrategy if metadata_path else LatestBlessedModelStrategy
    latest_blessed = Resolver(
        strategy_class=strategy,
        **({"current": servable.outputs["model"]} if metadata_path else {}),
        **blessed_models,
    ).with_id("LatestBlessedModel")
    evaluator = Evaluator(
        examples=sampler.outputs["candidates"],
        model=servable.outputs["model"],
        baseline_model=latest_blessed.outputs["model"],
        eval_config=evaluation.eval_config(config),
        code_version=code_version("components.evaluator"),
    )
    funnel_evaluator = FunnelEvaluator(
        **raw_sessions,
        **raw_users,
        candidates=sampler.outputs["candidates"],
        model=servable.outputs["model"],
        ranking_blessing=evaluator.outputs["blessing"],
        baseline_model=latest_blessed.outputs["model"],
        config=dump_sections(config, "users", "events", "split", "candidates", "quality"),
        code_version=code_version("components.funnel_evaluator"),
    )
    infra_validator = InfraValidator(
        model=servable.outputs["model"],
        config=dump_sections(config, "infra_validator"),
        code_version=code_version("components.infra_validator"),
    )
    pusher = Pusher(
        model=servable.outputs["model"],
        model_blessing=funnel_evaluator.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"],
        destination=serving_dir,
        code_version=code_version("components.pusher"),
    )
    nodes = [catalog, events, *statistics.values(), *schemas.values(), *validators.values(), gate]
    nodes += [*transforms.values(), text_encoder, *([warm_start] if warm_start else [])]
    nodes += [retrieval, index, sampler]
    nodes += [*([tuner] if tuner else []), ranking, servable]
    nodes += [latest_blessed, evaluator, funnel_evaluator, infra_validator, pusher]
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
        "Item": ([shop.ITEMS_SPLIT], [shop.ITEMS_SPLIT]),
        "User": ([shop.USERS_SPLIT], [shop.USERS_SPLIT]),
        "Event": (past, past),
    }


def _transform_config(config: Config) -> dict[str, dict[str, object]]:
    return {
        "Item": {
            "text": list(config.items.text),
            "categorical": list(config.items.categorical),
            "channels": shop.channels(config.exposures),
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
