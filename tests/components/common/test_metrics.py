"""Top-k metrics against plain loops over every user."""

import math

import numpy as np
import pytest

from components.common import metrics


def naive(row, relevant, k):
    """All metrics of one user: `row` columns best first (-1 = none), `relevant` a set."""
    hits = [column in relevant for column in row[:k] if column >= 0]
    # an empty place in the middle still takes its rank
    ranks = [rank for rank, column in enumerate(row[:k], 1) if column >= 0 and column in relevant]
    dcg = sum(1 / math.log2(rank + 1) for rank in ranks)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return {
        f"recall@{k}": sum(hits) / len(relevant),
        f"recall_cap@{k}": sum(hits) / min(k, len(relevant)),
        f"ndcg@{k}": dcg / ideal,
        f"hr@{k}": float(bool(ranks)),
        f"mrr@{k}": 1 / ranks[0] if ranks else 0.0,
    }


@pytest.mark.parametrize("ks", [[1], [3, 5], [10, 2, 50], [7]])
@pytest.mark.parametrize("width", [1, 5, 12])
@pytest.mark.parametrize("catalogue", [12, 40])
def test_equal_to_plain_loops(ks, width, catalogue):
    rng = np.random.default_rng(width + catalogue)
    users = 30
    top = np.stack([rng.permutation(catalogue)[:width] for _ in range(users)])
    top[rng.random(top.shape) < 0.2] = -1
    top[0] = -1
    relevant = rng.random((users, catalogue)) < 0.2
    relevant[:, 3] |= ~relevant.any(1)
    relevant[1] = True
    got = metrics.per_user(top, relevant, ks)
    assert set(got) == {f"{name}@{k}" for k in ks for name in ("recall", "recall_cap", "ndcg", "hr", "mrr")}
    for user in range(users):
        for k in ks:
            for name, value in naive(top[user].tolist(), set(np.flatnonzero(relevant[user])), k).items():
                assert got[name][user] == pytest.approx(value), (name, user)


def test_known_values():
    top = np.asarray([[4, 2, 0], [1, -1, 3], [0, 1, 2]])
    relevant = np.zeros((3, 6), bool)
    relevant[0, [2, 5]] = relevant[1, 3] = relevant[2, [0, 1, 2]] = True
    got = metrics.per_user(top, relevant, [3])
    assert got["recall@3"].tolist() == [0.5, 1, 1]
    assert got["mrr@3"].tolist() == [0.5, pytest.approx(1 / 3), 1]
    assert got["ndcg@3"].tolist() == [pytest.approx(0.63093 / 1.63093, abs=1e-5), 0.5, pytest.approx(1)]
    assert got["hr@3"].tolist() == [1, 1, 1]


def test_an_item_twice_in_a_list_is_refused():
    relevant = np.ones((2, 5), bool)
    with pytest.raises(ValueError, match="twice"):
        metrics.per_user(np.asarray([[0, 1, 2], [3, 4, 3]]), relevant, [2])
    metrics.per_user(np.asarray([[0, -1, -1], [3, 4, -1]]), relevant, [2])  # empty places may repeat


def test_a_user_without_relevant_items_is_refused():
    with pytest.raises(ValueError, match="without relevant"):
        metrics.per_user(np.zeros((1, 1), int), np.zeros((1, 3), bool), [1])
    with pytest.raises(ValueError, match="without relevant"):  # one among others
        metrics.per_user(np.zeros((2, 1), int), np.asarray([[True, False], [False, False]]), [1])


def test_summary():
    top = np.asarray([[0, 1, -1], [1, 2, -1], [1, 4, 5]])
    values = {"ndcg@2": np.asarray([0.0, 0.5, 1.0])}
    got = metrics.summarise(values, top, 10, [1, 2, 3])
    assert got == {
        "ndcg@2": 0.5,
        "ndcg@2_se": pytest.approx(0.5 / math.sqrt(3)),
        "coverage@1": 0.2,
        "coverage@2": 0.4,
        "coverage@3": 0.5,
    }
    assert metrics.standard_error(np.asarray([3.0])) == 0.0


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_metrics_of_lists_equal_plain_loops(k):
    rng = np.random.default_rng(k)
    vectors = rng.normal(size=(12, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    share, own_share = rng.uniform(0.05, 1, 12), rng.uniform(0.1, 0.5, 25)
    top = np.stack([rng.permutation(12)[:6] for _ in range(25)])
    top[rng.random(top.shape) < 0.3] = -1
    top[0], top[1, 1:] = -1, -1
    got = metrics.of_lists(top, vectors, share, own_share, [k])
    for user in range(25):
        items = [item for item in top[user, :k] if item >= 0]
        distance = [1 - vectors[a] @ vectors[b] for a in items for b in items if a != b]
        expected = {
            f"diversity@{k}": np.mean(distance) if distance else 0,
            f"novelty@{k}": np.mean([-math.log2(share[item]) for item in items]) if items else 0,
            f"popularity_lift@{k}": np.mean(share[items]) / own_share[user] - 1 if items else 0,
        }
        assert {name: values[user] for name, values in got.items()} == pytest.approx(expected, abs=1e-5)


def test_known_lists():
    """Two equal items are no diversity, opposite ones are 2; half of all is one bit."""
    vectors = np.asarray([[1, 0], [1, 0], [-1, 0]], np.float32)
    share = np.asarray([0.5, 0.25, 1.0])
    got = metrics.of_lists(np.asarray([[0, 1], [0, 2]]), vectors, share, np.asarray([0.25, 0.75]), [2])
    np.testing.assert_allclose(got["diversity@2"], [0, 2], atol=1e-6)
    np.testing.assert_allclose(got["novelty@2"], [1.5, 0.5])
    np.testing.assert_allclose(got["popularity_lift@2"], [0.5, 0])
