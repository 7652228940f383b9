"""SearchTrainer's component spec (no `from __future__ import annotations`: see TFX)."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifact_types
from components.search_trainer import executor, material
from components.search_trainer.settings import Settings


@component
def SearchTrainer(
    catalog: InputArtifact[standard_artifacts.Examples],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    text_encoder: InputArtifact[standard_artifacts.Model],
    query_encoder: InputArtifact[standard_artifacts.Model],
    search: OutputArtifact[artifact_types.SearchModel],
    model_run: OutputArtifact[standard_artifacts.ModelRun],
    config: Parameter[str],
    code_version: Parameter[str],
    judgements: InputArtifact[standard_artifacts.Examples] = None,
    raw_sessions: InputArtifact[standard_artifacts.Examples] = None,
    session_graph: InputArtifact[standard_artifacts.TransformGraph] = None,
    retrieval_model: InputArtifact[standard_artifacts.Model] = None,
    index: InputArtifact[artifact_types.CandidateIndex] = None,
    ranking_model: InputArtifact[standard_artifacts.Model] = None,
    users: InputArtifact[standard_artifacts.Examples] = None,
    user_graph: InputArtifact[standard_artifacts.TransformGraph] = None,
) -> None:
    """Learns the order of what a search finds: from judgements, the log, the catalogue and purchases.

    Args:
      catalog: CatalogExampleGen's items, with every text column.
      items: transformed items.
      item_graph: ItemTransform's graph.
      text_encoder: with the items' text vectors.
      query_encoder: QueryEncoderTrainer's.
      search: ranker.npz, search.json, evaluation.parquet and perhaps log.parquet.
      model_run: history.json.
      config: JSON of :class:`components.search_trainer.settings.Settings`.
      code_version: part of the cache key.
      judgements: JudgementExampleGen's; None in a shop without.
      raw_sessions: EventExampleGen's artifact; it and all that follow are None in a shop without events.
      session_graph: EventTransform's graph.
      retrieval_model: the towers.
      index: CandidateIndex's artifact.
      ranking_model: the funnel's ranker.
      users: UserTransform's examples; None in a shop without a users table.
      user_graph: UserTransform's graph.
    """
    del code_version
    settings = Settings.from_json(config)
    given = {
        "catalog": catalog,
        "items": items,
        "item_graph": item_graph,
        "text_encoder": text_encoder,
        "query_encoder": query_encoder,
        "judgements": judgements,
        "raw_sessions": raw_sessions,
        "session_graph": session_graph,
        "retrieval_model": retrieval_model,
        "index": index,
        "ranking_model": ranking_model,
        "users": users,
        "user_graph": user_graph,
    }
    found = material.gather(given, settings)
    summary = executor.run(
        catalogue=found.catalogue,
        describer=found.describer,
        feature_names=found.searcher.feature_names,
        personal_names=found.pairs.names,
        material=found.material,
        log=found.log,
        config=settings.search_training,
        measured_items=settings.known_items,
        output=search.uri,
        run_folder=model_run.uri,
    )
    search.set_string_custom_property("summary", summary)
