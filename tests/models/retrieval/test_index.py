"""Searches of item vectors against naive numpy."""

import functools
import typing

import numpy as np
import pytest
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.index import int8, ivf, kinds
from models.retrieval.index.kinds import KINDS, build_index, make_plan
from models.retrieval.index.plan import Plan
from schema.config import Candidates

ROWS, COUNT, DIM, QUERIES = 3000, 2400, 16, 30


def on_sphere(values):
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


@functools.cache
def clustered():
    """(vectors of all rows, queries), 60 clusters; some vectors occur twice."""
    rng = np.random.default_rng(1)
    centre = on_sphere(rng.normal(size=(60, DIM)))
    owner = rng.integers(0, 60, ROWS + QUERIES)
    points = on_sphere(centre[owner] + 0.15 * rng.normal(size=(len(owner), DIM)))
    points[100:120] = points[200:220]
    return points[:ROWS], points[ROWS:]


@functools.cache
def candidate_row():
    return np.sort(np.random.default_rng(2).permutation(ROWS)[:COUNT]).astype(np.int32)


@functools.cache
def plan(kind, recall=0.95):
    vectors, queries = clustered()
    return make_plan(kind, vectors, candidate_row(), queries, 10, recall)


@functools.cache
def built(kind):
    return build_index(frozen_table(clustered()[0]), candidate_row(), plan(kind))


@functools.cache
def graph(kind, k):
    """The search as a graph, as it is exported."""
    which = built(kind)
    signature = [tf.TensorSpec([None, DIM]), tf.TensorSpec([None, None], tf.bool)]
    return tf.function(lambda query, allowed: which.search(query, k, allowed), signature, autograph=False)


def search(kind, k, allowed=None, query=None):
    count = len(candidate_row())
    allowed = np.ones((1, count), bool) if allowed is None else allowed
    query = clustered()[1] if query is None else query
    return [value.numpy() for value in graph(kind, k)(tf.constant(query), tf.constant(allowed))]


def recall(score, allowed, k):
    """Share of the k nearest allowed vectors, or others as near, that were found."""
    truth = np.where(allowed, clustered()[1] @ clustered()[0][candidate_row()].T, -1e9)
    last = -np.sort(-truth, 1)[:, k - 1]
    return np.mean(score[:, :k] >= last[:, None] - 1e-6)


def filters():
    """name -> bool [QUERIES, C]."""
    rng = np.random.default_rng(3)
    count = len(candidate_row())
    near = clustered()[1] @ clustered()[0][candidate_row()].T
    return {
        "almost all": rng.random((QUERIES, count)) < 0.98,
        "a third": rng.random((QUERIES, count)) < 0.33,
        "one in fifty": rng.random((QUERIES, count)) < 0.02,
        "the farthest": near < np.sort(near, 1)[:, 60:61],
        "the nearest": near > np.sort(near, 1)[:, -30:-29],
        "two": np.arange(count)[None] % (COUNT // 2) == np.arange(QUERIES)[:, None],
        "none": np.zeros((QUERIES, count), bool),
    }


def test_the_configuration_takes_every_kind_and_auto():
    taken = typing.get_args(Candidates.model_fields["index"].annotation)
    assert set(taken) == {"auto", *KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_is_of_the_kind_asked_for(kind):
    got = plan(kind)
    assert got.kind == kind
    assert got.partitioned == (kind in ("ivf", "ivf_int8"))
    if got.partitioned:
        assert got.centroids.shape == (int(np.ceil(2 * np.sqrt(COUNT))), DIM)
        assert got.list_of_row.shape == (ROWS,)  # of all rows, also those that are no candidates now
        np.testing.assert_allclose(np.linalg.norm(got.centroids, axis=1), 1, rtol=1e-5)
        nearest = np.argmax(clustered()[0] @ got.centroids.T, 1)
        np.testing.assert_array_equal(got.list_of_row, nearest)
        assert 0 < got.probes < len(got.centroids) // 2  # the data are clustered
    else:
        assert got.probes == len(got.centroids) == len(got.list_of_row) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_the_naive_ones(kind):
    score, position = search(kind, 10)
    vectors = clustered()[0][candidate_row()]
    assert score.shape == position.shape == (QUERIES, 10)
    assert score.dtype == np.float32
    assert position.dtype == np.int32
    for row, query in enumerate(clustered()[1]):
        assert len(set(position[row])) == 10
        np.testing.assert_allclose(score[row], vectors[position[row]] @ query, rtol=1e-5, atol=1e-6)
        assert (np.diff(score[row]) <= 0).all()
    if kind == "exact":
        truth = np.argsort(-(clustered()[1] @ vectors.T), 1, kind="stable")[:, :10]
        np.testing.assert_allclose(score, np.take_along_axis(clustered()[1] @ vectors.T, truth, 1), atol=1e-6)
    everything = np.ones((QUERIES, len(vectors)), bool)
    floor = {"exact": 1.0, "int8": 0.999, "ivf": 0.95, "ivf_int8": 0.95}[kind]
    assert recall(score, everything, 10) >= floor


@pytest.mark.parametrize("kind", ["ivf", "ivf_int8"])
def test_a_partitioned_search_reads_only_near_lists(kind):
    """Else its recall would say nothing."""
    score, _ = search(kind, 10)
    assert recall(score, np.ones((QUERIES, COUNT), bool), 10) < 1.0


@pytest.mark.parametrize("name", filters())
@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_holds_and_the_list_is_still_full(kind, name):
    allowed = filters()[name]
    score, position = search(kind, 10, allowed)
    for row in range(QUERIES):
        real = position[row] < COUNT
        assert real.sum() == min(10, allowed[row].sum())
        assert allowed[row][position[row][real]].all()
        assert (np.diff(real.astype(int)) <= 0).all()  # empty places at the end
        assert (position[row][~real] == COUNT).all()
        assert len(set(position[row][real])) == real.sum()
    if allowed.sum(1).min() >= 10:
        assert recall(score, allowed, 10) >= (0.92 if "ivf" in kind else 0.999)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, COUNT])
