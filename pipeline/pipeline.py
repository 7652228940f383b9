"""The pipeline: one function for each kind of shop, which reads like the picture in the README."""

from __future__ import annotations

from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration import metadata
from tfx.orchestration import pipeline as tfx_pipeline

from components.common.fingerprint import data_version
from pipeline.stages import data, models, release, search
from schema.config import Config


def create_pipeline(
    config: Config,
    pipeline_root: str,
    metadata_path: str | None,
    serving_dir: str,
    fingerprint: data.Fingerprint = data_version,
) -> tfx_pipeline.Pipeline:
    """Assembles the pipeline of one shop.

    Args:
      config: the shop.
      pipeline_root: folder or URL of the artifacts.
      metadata_path: SQLite file of the metadata store; None where the platform has its own.
      serving_dir: folder or URL whose sub-folders are the pushed versions.
      fingerprint: fingerprint of input files, given by the configuration key of each; None: a step of the
        pipeline takes it in every run, for a pipeline that is compiled once and run often.

    Returns:
      The pipeline, for `LocalDagRunner` or `KubeflowV2DagRunner`.
    """
    if config.events is None:
        nodes = _of_catalogue(config, serving_dir, fingerprint)
    else:
        nodes = _of_events(config, serving_dir, fingerprint)
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


def _of_events(config: Config, serving_dir: str, fingerprint: data.Fingerprint) -> list[BaseNode]:
    """The components of a shop that knows what its users did."""
    tables = data.read(config, fingerprint)
    checked = data.check(config, tables)
    features = data.transform(config, tables, checked)
    judged = search.read_judgements(config, tables, fingerprint)

    text_encoder = models.train_text_encoder(config, tables, features)
    warm_start = models.find_warm_start(config, tables, serving_dir)
    towers = models.train_towers(config, tables, features, text_encoder, warm_start)
    retriever = models.build_index(config, tables, features, text_encoder, towers)
    lists = models.sample_candidates(config, tables, features, retriever)
    ranker = models.train_ranker(config, features, retriever, lists)
    found = search.train_search(config, tables, features, judged, text_encoder, retriever, ranker)
    servable = models.build_servable(config, tables, features, text_encoder, retriever, ranker, found.inputs)

    baseline = release.find_baseline(servable, serving_dir)
    quality = release.evaluate(config, tables, lists, servable, baseline)
    asked = search.evaluate_search(config, tables, features, found, servable)
    infra = release.try_serving(config, servable)
    pushed = release.push(servable, quality, asked, infra, serving_dir)

    learned = [tables, checked, features, judged, text_encoder, warm_start, towers, retriever, lists, ranker]
    stages = [*learned, found, servable, baseline, quality, asked, infra, pushed]
    return [node for stage in stages for node in stage.nodes]


def _of_catalogue(config: Config, serving_dir: str, fingerprint: data.Fingerprint) -> list[BaseNode]:
    """The components of a shop without events: search and similar items."""
    tables = data.read(config, fingerprint)
    checked = data.check(config, tables)
    features = data.transform(config, tables, checked)
    judged = search.read_judgements(config, tables, fingerprint)

    text_encoder = models.train_text_encoder(config, tables, features)
    found = search.train_search(config, tables, features, judged, text_encoder)
    servable = search.build_catalogue_servable(config, features, text_encoder, found)

    asked = search.evaluate_search(config, tables, features, found, servable)
    infra = release.try_serving(config, servable)
    pushed = release.push(servable, None, asked, infra, serving_dir)

    stages = [tables, checked, features, judged, text_encoder, found, servable, asked, infra, pushed]
    return [node for stage in stages for node in stage.nodes]
