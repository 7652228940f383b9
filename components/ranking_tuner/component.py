"""RankingTuner's component spec (no `from __future__ import annotations`: see TFX)."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifact_types as shop_types
from components.common import retriever_inputs as retrieval_setup
from components.ranking_tuner import executor
from models.data import example_io
from schema.config import load_sections

# TFX's Tuner writes these names.
BEST = "best_hyperparameters.txt"
RESULTS = "tuner_results.json"


@component
def RankingTuner(
    candidates: InputArtifact[standard_artifacts.Examples],
    session_graph: InputArtifact[standard_artifacts.TransformGraph],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    retrieval_model: InputArtifact[standard_artifacts.Model],
    index: InputArtifact[shop_types.CandidateIndex],
    best_hyperparameters: OutputArtifact[standard_artifacts.HyperParameters],
    tuner_results: OutputArtifact[standard_artifacts.TunerResults],
    config: Parameter[str],
    code_version: Parameter[str],
    users: InputArtifact[standard_artifacts.Examples] = None,
    user_graph: InputArtifact[standard_artifacts.TransformGraph] = None,
) -> None:
    """Searches the ranker's settings with KerasTuner; writes what TFX's Tuner writes.

    TFX's own Tuner hands a function examples and a Transform graph; the ranker's features need
    the towers and the as-of tables too, so this is a component with RankingTrainer's inputs.

    Args:
      candidates: CandidateSampler's examples.
      session_graph: EventTransform's graph.
      items, item_graph: ItemTransform's outputs.
      retrieval_model: the towers.
      index: item vectors and as-of tables.
      best_hyperparameters: for RankingTrainer.
      tuner_results: every trial.
      config: the sections of `components.common.retriever_inputs`.
      code_version: part of the cache key.
      users, user_graph: UserTransform's outputs.
    """
    del code_version
    settings = load_sections(config)
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
    found = executor.run(
        folder=example_io.split_folder(candidates.uri, "train"),
        retriever_at=factory.at,
        contexts=tuple(settings.events.context),
        config=settings.ranking,
        best_path=os.path.join(best_hyperparameters.uri, BEST),
        results_path=os.path.join(tuner_results.uri, RESULTS),
    )
    best_hyperparameters.set_string_custom_property("summary", found)
