"""Searches the ranker's settings with KerasTuner's Bayesian optimisation."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, get_args

import keras_tuner
import tensorflow as tf
from keras_tuner.engine.trial import Trial

from components.common.hyperparameters import applied
from components.common.labelled_features import load_features
from models.funnel.retriever import Retriever
from models.ranking.training import fit
from schema.config import Ranking, Span

_OBJECTIVE = "ndcg"


class _Tuner(keras_tuner.Tuner):
    """A search whose trial is a function of the settings."""

    def __init__(self, score: Callable[[Mapping[str, Any]], float], **kwargs: Any) -> None:
        self._score = score
        super().__init__(**kwargs)

    def run_trial(self, trial: Trial, **_: Any) -> dict[str, float]:
        return {_OBJECTIVE: self._score(trial.hyperparameters.values)}


def space(config: Ranking) -> keras_tuner.HyperParameters:
    """KerasTuner's search space of `tuning.space`."""
    out = keras_tuner.HyperParameters()
    for name, values in config.tuning.space.items():
        if isinstance(values, Span):
            kind = Ranking.model_fields[name].annotation
            whole = kind is int or int in get_args(kind)
            draw, cast = (out.Int, int) if whole else (out.Float, float)
            sampling = "log" if values.log else "linear"
            draw(name, cast(values.low), cast(values.high), sampling=sampling)
        else:
            # a choice must be a number or text: lists of layers become text
            out.Choice(name, [json.dumps(value) for value in values])
    return out


def search(score: Callable[[Mapping[str, Any]], float], config: Ranking) -> list[Trial]:
    """KerasTuner's Bayesian optimisation; a third of the trials, at least three, are random ones.

    KerasTuner's own default of three random trials for each setting would leave none to its model of
    what a setting brings.

    Args:
      score: of the hyper-parameters that a trial drew; the more, the better.
      config: the configuration's section.

    Returns:
      The trials, best first.
    """
    trials = config.tuning.trials
    with tempfile.TemporaryDirectory() as directory:
        tuner = _Tuner(
            score,
            oracle=keras_tuner.oracles.BayesianOptimizationOracle(
                objective=keras_tuner.Objective(_OBJECTIVE, "max"),
                max_trials=trials,
                num_initial_points=max(3, trials // 3),
                hyperparameters=space(config),
                seed=config.seed,
            ),
            directory=directory,
            project_name="ranking",
        )
        tuner.search(verbose=0)
        return tuner.oracle.get_best_trials(trials)


def run(
    folder: str,
    retriever_at: Callable[[int], Retriever],
    contexts: tuple[str, ...],
    config: Ranking,
    best_path: str,
    results_path: str,
) -> str:
    """Searches, and writes the best settings.

    Args:
      folder: CandidateSampler's train split.
      retriever_at: gives the retriever of an `as_of`.
      contexts: context names.
      config: the configuration's section.
      best_path: file that gets the best hyper-parameters, in KerasTuner's JSON.
      results_path: file that gets all trials, best first: JSON records of settings and `score`,
        the NDCG@20 of held-out users.

    Returns:
      A line for a person.
    """
    data, retriever = load_features(folder, retriever_at, contexts)
    features = retriever.pair_features

    def score(values: Mapping[str, Any]) -> float:
        trial = applied(config, values).model_copy(update={"epochs": config.tuning.epochs, "trees": 0})
        tf.keras.backend.clear_session()
        return fit(data, features.code_sizes, trial, features.item_width).ndcg

    trials = search(score, config)
    best = trials[0].hyperparameters
    with tf.io.gfile.GFile(best_path, "w") as file:
        json.dump(best.get_config(), file)
    with tf.io.gfile.GFile(results_path, "w") as file:
        json.dump([{"score": trial.score} | trial.hyperparameters.values for trial in trials], file)
    chosen = ", ".join(f"{name} {_short(value)}" for name, value in sorted(best.values.items()))
    return f"{len(trials)} trials, held-out ndcg@20 {trials[-1].score:.4f} to {trials[0].score:.4f}: {chosen}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
