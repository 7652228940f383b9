"""The search for the ranker's settings: its space, its trials, and who uses the best ones."""

import functools
import json

import keras_tuner
import numpy as np
import pytest

from components.common import hyperparameters
from components.common.labelled_features import load_features
from components.ranking_tuner import executor
from models.data import example_io
from models.ranking.training import fit
from schema.config import Ranking
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG

SPACE = {
    "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    "experts": {"low": 2, "high": 3},
    "hidden": [[4], [6, 3]],
    "pair_loss_weight": [0.0, 0.1],
}


def config(**tuning):
    tree = CONFIG.ranking.model_dump() | {"tuning": {"space": SPACE, "trials": 2} | tuning, "epochs": 3}
    return Ranking.model_validate(tree)


def test_the_space_is_that_of_the_configuration():
    space = executor.space(config())
    by_name = {each.name: each for each in space.space}
    assert set(by_name) == set(SPACE)
    rate = by_name["learning_rate"]
    assert isinstance(rate, keras_tuner.engine.hyperparameters.Float)
    assert (rate.min_value, rate.max_value, rate.sampling) == (1e-3, 1e-1, "log")
    assert isinstance(by_name["experts"], keras_tuner.engine.hyperparameters.Int)
    drawn = [
        hyperparameters.applied(config(), {name: each.random_sample(seed) for name, each in by_name.items()})
        for seed in range(20)
    ]
    assert {tuple(each.hidden) for each in drawn} == {(4,), (6, 3)}
    assert {each.experts for each in drawn} == {2, 3}
    assert {each.pair_loss_weight for each in drawn} == {0.0, 0.1}
    assert all(1e-3 <= each.learning_rate <= 1e-1 for each in drawn)
    # what is not searched stays, and what is not of the space is not taken from KerasTuner
    assert {each.list_size for each in drawn} == {CONFIG.ranking.list_size}
    assert hyperparameters.applied(config(), {"tuner/epochs": 3, "dropout": 0.5}) == config()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"list_size": [8, 16]}, "'list_size'.*cannot be tuned"),
        ({"layers": [1]}, "'layers'.*cannot be tuned"),
        ({"dropout": {"low": 0.3, "high": 0.1}}, "low 0.3 must be below high 0.1"),
        ({"dropout": {"low": 0.0, "high": 0.1, "log": True}}, "must begin above 0"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space, message):
    with pytest.raises(ValueError, match=message):
        config(space=space)


def test_the_search_learns_from_its_trials():
    """Opposite scores: what is drawn at random is the same, what is tried for its promise is not."""
    tried = {}
    for sign in (1, -1):
        tried[sign] = []

        def score(values, sign=sign):
            tried[sign].append(dict(values))
            return sign * values["learning_rate"]

        trials = executor.search(score, config(trials=4))
        scores = [trial.score for trial in trials]
        assert scores == sorted((sign * values["learning_rate"] for values in tried[sign]), reverse=True)
        assert len(scores) == 4
    assert tried[1][:3] == tried[-1][:3]
    assert tried[1][3] != tried[-1][3]


@pytest.mark.slow
def test_a_trial_is_a_training(tmp_path, monkeypatch):
    features_of = functools.cache(load_features)
    monkeypatch.setattr(executor, "load_features", features_of)
    folder = example_io.split_folder(tiny_shop.built().candidates, "train")
    arguments = folder, tiny_shop.factory().at, ("store_id",)
    best, results = tmp_path / "best.txt", tmp_path / "results.json"
    summary = executor.run(*arguments, config(), str(best), str(results))
    trials = json.loads(results.read_text())
    assert len(trials) == 2
    scores = [trial["score"] for trial in trials]
    assert scores == sorted(scores, reverse=True)
    assert 0 < min(scores) <= max(scores) <= 1
    assert summary.startswith("2 trials, held-out ndcg@20")
    # the best ones are written as TFX's Tuner writes them, and are those of the best trial
    read = keras_tuner.HyperParameters.from_config(json.loads(best.read_text())).values
    assert read == hyperparameters.load(str(best)) == {name: trials[0][name] for name in SPACE}
    chosen = hyperparameters.applied(config(), read)
    assert chosen.epochs == 3  # a trial's own number of epochs is not a setting

    # with its settings and epochs, it gives its score again
    data, retriever = features_of(*arguments)
    trial = chosen.model_copy(update={"epochs": config().tuning.epochs, "trees": 0})  # of the network alone
    features = retriever.pair_features
    again = fit(data, features.code_sizes, trial, features.item_width)
    assert again.ndcg == pytest.approx(scores[0], abs=0.02)
    assert len(again.epochs) == config().tuning.epochs
    optimizer = again.model.optimizer
    assert 0 < optimizer.ema_momentum < 1
    means = optimizer._model_variables_moving_average
    for weight, mean in zip(again.model.trainable_variables, means, strict=True):
        np.testing.assert_array_equal(weight, mean)
    assert np.isfinite([value for epoch in again.epochs for value in epoch.values()]).all()
