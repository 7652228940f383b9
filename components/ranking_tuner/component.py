"""RankingTuner's component spec (no `from __future__ import annotations`: see TFX)."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifacts
from components.common.retriever_inputs import RetrieverInputs
from components.common.retriever_spec import takes_retriever
from components.ranking_tuner import executor
from components.ranking_tuner.settings import Settings
from models.data import example_io


@component
@takes_retriever
def RankingTuner(
    candidates: InputArtifact[standard_artifacts.Examples],
    retriever: RetrieverInputs,
    best_hyperparameters: OutputArtifact[standard_artifacts.HyperParameters],
    tuner_results: OutputArtifact[standard_artifacts.TunerResults],
    config: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Searches the ranker's settings with KerasTuner; writes what TFX's Tuner writes.

    TFX's own Tuner hands a function examples and a Transform graph; the ranker's features need
    the towers and the as-of tables too, so this is a component with RankingTrainer's inputs.

    Args:
      candidates: CandidateSampler's examples.
      retriever: towers, index and catalogue, which the features are computed with.
      best_hyperparameters: for RankingTrainer.
      tuner_results: every trial.
      config: JSON of :class:`components.ranking_tuner.settings.Settings`.
      code_version: part of the cache key.
    """
    del code_version
    settings = Settings.from_json(config)
    found = executor.run(
        folder=example_io.split_folder(candidates.uri, "train"),
        retriever_at=retriever.factory(settings).at,
        contexts=tuple(settings.events.context),
        config=settings.ranking,
        best_path=os.path.join(best_hyperparameters.uri, artifacts.BEST_HYPERPARAMETERS),
        results_path=os.path.join(tuner_results.uri, artifacts.TUNER_RESULTS),
    )
    best_hyperparameters.set_string_custom_property("summary", found)
