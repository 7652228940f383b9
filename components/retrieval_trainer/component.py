"""RetrievalTrainer's component spec (no `from __future__ import annotations`: see TFX)."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import catalogue, registry
from components.common.windows import Windows
from components.retrieval_trainer import executor
from components.text_encoder_trainer.executor import VECTORS
from models.data import example_io
from schema.config import load_sections


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
      model_run: history.json.
      config: sections `items`, `users`, `events`, `split`, `retrieval`, `candidates`, `ranking`.
      code_version: part of the cache key.
      users, user_graph: UserTransform's outputs, if the shop has a users table.
      last_model: the pushed version whose towers to start from; it learned from earlier events only.
    """
    del code_version
    settings = load_sections(config)
    windows = Windows.of(raw_sessions, settings.split)
    vocabularies = catalogue.load_vocabularies(
        session_graph.uri,
        list(settings.events.context),
        settings.users,
        users.uri if users else None,
        user_graph.uri if user_graph else None,
    )
    last = registry.read_reference(last_model)
    until = windows.label_starts(settings.ranking)[0]
    found = executor.run(
        folders=[example_io.split_folder(sessions.uri, split) for split in windows.past],
        items=catalogue.load_items(items.uri, item_graph.uri, settings.items, exposure_channels=[]),
        item_vocabulary=catalogue.item_vocabulary(session_graph.uri),
        vocabularies=vocabularies,
        text_vectors=os.path.join(text_encoder.uri, VECTORS),
        until=until,
        config=settings.retrieval,
        collaborative_config=settings.candidates.collaborative,
        model_folder=model.uri,
        run_folder=model_run.uri,
        previous=last.weights if last else None,
    )
    model.set_string_custom_property("summary", found)
