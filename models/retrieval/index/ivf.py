"""Partitioned search: vectors lie in lists around centroids, and a query reads the nearest lists.

Inverted file after Jégou et al., "Product quantization for nearest neighbor search", TPAMI 2011;
centroids by spherical k-means after Dhillon and Modha, "Concept decompositions for large sparse text
data using clustering", Machine Learning 42, 2001.

The lists lie one after the other in one table: an *entry* is an index into it.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.index.base import NO_SCORE, VectorIndex
from models.retrieval.index.int8 import quantize
from models.retrieval.index.plan import Plan, exact_neighbours

_ROUNDS = 10  # of k-means
_SAMPLE = 128  # vectors a list that k-means looks at
_SEED = 17


class IvfIndex(VectorIndex):
    """Compares a query with the vectors of the nearest lists; arguments as :class:`VectorIndex`."""

    def __init__(self, vectors: tf.Variable, candidate_row: np.ndarray, plan: Plan) -> None:
        super().__init__(vectors, candidate_row, plan)
        lists = plan.list_of_row[candidate_row]
        position = np.argsort(lists, kind="stable").astype(np.int32)
        size = np.bincount(lists, minlength=len(plan.centroids))
        self._lists, self._probes = len(plan.centroids), plan.probes
        self._end = frozen_table(np.cumsum(size), tf.int32)
        self._start = frozen_table(np.cumsum(size) - size, tf.int32)
        self._centroids = frozen_table(plan.centroids, tf.float32)
        self._position = frozen_table(np.append(position, self.count), tf.int32)  # of each entry
        self._entry = frozen_table(np.argsort(position), tf.int32)  # of each position
        self._store(vectors.numpy()[candidate_row][position])

    def _store(self, vectors: np.ndarray) -> None:
        """Keeps the vectors (float32 [C, D]) of all entries."""
        self._table = frozen_table(vectors)

    def _products(self, query: tf.Tensor, entry: tf.Tensor) -> tf.Tensor:
        """Dot products, float32 [T], of one query (float32 [D]) with entries (int32 [T])."""
        return tf.linalg.matvec(tf.cast(tf.gather(self._table, entry), tf.float32), query)

    @classmethod
    def plan(
        cls,
        kind: str,
        vectors: np.ndarray,
        candidate_row: np.ndarray,
        queries: np.ndarray,
        k: int,
        recall: float,
    ) -> Plan:
        """Lists around centroids, of which a query reads the fewest that give the recall; arguments as
        :func:`models.retrieval.index.kinds.make_plan`.
        """
        searched = vectors[candidate_row]
        # twice the square root: about as many centroids to compare with as vectors to read
        centres = centroids(searched, min(int(np.ceil(2 * np.sqrt(len(searched)))), len(searched)))
        list_of_row = nearest(vectors, centres)
        order = np.argsort(-(queries @ centres.T), 1)
        rank = np.empty_like(order)  # of each list by nearness to a query
        np.put_along_axis(rank, order, np.arange(len(centres))[None], 1)
        _, truth = exact_neighbours(searched, queries, k)
        # the lists that must be read for each of the true neighbours
        needed = np.sort(np.take_along_axis(rank, list_of_row[candidate_row][truth], 1).ravel()) + 1
        probes = int(needed[min(int(np.ceil(recall * len(needed))), len(needed)) - 1])
        return Plan(kind, centres, list_of_row, probes)

    def nominate(self, query: tf.Tensor, k: int, allowed: tf.Tensor) -> tf.Tensor:
        """The nearest candidates of the lists near each query; see the base class."""
        nearness = tf.matmul(query, self._centroids, transpose_b=True)
        limit = tf.shape(allowed)[0] - 1

        def one(request: tf.Tensor) -> tf.Tensor:
            mine = tf.gather(allowed, tf.minimum(request, limit))
            entry = self._entries(nearness[request], k, mine)
            score = self._products(query[request], entry)
            # empty entries, for when fewer than k are allowed
            score = tf.concat([score, tf.fill([k], NO_SCORE)], 0)
            entry = tf.concat([entry, tf.fill([k], self.count)], 0)
            best = tf.math.top_k(score, k, sorted=False).indices
            return tf.gather(self._position, tf.gather(entry, best))

        # a request at a time: each reads other lists, and those of a whole batch would fill the memory
        requests = tf.range(tf.shape(query)[0])
        return tf.map_fn(one, requests, fn_output_signature=tf.int32, parallel_iterations=4)

    def _entries(self, nearness: tf.Tensor, k: int, allowed: tf.Tensor) -> tf.Tensor:
        """Entries, int32 [T], of the allowed vectors that one query is compared with.

        A filter that leaves less than three quarters of what the query would read makes it read on,
        list by list of descending nearness, until it has as many as without a filter, and k. Where
        that would be most of the lists, all that is allowed is compared: little, and exact. So a
        filtered list is as full and as good as one without a filter.

        Args:
          nearness: float32 [P], dot products of the query and the centroids.
          k: how many are wanted.
          allowed: bool [C].
        """

        def read(probes: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            near = tf.math.top_k(nearness, probes).indices
            entry = tf.ragged.range(tf.gather(self._start, near), tf.gather(self._end, near)).flat_values
            free = tf.gather(allowed, tf.gather(self._position, entry))
            return tf.boolean_mask(entry, free), tf.size(entry)

        entry, everything = read(self._probes)
        aim = tf.maximum(k, everything)
        enough = tf.maximum(k, 3 * everything // 4)

        def more(probes: tf.Tensor, entry: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # as many as are needed if the filter is as strict everywhere, and some more
            wanted = 1.25 * tf.cast(probes, tf.float32) * tf.cast(aim, tf.float32)
            wanted /= tf.cast(tf.maximum(tf.size(entry), 1), tf.float32)
            most = wanted > self._lists / 2
            probes = tf.where(
                most,
                self._lists,
                tf.maximum(tf.cast(tf.minimum(wanted, self._lists), tf.int32), probes + 1),
            )
            return probes, tf.cond(
                most,
                lambda: tf.gather(self._entry, tf.where(allowed)[:, 0]),
                lambda: read(probes)[0],
            )

        return tf.while_loop(
            lambda probes, entry: (tf.size(entry) < enough) & (probes < self._lists),
            more,
            [tf.constant(self._probes), entry],
            shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
        )[1]


class IvfInt8Index(IvfIndex):
    """:class:`IvfIndex` with one byte a dimension."""

    rounded = True

    def _store(self, vectors: np.ndarray) -> None:
        rounded, scale = quantize(vectors)
        self._table, self._scale = frozen_table(rounded), frozen_table(scale, tf.float32)

    def _products(self, query: tf.Tensor, entry: tf.Tensor) -> tf.Tensor:
        return super()._products(query, entry) * tf.gather(self._scale, entry)


def share_read(plan: Plan, candidate_row: np.ndarray, queries: np.ndarray) -> float:
    """Share of the candidates' vectors that a query (of float32 [Q, D]) reads on average."""
    size = np.bincount(plan.list_of_row[candidate_row], minlength=len(plan.centroids))
    order = np.argsort(-(queries @ plan.centroids.T), 1)
    return size[order[:, : plan.probes]].sum(1).mean() / len(candidate_row)


