"""RankingTrainer's component spec (no `from __future__ import annotations`: see TFX)."""

import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifact_types as shop_types
from components.common import retriever_inputs as retrieval_setup
from components.ranking_trainer import executor
from components.ranking_tuner import executor as tuner_executor
from components.ranking_tuner.component import BEST
from models.data import example_io
from schema.config import load_sections


@component
def RankingTrainer(
    candidates: InputArtifact[standard_artifacts.Examples],
    session_graph: InputArtifact[standard_artifacts.TransformGraph],
    items: InputArtifact[standard_artifacts.Examples],
    item_graph: InputArtifact[standard_artifacts.TransformGraph],
    retrieval_model: InputArtifact[standard_artifacts.Model],
    index: InputArtifact[shop_types.CandidateIndex],
    model: OutputArtifact[standard_artifacts.Model],
    model_run: OutputArtifact[standard_artifacts.ModelRun],
    config: Parameter[str],
    code_version: Parameter[str],
    users: InputArtifact[standard_artifacts.Examples] = None,
    user_graph: InputArtifact[standard_artifacts.TransformGraph] = None,
    hyperparameters: InputArtifact[standard_artifacts.HyperParameters] = None,
) -> None:
    """Trains the TFRS ranker (DCN-v2, MMoE) on labelled candidates.

    Args:
      candidates: CandidateSampler's examples.
      session_graph: EventTransform's graph.
      items, item_graph: ItemTransform's outputs.
      retrieval_model: the towers.
      index: item vectors and as-of tables.
      model: the functions `score` and `heads` of features.
      model_run: history.json.
      config: the sections of `components.common.retriever_inputs`.
      code_version: part of the cache key.
      users, user_graph: UserTransform's outputs.
      hyperparameters: RankingTuner's, which replace the configuration's.
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
    ranking = settings.ranking
    if hyperparameters:
        ranking = tuner_executor.settings(
            ranking, tuner_executor.load(os.path.join(hyperparameters.uri, BEST))
        )
    found = executor.run(
        folder=example_io.split_folder(candidates.uri, "train"),
        retriever_at=factory.at,
        contexts=tuple(settings.events.context),
        config=ranking,
        model_folder=model.uri,
        run_folder=model_run.uri,
    )
    model.set_string_custom_property("summary", found)
