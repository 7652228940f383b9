"""RetrievalTrainer's component spec (no `from __future__ import annotations`: see TFX)."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifacts, catalogue, registry
from components.common.windows import Windows
from components.retrieval_trainer import executor
from components.retrieval_trainer.settings import Settings
from models.data import example_io
from schema.config import EventKinds


@component
def RetrievalTrainer(
    sessions: InputArtifact[standard_artifacts.Examples],
    raw_sessions: InputArtifact[standard_artifacts.Examples],
    session_graph: InputArtifact[standard_artifacts.TransformGraph],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    text_encoder: InputArtifact[standard_artifacts.Model],
    model: OutputArtifact[standard_artifacts.Model],
    model_run: OutputArtifact[standard_artifacts.ModelRun],
    config: Parameter[str],
    code_version: Parameter[str],
    users: InputArtifact[standard_artifacts.Examples] = None,
    user_graph: InputArtifact[standard_artifacts.TransformGraph] = None,
    last_model: Parameter[str] = registry.NOTHING,
) -> None:
    """Trains the TFRS two-tower model on the sessions before the ranker's label windows.

    Args:
      sessions: transformed sessions.
      raw_sessions: EventExampleGen's artifact (its properties hold the windows).
      session_graph: EventTransform's graph.
      items, item_graph: ItemTransform's outputs.
      text_encoder: the catalogue's text vectors.
      model: towers and item vectors.
      model_run: the training curves.
      config: JSON of :class:`components.retrieval_trainer.settings.Settings`.
      code_version: part of the cache key.
      users, user_graph: UserTransform's outputs, if the shop has a users table.
      last_model: the pushed version whose towers to start from; it learned from earlier events only.
    """
    del code_version
    settings = Settings.from_json(config)
    windows = Windows.of(raw_sessions, settings.split)
    vocabularies = catalogue.load_vocabularies(
        session_graph.uri,
        list(settings.events.context),
        settings.users,
        users.uri if users else None,
        user_graph.uri if user_graph else None,
    )
    last = registry.read_reference(last_model)
    inputs = executor.Inputs(
        folders=[example_io.split_folder(sessions.uri, split) for split in windows.past],
        items=catalogue.load_items(items.uri, item_graph.uri, settings.items, exposure_channels=[]),
        item_vocabulary=catalogue.item_vocabulary(session_graph.uri),
        vocabularies=vocabularies,
        kinds=EventKinds.of(settings),
        text_vectors=os.path.join(text_encoder.uri, artifacts.TEXT_VECTORS),
        until=windows.label_starts(settings.ranking)[0],
        previous=last.weights if last else None,
    )
    found = executor.run(
        inputs, settings.retrieval, settings.candidates.collaborative, model.uri, model_run.uri
    )
    model.set_string_custom_property("summary", found)
