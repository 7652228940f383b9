"""RankingTrainer's component spec (no `from __future__ import annotations`: see TFX)."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifacts
from components.common import hyperparameters as tuned
from components.common.retriever_inputs import RetrieverInputs
from components.common.retriever_spec import takes_retriever
from components.ranking_trainer import executor
from components.ranking_trainer.settings import Settings
from models.data import example_io


@component
@takes_retriever
def RankingTrainer(
    candidates: InputArtifact[standard_artifacts.Examples],
    retriever: RetrieverInputs,
    model: OutputArtifact[standard_artifacts.Model],
    model_run: OutputArtifact[standard_artifacts.ModelRun],
    config: Parameter[str],
    code_version: Parameter[str],
    hyperparameters: InputArtifact[standard_artifacts.HyperParameters] = None,
) -> None:
    """Trains the TFRS ranker (DCN-v2, MMoE) on labelled candidates.

    Args:
      candidates: CandidateSampler's examples.
      retriever: towers, index and catalogue, which the features are computed with.
      model: the functions `score` and `heads` of features.
      model_run: the training curves.
      config: JSON of :class:`components.ranking_trainer.settings.Settings`.
      code_version: part of the cache key.
      hyperparameters: RankingTuner's, which replace the configuration's.
    """
    del code_version
    settings = Settings.from_json(config)
    ranking = settings.ranking
    if hyperparameters:
        best = tuned.load(os.path.join(hyperparameters.uri, artifacts.BEST_HYPERPARAMETERS))
        ranking = tuned.applied(ranking, best)
    found = executor.run(
        folder=example_io.split_folder(candidates.uri, "train"),
        retriever_at=retriever.factory(settings).at,
        contexts=tuple(settings.events.context),
        config=ranking,
        model_folder=model.uri,
        run_folder=model_run.uri,
    )
    model.set_string_custom_property("summary", found)
