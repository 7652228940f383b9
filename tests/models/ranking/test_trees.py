"""The trees in the graph against the library that grew them."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.ensemble import HistGradientBoostingClassifier

from models.ranking import trees
from models.ranking.ranker import RankingModel
from schema.config import Ranking

ROWS, WIDTH = 3000, 4


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    features[:, 2] = np.round(features[:, 2])  # values that thresholds lie between
    chance = 1 / (1 + np.exp(2 - 2 * features[:, 0] * (features[:, 1] > 0) - features[:, 2]))
    return features, rng.random(ROWS) < chance, rng.uniform(0.5, 3, ROWS).astype(np.float32)


def test_the_graph_computes_what_the_library_does(rows, monkeypatch):
    monkeypatch.setattr(trees, "_AT_ONCE", 700)  # the last part of the rows is a shorter one
    kept = []

    class Noted(HistGradientBoostingClassifier):
        def fit(self, *arguments):
            kept.append(self)
            return super().fit(*arguments)

    monkeypatch.setattr("sklearn.ensemble.HistGradientBoostingClassifier", Noted)
    config = Ranking(trees=12, tree_leaves=7)
    ensemble = trees.grow(*rows, config)
    (library,) = kept
    others = np.random.default_rng(4).normal(size=(500, WIDTH)).astype(np.float32)
    for features in (rows[0], others, np.nextafter(rows[0], np.float32(9))):
        expected = library.decision_function(features) - library._baseline_prediction[0]
        np.testing.assert_allclose(ensemble(tf.constant(features))[:, 0], expected, rtol=1e-4, atol=1e-5)
    leaves = [len(stage[0].nodes) for stage in library._predictors]
    assert max(leaves) == 13  # seven leaves and the six splits between them
    np.testing.assert_array_equal(trees.grow(*rows, config)(others), ensemble(others))


def test_a_number_on_a_threshold_goes_left():
    nodes = np.zeros(
        3,
        [
            ("value", "f8"),
            ("feature_idx", "i4"),
            ("num_threshold", "f8"),
            ("left", "i4"),
            ("right", "i4"),
            ("is_leaf", "u1"),
        ],
    )
    # 0.1 is no float32: the nearest one lies above it
    nodes["num_threshold"][0], nodes["left"][0], nodes["right"][0] = 0.1, 1, 2
    nodes["is_leaf"], nodes["value"] = [0, 1, 1], [0, -1, 1]
    nodes["feature_idx"][0] = 1
    ensemble = trees.TreeEnsemble([nodes], 3)
    below = np.nextafter(np.float32(0.1), np.float32(0))
    found = ensemble(tf.constant([[9, below], [9, 0.1], [-9, 5], [9, -5]], tf.float32))
    np.testing.assert_array_equal(found, [[-1], [1], [1], [-1]])


def test_where_there_is_nothing_to_tell_there_are_no_trees(rows):
    features, bought, weight = rows
    assert trees.grow(features, bought, weight, Ranking(trees=0)) is None
    assert trees.grow(features, np.zeros(ROWS, bool), weight, Ranking()) is None
    assert trees.grow(features[:150], bought[:150], weight[:150], Ranking(trees=3)) is None  # no leaf of 100


def test_others_are_drawn_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(trees, "_ROWS", 600)
    rng = np.random.default_rng(1)
    weight = rng.integers(0, 3, (40, 50)).astype(np.float32)
    bought = rng.random((40, 50)) < 0.1
    chosen, kept = trees.chosen_rows(weight, bought, np.random.default_rng(2))
    assert not chosen[weight == 0].any()
    assert chosen[(weight > 0) & bought].all()
    others = (weight > 0) & ~bought
    assert chosen.sum() == pytest.approx(600, abs=60)
    # weights divided by the share stand for all of them
    assert (weight[chosen & others] / kept).sum() == pytest.approx(weight[others].sum(), rel=0.1)
    monkeypatch.setattr(trees, "_ROWS", 10**6)
    chosen, kept = trees.chosen_rows(weight, bought, np.random.default_rng(2))
    assert kept == 1
    np.testing.assert_array_equal(chosen, weight > 0)


@pytest.mark.parametrize("of_item", [0, 3])
def test_the_ranker_adds_them_to_what_its_network_says(rows, of_item):
    features, bought, weight = rows
    model = RankingModel(WIDTH, {"brand": 3}, Ranking(trees=5, hidden=[4]), of_item)
    model.adapt(features, bought)
    lists = {
        "features": tf.reshape(features[:60], [10, 6, WIDTH]),
        "codes": {"brand": tf.ones([10, 6], tf.int32)},
    }
    before = {task: values.numpy() for task, values in model(lists).items()}
    model.grow_trees(features, bought, weight)
    after = model(lists)
    changed = after["purchase"] - before["purchase"]
    assert np.std(changed) > 0.05
    assert np.corrcoef(np.ravel(changed), bought[:60])[0, 1] > 0.3
    for task in ("repeat", "value"):
        np.testing.assert_array_equal(after[task], before[task])
    # and in the parts that a server looks up
    parts = model.item_parts(tf.constant(features[:60, :of_item]), {"brand": tf.ones([60], tf.int32)})
    parts = [tf.reshape(part, [10, 6, part.shape[-1]]) for part in parts]
    np.testing.assert_allclose(
        model.score_with(lists["features"][..., of_item:], *parts),
        model.score(lists["features"], lists["codes"]),
        rtol=1e-5,
        atol=1e-5,
    )
