"""The index: snapshots of every moment, and the gate on its recall."""

import json

import numpy as np
import pytest

from components.candidate_index import executor
from components.common import artifacts
from models.data import arrays
from models.data.frozen import frozen_table
from models.retrieval import snapshot
from models.retrieval.index.kinds import build_index
from models.retrieval.index.plan import Plan
from schema import names as F
from schema.errors import GateError
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, LABEL_START


@pytest.fixture(scope="module")
def vectors():
    """(of all rows of the catalogue, of queries)"""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(len(tiny_shop.items()) + 40, 6)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values[:-40], values[-40:]


def run(folder, vectors, min_recall=0.95, **settings):
    requests = len(vectors[1])
    history = np.random.default_rng(3).integers(0, len(vectors[0]), (requests, 4)).astype(np.int32)
    queries = {"vectors": vectors[1], "history_row": history}
    queries[F.HISTORY_AGE_DAYS] = np.ones((requests, 4), np.float32)
    queries[F.HISTORY_EVENT_TYPE] = np.ones((requests, 4), np.int32)
    return executor.run(
        tiny_shop.past_log(),
        tiny_shop.event_types(),
        tiny_shop.items(),
        vectors[0],
        queries,
        np.zeros(0, np.int32),
        [LABEL_START, CUTOFF],
        CONFIG.candidates.model_copy(update=settings),
        min_recall,
        str(folder / "index"),
        CONFIG.exposures,
        CONFIG.items.category,
    )


def test_the_index_holds_vectors_and_a_snapshot_of_every_moment(vectors, tmp_path):
    found = run(tmp_path, vectors)
    base = str(tmp_path / "index")
    np.testing.assert_array_equal(arrays.load(f"{base}/item_vectors.npz")["vectors"], vectors[0])
    facts = json.loads((tmp_path / "index" / "index.json").read_text())
    assert facts == {name: value for name, value in found.items() if name != "summary"}
    assert facts["as_of"] == CUTOFF
    assert facts["snapshots"] == [LABEL_START, CUTOFF]
    assert (facts["kind"], facts["lists"], facts["probes"]) == ("exact", 0, 0)
    assert facts["recall@20"] == facts["recall@100"] == 1.0
    assert facts["latency_ms"] > 0
    for moment in (LABEL_START, CUTOFF):
        got = snapshot.Snapshot.load(artifacts.snapshot_path(base, moment))
        # also from a log that goes on after the moment
        expected = tiny_shop.snapshot_at(moment)
        assert got.as_of == moment
        np.testing.assert_array_equal(got.candidate_row, expected.candidate_row)
        np.testing.assert_array_equal(got.stats, expected.stats)
        np.testing.assert_array_equal(got.neighbour, expected.neighbour)
    count = len(got.candidate_row)
    assert facts["candidates"] == count
    # six learned and six collaborative float32 a candidate, and its row
    assert facts["size_mb"] == pytest.approx((count * 12 * 4 + (count + 1) * 4) / 2**20)
    assert found["summary"].startswith(f"{count} candidates, exact search, recall@20 1.000")


@pytest.mark.parametrize("kind", ["int8", "ivf", "ivf_int8"])
def test_the_kind_of_index_is_configured(vectors, tmp_path, kind):
    found = run(tmp_path, vectors, 0.5, index=kind, index_recall=0.9)
    plan = Plan.load(artifacts.plan_path(str(tmp_path / "index"), CUTOFF))
    assert plan.kind == found["kind"] == kind
    assert (len(plan.centroids), plan.probes) == (found["lists"], found["probes"])
    assert 0.5 < found["recall@20"] <= 1.0
    if plan.partitioned:
        assert f"{kind} search of {plan.probes} of {len(plan.centroids)} lists" in found["summary"]


def test_too_low_a_recall_stops_the_run(vectors, tmp_path):
    """The recall is measured on other queries than those that the index was tuned on."""
    rng = np.random.default_rng(8)
    far = vectors[1].copy()
    # tuned on queries that lie on items, where a single list holds the neighbours asked for
    far[::2] = vectors[0][rng.integers(1, len(vectors[0]), 20)]
    with pytest.raises(GateError) as error:
        run(tmp_path, (vectors[0], far), 0.999, index="ivf", index_recall=0.3)
    message = str(error.value)
    for part in ("(ivf)", "below quality.min_index_recall 0.999", "raise candidates.index_recall (now 0.3)"):
        assert part in message
    facts = json.loads((tmp_path / "index" / "index.json").read_text())
    assert f"finds {facts['recall@20']:.3f} of the exact top 20" in message


@pytest.mark.parametrize("count", [400, 1])
def test_recall_is_the_share_of_the_true_neighbours_that_was_found(count):
    """Of an index that leaves out known candidates: those of every second row."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(count, 6)).astype(np.float32)
    queries = rng.normal(size=(25, 6)).astype(np.float32)
    lists = (np.arange(count) % 2).astype(np.int32)
    # equally near: the first list is read
    plan = Plan("ivf", np.zeros((2, 6), np.float32), lists, 1)
    index = build_index(frozen_table(vectors), np.arange(count, dtype=np.int32), plan)
    found = executor.measure(index, vectors, queries)
    truth = np.argsort(-(queries.astype(np.float64) @ vectors.T.astype(np.float64)), 1)
    for k in (20, 100):
        assert found[f"recall@{k}"] == pytest.approx(np.mean(truth[:, :k] % 2 == 0))
    assert found["latency_ms"] > 0
