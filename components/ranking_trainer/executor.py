"""Trains the ranker on labelled candidate lists and exports it."""

from __future__ import annotations

from collections.abc import Callable

from components.common import artifacts, curves
from components.common.labelled_features import load_features
from models.funnel.retriever import Retriever
from models.ranking import training
from schema import names as F
from schema.config import Ranking


def run(
    folder: str,
    retriever_at: Callable[[int], Retriever],
    contexts: tuple[str, ...],
    config: Ranking,
    model_folder: str,
    run_folder: str,
) -> str:
    """Trains and exports.

    Args:
      folder: CandidateSampler's train split.
      retriever_at: gives the retriever of an `as_of`.
      contexts: context names.
      config: the section `ranking`.
      model_folder: Model artifact; gets `Format-Serving/`, see
        `models.ranking.training.export`.
      run_folder: ModelRun artifact; gets the training curves.

    Returns:
      A line for a person.
    """
    data, retriever = load_features(folder, retriever_at, contexts)
    features = retriever.pair_features
    fitted = training.fit(data, features.code_sizes, config, features.item_width)
    curves.write(run_folder, fitted.epochs, features=list(features.names))
    width = data["features"].shape[-1]
    training.export(
        fitted.model, width, features.item_width, list(data["codes"]), artifacts.model_folder(model_folder)
    )
    last = fitted.epochs[-1]
    return (
        f"{fitted.lists:,} lists of {data[F.LABEL].shape[1]}, {width} features, {config.epochs} epochs, "
        f"loss {last['loss']:.3f}, holdout {last['val_loss']:.3f}, ndcg@{training.TOP} {fitted.ndcg:.4f}"
    )
