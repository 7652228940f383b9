"""CandidateIndex's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.candidate_index import executor
from components.candidate_index.settings import Settings
from components.common import artifact_types, catalogue
from components.common.windows import Windows
from models.data import example_io
from models.data.event_log import EventLog
from models.data.event_types import EventTypes
from schema.config import EventKinds


@component
def CandidateIndex(
    raw_sessions: InputArtifact[standard_artifacts.Examples],
    session_graph: InputArtifact[standard_artifacts.TransformGraph],
    catalog: InputArtifact[standard_artifacts.Examples],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    text_encoder: InputArtifact[standard_artifacts.Model],
    retrieval_model: InputArtifact[standard_artifacts.Model],
    index: OutputArtifact[artifact_types.CandidateIndex],
    config: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Indexes the candidates and their popularity, co-purchases and promotions as of each moment.

    What index.json says of the search (kind, recall, latency) is also on the artifact, as custom
    properties.

    The catalogue that is indexed may be newer than the one that the models learned from (see
    `pipeline.run.refresh`): the towers encode what was added from its text and categories, and it is a
    candidate at once; what was withdrawn is gone.

    Args:
      raw_sessions: EventExampleGen's artifact.
      session_graph: EventTransform's graph.
      catalog: CatalogExampleGen's items, the catalogue to index.
      items, item_graph: ItemTransform's outputs, the catalogue that was learned from.
      text_encoder: for texts that the catalogue did not have.
      retrieval_model: the towers, item vectors, and queries to measure the search with.
      index: see `components.common.artifact_types.CandidateIndex`.
      config: JSON of :class:`components.candidate_index.settings.Settings`.
      code_version: part of the cache key.
    """
    del code_version
    settings = Settings.from_json(config)
    windows = Windows.of(raw_sessions, settings.split)
    channels = catalogue.channels(settings.exposures)
    trained = catalogue.load_items(items.uri, item_graph.uri, settings.items, channels)
    current = catalogue.transform_items(catalog.uri, item_graph.uri, settings.items, channels)
    vectors, new = executor.encode_catalogue(
        current,
        trained,
        catalogue.item_vocabulary(session_graph.uri),
        text_encoder.uri,
        retrieval_model.uri,
        index.uri,
    )
    kinds = EventKinds.of(settings)
    folders = [example_io.split_folder(raw_sessions.uri, split) for split in windows.past]
    found = executor.run(
        log=EventLog.read(folders, kinds),
        types=EventTypes.of(kinds, catalogue.event_types(session_graph.uri)),
        items=current,
        vectors=vectors,
        queries=executor.load_queries(retrieval_model.uri, trained, current),
        new=new,
        moments=[*windows.label_starts(settings.ranking), windows.cutoff],
        config=settings.candidates,
        min_recall=settings.quality.min_index_recall,
        output=index.uri,
        exposures=settings.exposures,
        category=settings.items.category,
    )
    index.set_string_custom_property("summary", found["summary"])
    index.set_string_custom_property("kind", found["kind"])
    for name in ("candidates", "lists", "probes"):
        index.set_int_custom_property(name, found[name])
    for name in ("recall@20", "recall@100", "latency_ms", "size_mb"):
        index.set_float_custom_property(name, found[name])
