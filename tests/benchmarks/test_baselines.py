"""The classical recommenders against their definitions, on dense matrices."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import baselines
from benchmarks.baselines import Interactions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    user = np.sort(rng.integers(0, 12, 300))
    item = rng.choice(30, 300, p=np.arange(30, 0, -1) / 465)
    # each user's events in time order: ages fall
    age = np.concatenate([np.sort(rng.uniform(0, 90, size))[::-1] for size in np.bincount(user)])
    return Interactions(user, item, age.astype(np.float32), 12, 30, np.array([7, 0, 3]))


def dense(data, weight=None):
    out = np.zeros((data.users, data.items))
    np.add.at(out, (data.user, data.item), 1 if weight is None else weight)
    return out


@pytest.mark.parametrize(
    ("damping", "function"),
    [("raw", lambda x: x), ("binary", lambda x: (x > 0) * 1.0), ("log", np.log1p), ("sqrt", np.sqrt)],
)
@pytest.mark.parametrize("half_life", [None, 20])
def test_damping(data, damping, function, half_life):
    counts = dense(data, None if half_life is None else 2 ** (-data.age / half_life))
    np.testing.assert_allclose(data.damped(damping, half_life).toarray(), function(counts), rtol=1e-5)


def test_popularity_counts_lines_or_users_of_all_or_the_last_days(data):
    lines, late = dense(data), dense(data, data.age <= 30)
    for count, of in (("lines", lambda x: x), ("users", lambda x: x > 0)):
        np.testing.assert_array_equal(baselines.popularity(data, count), [of(lines).sum(0)] * 3)
        np.testing.assert_array_equal(
            baselines.popularity_recent(data, count, days=30), [of(late).sum(0)] * 3
        )


def test_personal_frequency_is_the_own_count_and_popularity_breaks_ties(data):
    score = baselines.personal_frequency(data, None, 0.999)
    np.testing.assert_array_equal(np.floor(score), dense(data)[data.asked])
    lines = dense(data).sum(0)
    np.testing.assert_allclose((score - np.floor(score)), [0.999 * lines / (lines.max() + 1)] * 3, atol=1e-5)
    decayed = baselines.personal_frequency(data, 10, 0.0)
    np.testing.assert_allclose(decayed, dense(data, 2 ** (-data.age / 10))[data.asked], rtol=1e-5)


@pytest.mark.parametrize("regularisation", [0.5, 30])
@pytest.mark.parametrize("last", [None, 2])
def test_ease_by_the_users_kernel_is_ease(data, regularisation, last):
    """B_ij = -P_ij / P_jj with a zero diagonal, P = (X'X + l I)^-1, the formula of the paper."""
    x = np.sqrt(dense(data, 2 ** (-data.age / 20)))
    p = np.linalg.inv(x.T @ x + regularisation * np.eye(data.items))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    places = np.concatenate([np.arange(size)[::-1] for size in np.bincount(data.user)])
    query = x if last is None else dense(data, 2.0 ** (-places / last))
    found = baselines.ease(data, regularisation, "sqrt", 20, last)
    np.testing.assert_allclose(found, query[data.asked] @ b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("keep_self", [True, False])
@pytest.mark.parametrize("neighbours", [4, 30])
def test_item_knn(data, keep_self, neighbours, monkeypatch):
    monkeypatch.setattr(baselines, "_BLOCK", 7)  # several blocks
    x = np.log1p(dense(data))
    norm = np.linalg.norm(x, axis=0)
    similarity = x.T @ x / (np.outer(norm, norm) + 3)
    if not keep_self:
        np.fill_diagonal(similarity, 0)
    for row in similarity:
        row[np.argsort(-row, kind="stable")[neighbours:]] = 0
    found = baselines.item_knn(data, neighbours, 3, "log", None, keep_self)
    np.testing.assert_allclose(found, x[data.asked] @ similarity.T, rtol=1e-4, atol=1e-5)


def test_ials_finds_blocks_of_items():
    """Users buy in one of two halves of the catalogue: what is left of their half comes first."""
    rng = np.random.default_rng(1)
    pairs = [(u, i + 10 * (u % 2)) for u in range(40) for i in rng.choice(10, 6, replace=False)]
    user, item = np.array(pairs).T
    data = Interactions(user, item, np.zeros(len(user), np.float32), 40, 20, np.arange(40))
    score = baselines.ials(data, factors=2, regularisation=1, alpha=2, damping="binary")
    top = baselines.top_k(score, 4, data.matrix())
    assert (top // 10 == (np.arange(40) % 2)[:, None]).mean() > 0.95


def test_top_k_orders_leaves_out_the_seen_and_breaks_ties_by_column(data):
    score = np.array([[1, 3, 3, 0, 2], [5, 5, 5, 5, 5]], np.float32)
    seen = baselines.sp.csr_matrix(np.array([[0, 0, 1, 0, 0], [1, 1, 1, 0, 1]]))
    assert baselines.top_k(score, 3).tolist() == [[1, 2, 4], [0, 1, 2]]
    assert baselines.top_k(score, 3, seen).tolist() == [[1, 4, 0], [3, -1, -1]]
    assert baselines.top_k(score, 9, seen).shape == (2, 5)


def test_a_baseline_in_a_process_of_its_own(data, tmp_path):
    baselines.save(str(tmp_path / "data.npz"), data)
    command = [sys.executable, "benchmarks/baselines.py", "--data", str(tmp_path / "data.npz"), "--novel"]
    command += ["--model", "popularity", "--settings", '{"count": "users"}', "--k", "5"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "top.npy")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    cost = json.loads(done.stdout)
    assert cost["seconds"] < 5
    assert 20e6 < cost["peak_bytes"] < 500e6  # without TensorFlow
    expected = baselines.top_k(baselines.popularity(data, "users"), 5, data.matrix()[data.asked])
    np.testing.assert_array_equal(np.load(tmp_path / "top.npy"), expected)
