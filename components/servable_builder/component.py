"""ServableBuilder's component spec (no `from __future__ import annotations`: see TFX)."""

import os

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifacts, search_inputs
from components.common.artifact_types import RequestHistories, SearchModel
from components.common.retriever_inputs import RetrieverInputs
from components.common.retriever_spec import takes_retriever
from components.common.windows import Windows
from components.servable_builder import executor
from components.servable_builder.settings import Settings
from models.data import example_io
from models.data.event_log import EventLog


@component
@takes_retriever
def ServableBuilder(
    raw_sessions: InputArtifact[standard_artifacts.Examples],
    retriever: RetrieverInputs,
    text_encoder: InputArtifact[standard_artifacts.Model],
    ranking_model: InputArtifact[standard_artifacts.Model],
    model: OutputArtifact[standard_artifacts.Model],
    histories: OutputArtifact[RequestHistories],
    config: Parameter[str],
    code_version: Parameter[str],
    catalog: InputArtifact[standard_artifacts.Examples] = None,
    query_encoder: InputArtifact[standard_artifacts.Model] = None,
    search: InputArtifact[SearchModel] = None,
) -> None:
    """Exports the whole funnel as one SavedModel of stock ops.

    Args:
      raw_sessions: EventExampleGen's artifact.
      retriever: towers, index and catalogue.
      text_encoder: the BERT encoder.
      ranking_model: the ranker.
      model: the servable, and next to it weights.npz (see RetrievalTrainer).
      histories: request state of every user, for clients and demos.
      config: JSON of :class:`components.servable_builder.settings.Settings`.
      code_version: part of the cache key.
      catalog: CatalogExampleGen's items, with every text column; it and what follows are None in a shop
        without search.
      query_encoder: QueryEncoderTrainer's.
      search: SearchTrainer's.
    """
    del code_version
    settings = Settings.from_json(config)
    windows = Windows.of(raw_sessions, settings.split)
    factory = retriever.factory(settings)
    folders = [example_io.split_folder(raw_sessions.uri, split) for split in windows.past]
    last = factory.at(windows.cutoff)
    parts = None
    if search:
        parts = search_inputs.parts(
            search_inputs.catalogue(
                search_inputs.raw_items(catalog.uri), factory.items, settings.items, last.snapshot
            ),
            factory.text_vectors[1:],
            tf.saved_model.load(artifacts.model_folder(query_encoder.uri)),
            search.uri,
            settings.search,
        )
    found = executor.run(
        retriever=last,
        items=factory.items,
        ranking_folder=artifacts.model_folder(ranking_model.uri),
        text_encoder_folder=artifacts.model_folder(text_encoder.uri),
        log=EventLog.read(folders, None, list(settings.events.context)),
        as_of=windows.cutoff,
        settings=settings,
        model_folder=model.uri,
        histories_folder=histories.uri,
        search=parts,
    )
    # What the next run's towers start from; Pusher takes it along.
    folders = (retriever.retrieval_model, model.uri)
    tf.io.gfile.copy(*(os.path.join(folder, artifacts.WEIGHTS) for folder in folders))
    model.set_string_custom_property("summary", found)