def nearest(points: np.ndarray, centres: np.ndarray, block: int = 8192) -> np.ndarray:
    """int32 [N], for each point (float32 [N, D]) the centre (float32 [P, D]) of largest dot product."""
    centres = tf.constant(centres)
    parts = [
        tf.argmax(
            tf.matmul(tf.constant(points[start : start + block]), centres, transpose_b=True),
            axis=1,
            output_type=tf.int32,
        ).numpy()
        for start in range(0, len(points), block)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def centroids(vectors: np.ndarray, lists: int, seed: int = _SEED) -> np.ndarray:
    """Spherical k-means.

    Args:
      vectors: float32 [N, D].
      lists: P, at most N.
      seed: of the sample and of the first centres.

    Returns:
      float32 [P, D], unit length.
    """
    rng = np.random.default_rng(seed)
    points = vectors[rng.permutation(len(vectors))[: _SAMPLE * lists]]
    centres = points[:lists].copy()
    for _ in range(_ROUNDS):
        owner = nearest(points, centres)
        total = tf.math.unsorted_segment_sum(points, owner, lists).numpy()
        size = np.bincount(owner, minlength=lists)
        # a centre that lost all its points starts anew at some point of the largest lists
        empty = np.flatnonzero(size == 0)
        crowd = np.flatnonzero(np.isin(owner, np.argsort(-size)[: max(len(empty), 1)]))
        total[empty] = points[rng.choice(crowd, len(empty), replace=len(crowd) < len(empty))]
        centres = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    return centres
