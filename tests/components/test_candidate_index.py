"""The index: snapshots of every moment, and the gate on its recall."""

import json

import numpy as np
import pytest

from components.candidate_index import executor
from models import arrays, snapshot
from pipeline.errors import GateError
from tests.models import tiny_shop
from tests.models.tiny_shop import CONFIG, CUTOFF, LABEL_START


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(len(tiny_shop.items()), 6)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def run(folder, vectors, min_recall):
    path = str(folder / "vectors.npz")
    arrays.save(path, {"vectors": vectors})
    return executor.run(
        tiny_shop.past_log(),
        tiny_shop.items(),
        path,
        [LABEL_START, CUTOFF],
        CONFIG.candidates,
        min_recall,
        str(folder / "index"),
    )


def test_the_index_holds_vectors_and_a_snapshot_of_every_moment(vectors, tmp_path):
    summary = run(tmp_path, vectors, 0.95)
    base = str(tmp_path / "index")
    np.testing.assert_array_equal(arrays.load(f"{base}/item_vectors.npz")["vectors"], vectors)
    facts = json.loads((tmp_path / "index" / "index.json").read_text())
    assert facts["as_of"] == CUTOFF
    assert facts["snapshots"] == [LABEL_START, CUTOFF]
    assert facts["recall@20"] == 1.0
    assert facts["latency_ms"] > 0
    for moment in (LABEL_START, CUTOFF):
        got = snapshot.Snapshot.load(executor.snapshot_path(base, moment))
        # also from a log that goes on after the moment
        expected = snapshot.build(tiny_shop.log(), tiny_shop.items(), moment, CONFIG.candidates)
        assert got.as_of == moment
        np.testing.assert_array_equal(got.candidate_row, expected.candidate_row)
        np.testing.assert_array_equal(got.stats, expected.stats)
        np.testing.assert_array_equal(got.neighbour, expected.neighbour)
    assert facts["candidates"] == len(got.candidate_row)
    assert summary.startswith(f"{len(got.candidate_row)} candidates, exact search, recall@20 1.000")


def test_too_low_a_recall_stops_the_run(vectors, tmp_path):
    with pytest.raises(GateError, match="quality.min_index_recall 1.01"):
        run(tmp_path, vectors, 1.01)


@pytest.mark.parametrize("count", [1, 7, 300])
def test_recall_of_the_exact_search(count):
    recall, milliseconds = executor.measure(
        np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)
    )
    assert recall == 1.0
    assert milliseconds > 0
