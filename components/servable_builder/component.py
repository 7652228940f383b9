"""ServableBuilder's component spec (no `from __future__ import annotations`: see TFX)."""

import os

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifact_types as shop_types
from components.common import artifacts
from components.common import retriever_inputs as retrieval_setup
from components.common.windows import Windows
from components.servable_builder import executor
from models.data import example_io
from models.data.event_log import EventLog
from schema.config import load_sections


@component
def ServableBuilder(
    raw_sessions: InputArtifact[standard_artifacts.Examples],
    session_graph: InputArtifact[standard_artifacts.TransformGraph],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    text_encoder: InputArtifact[standard_artifacts.Model],
    retrieval_model: InputArtifact[standard_artifacts.Model],
    index: InputArtifact[shop_types.CandidateIndex],
    ranking_model: InputArtifact[standard_artifacts.Model],
    model: OutputArtifact[standard_artifacts.Model],
    histories: OutputArtifact[shop_types.RequestHistories],
    config: Parameter[str],
    code_version: Parameter[str],
    users: InputArtifact[standard_artifacts.Examples] = None,
    user_graph: InputArtifact[standard_artifacts.TransformGraph] = None,
) -> None:
    """Exports the whole funnel as one SavedModel of stock ops.

    Args:
      raw_sessions: EventExampleGen's artifact.
      session_graph: EventTransform's graph.
      items, item_graph: ItemTransform's outputs.
      text_encoder: the BERT encoder.
      retrieval_model: the towers.
      index: item vectors and as-of tables.
      ranking_model: the ranker.
      model: the servable, and beside it weights.npz (see RetrievalTrainer).
      histories: request state of every user, for clients and demos.
      config: the sections of `components.common.retriever_inputs`, and `serving`.
      code_version: part of the cache key.
      users, user_graph: UserTransform's outputs.
    """
    del code_version
    settings = load_sections(config)
    windows = Windows.of(raw_sessions, settings.split)
    factory = retrieval_setup.factory(
        settings,
        items.uri,
        item_graph.uri,
        session_graph.uri,
        users.uri if users else None,
        user_graph.uri if user_graph else None,
        retrieval_model.uri,
        index.uri,
    )
    folders = [example_io.split_folder(raw_sessions.uri, split) for split in windows.past]
    found = executor.run(
        retriever=factory.at(windows.cutoff),
        items=factory.items,
        ranking_folder=artifacts.model_folder(ranking_model.uri),
        text_encoder_folder=artifacts.model_folder(text_encoder.uri),
        log=EventLog.read(folders, list(settings.events.context)),
        as_of=windows.cutoff,
        settings=settings,
        model_folder=model.uri,
        histories_folder=histories.uri,
    )
    # what the next run's towers start from; Pusher takes it along
    tf.io.gfile.copy(*(os.path.join(uri, artifacts.WEIGHTS) for uri in (retrieval_model.uri, model.uri)))
    model.set_string_custom_property("summary", found)