def test_one_and_all(kind, k):
    score, position = search(kind, k)
    vectors = clustered()[0][candidate_row()]
    truth = clustered()[1] @ vectors.T
    if k == COUNT:
        np.testing.assert_array_equal(np.sort(position, 1), np.tile(np.arange(COUNT), (QUERIES, 1)))
        np.testing.assert_allclose(score, -np.sort(-truth, 1), atol=1e-6)
    else:
        assert recall(score, np.ones_like(truth, bool), 1) >= 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_single_queries_give(kind):
    rng = np.random.default_rng(4)
    allowed = rng.random((QUERIES, COUNT)) < 0.4
    score, position = search(kind, 30, allowed)
    for row in range(QUERIES):
        one = search(kind, 30, allowed[row : row + 1], clustered()[1][row : row + 1])
        np.testing.assert_array_equal(score[row], one[0][0])
        # vectors that occur twice may change places
        distinct = np.isin(score[row], [s for s in score[row] if (score[row] == s).sum() == 1])
        np.testing.assert_array_equal(position[row][distinct], one[1][0][distinct])


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch(kind):
    score, position = search(kind, 5, query=np.zeros((0, DIM), np.float32))
    assert score.shape == position.shape == (0, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_handful_of_candidates(kind):
    vectors, queries = clustered()
    for count in (1, 3):
        rows = np.arange(5, 5 + count, dtype=np.int32)
        which = build_index(frozen_table(vectors), rows, make_plan(kind, vectors, rows, queries, 1, 1.0))
        score, position = which.search(tf.constant(queries), count, tf.ones([1, count], tf.bool))
        truth = queries @ vectors[rows].T
        np.testing.assert_array_equal(position, np.argsort(-truth, 1))
        np.testing.assert_allclose(score, -np.sort(-truth, 1), atol=1e-6)


def test_scores_do_not_depend_on_the_index_nor_on_the_place():
    rng = np.random.default_rng(5)
    position = rng.integers(0, COUNT + 1, (QUERIES, 50)).astype(np.int32)
    query = tf.constant(clustered()[1])
    score = built("exact").score(query, tf.constant(position)).numpy()
    vectors = clustered()[0][np.append(candidate_row(), 0)]
    np.testing.assert_allclose(score, np.einsum("bnd,bd->bn", vectors[position], clustered()[1]), atol=1e-6)
    for kind in KINDS:
        order = rng.permutation(50)[:17]
        for row in (0, 7):
            other = built(kind).score(query[row : row + 1], tf.constant(position[row : row + 1, order]))
            np.testing.assert_array_equal(other[0], score[row, order])
    np.testing.assert_array_equal(built("ivf").vectors(tf.constant(position)), vectors[position])


@pytest.mark.parametrize("kind", ["ivf", "ivf_int8"])
def test_a_plan_of_more_candidates_serves_fewer(kind):
    """Snapshots of other moments have other candidates: lists may be empty, rows may be new."""
    vectors, queries = clustered()
    for rows in (candidate_row()[np.arange(COUNT) % 5 > 0], np.arange(ROWS, dtype=np.int32)):
        which = build_index(frozen_table(vectors), rows, plan(kind))
        score, position = which.search(tf.constant(queries), 10, tf.ones([1, len(rows)], tf.bool))
        truth = -np.sort(-(queries @ vectors[rows].T), 1)[:, 9]
        assert np.mean(score.numpy() >= truth[:, None] - 1e-6) > 0.9
        assert (position.numpy() < len(rows)).all()


@pytest.mark.parametrize("recall_wanted", [0.95, 1.0])
def test_the_fewest_lists_that_reach_the_recall_are_read(recall_wanted):
    got = plan("ivf", recall_wanted)
    vectors, queries = clustered()

    def reached(probes):
        which = build_index(
            frozen_table(vectors), candidate_row(), Plan("ivf", got.centroids, got.list_of_row, probes)
        )
        score, _ = which.search(tf.constant(queries), 10, tf.ones([1, COUNT], tf.bool))
        return recall(score.numpy(), np.ones((QUERIES, COUNT), bool), 10)

    assert reached(got.probes) >= recall_wanted
    assert reached(got.probes - 1) < recall_wanted


def test_auto_is_exact_for_few_candidates(monkeypatch):
    assert plan("auto").kind == "exact"
    monkeypatch.setattr(kinds, "EXACT_BELOW", COUNT)
    vectors, queries = clustered()
    assert make_plan("auto", vectors, candidate_row(), queries, 10, 0.9).kind == "ivf"


def test_auto_is_exact_where_a_partition_does_not_pay(monkeypatch):
    monkeypatch.setattr(kinds, "EXACT_BELOW", 100)
    vectors = on_sphere(np.random.default_rng(6).normal(size=(900, 64)))  # no clusters at all
    got = make_plan("auto", vectors[:800], np.arange(800, dtype=np.int32), vectors[800:], 10, 0.95)
    assert got.kind == "exact"
    assert not got.partitioned


def test_int8_scans_block_by_block(monkeypatch):
    expected = search("int8", 10)
    for block in (64, COUNT, COUNT - 1, 1000):
        monkeypatch.setattr(int8, "_BLOCK", block)
        got = built("int8").search(tf.constant(clustered()[1]), 10, tf.ones([1, COUNT], tf.bool))
        np.testing.assert_array_equal(got[0], expected[0])


def test_one_byte_a_dimension():
    vectors = np.concatenate([clustered()[0], np.zeros((1, DIM), np.float32)])
    small, scale = int8.quantize(vectors)
    assert small.dtype == np.int8
    np.testing.assert_allclose(small * scale[:, None], vectors, atol=float(scale.max()) / 2 + 1e-6)
    assert (np.abs(small[:-1]).max(1) == 127).all()
    assert built("int8").size_bytes < 0.5 * built("exact").size_bytes
    assert built("ivf_int8").size_bytes < 0.5 * built("ivf").size_bytes


def test_a_plan_is_read_as_it_was_written(tmp_path):
    for kind in KINDS:
        plan(kind).save(str(tmp_path / f"{kind}.npz"))
        got = Plan.load(str(tmp_path / f"{kind}.npz"))
        assert (got.kind, got.probes) == (kind, plan(kind).probes)
        assert type(got.probes) is int
        np.testing.assert_array_equal(got.centroids, plan(kind).centroids)
        np.testing.assert_array_equal(got.list_of_row, plan(kind).list_of_row)


def test_k_means_finds_clusters():
    rng = np.random.default_rng(7)
    truth = on_sphere(rng.normal(size=(8, DIM)))
    points = on_sphere(np.repeat(truth, 50, 0) + 0.01 * rng.normal(size=(400, DIM)))
    centres = ivf.centroids(points, 24)
    assert (np.max(points @ centres.T, 1) > 0.99).all()
    # as many centres as points, and points that are all the same
    assert np.isfinite(ivf.centroids(points[:3], 3)).all()
    same = ivf.centroids(np.repeat(points[:1], 30, 0), 5)
    np.testing.assert_allclose(same, np.repeat(points[:1], 5, 0), atol=1e-6)
