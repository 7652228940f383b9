"""Nearest item vectors of a query, in stock TensorFlow ops: exact, int8, partitioned.

An index only decides which candidates are found. Their scores are always the float32 dot products
of :meth:`VectorIndex.score`, so that a feature made from them is the same whatever the index is.

* `exact`: one matrix product with all vectors.
* `int8`: the same over vectors of one byte a dimension, a block at a time: the least memory.
* `ivf`: the vectors lie in lists around centroids (spherical k-means: Dhillon and Modha, "Concept
  decompositions for large sparse text data using clustering", Machine Learning 42, 2001); a query
  reads the lists nearest to it (inverted file: Jégou et al., "Product quantization for nearest
  neighbor search", TPAMI 2011).
* `ivf_int8`: lists of one byte a dimension.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models.data import arrays
from models.data.frozen import table

KINDS = ("exact", "int8", "ivf", "ivf_int8")
# Fewer candidates than this are searched as fast by one matrix product (`make benchmark-index`).
EXACT_BELOW = 100_000
# Vectors that do not lie in clusters make a query read most lists: above this share of them,
# `auto` takes the exact search.
_MOST_READ = 0.25
_NONE = -1e9
_BLOCK = 65_536  # vectors that the int8 scan widens to float32 at a time
_ROUNDS = 10  # of k-means
_SAMPLE = 128  # vectors a list that k-means looks at
_SEED = 17


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the vectors are searched.

    Attributes:
      kind: "exact", "int8", "ivf" or "ivf_int8".
      centroids: float32 [L, D], unit length; no rows unless partitioned.
      list_of_row: int32 [V], the list of every row of the item table; empty unless partitioned.
      probes: lists that a query reads.
    """

    kind: str
    centroids: np.ndarray
    list_of_row: np.ndarray
    probes: int

    @property
    def partitioned(self) -> bool:
        """Whether a query reads a part of the vectors only."""
        return self.kind.startswith("ivf")

    @classmethod
    def whole(cls, kind: str) -> Plan:
        """A plan that reads all vectors: "exact" or "int8"."""
        return cls(kind, np.zeros((0, 0), np.float32), np.zeros(0, np.int32), 0)

    def save(self, path: str) -> None:
        """Writes the plan as one .npz file."""
        arrays.save(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str) -> Plan:
        """Reads what :meth:`save` wrote."""
        fields = arrays.load(path)
        return cls(**fields | {"kind": str(fields["kind"]), "probes": int(fields["probes"])})


class VectorIndex(tf.Module):
    """The candidates' vectors and the search over them.

    Args:
      vectors: float32 [V, D] variable, the vectors of all rows of the item table.
      candidate_row: int32 [C], the rows that are searched; a *position* is an index into it.
      plan: which index.
    """

    def __init__(self, vectors: tf.Variable, candidate_row: np.ndarray, plan: Plan) -> None:
        super().__init__(name="vector_index")
        self.count = len(candidate_row)
        self._vectors = vectors
        self._row = table(np.append(candidate_row, 0), tf.int32)
        self._plan = plan
        ordered, position = vectors.numpy()[candidate_row], np.arange(self.count, dtype=np.int32)
        if plan.partitioned:
            lists = plan.list_of_row[candidate_row]
            position = np.argsort(lists, kind="stable").astype(np.int32)
            ordered = ordered[position]
            size = np.bincount(lists, minlength=len(plan.centroids))
            self._end = table(np.cumsum(size), tf.int32)
            self._start = table(np.cumsum(size) - size, tf.int32)
            self._centroids = table(plan.centroids, tf.float32)
            self._position = table(np.append(position, self.count), tf.int32)
            self._slot = table(np.argsort(position), tf.int32)
        self._scale = None
        if plan.kind.endswith("int8"):
            ordered, scale = quantize(ordered)
            self._scale = table(scale, tf.float32)
        # for the exact search one column a vector: a query's product reads that faster than rows
        self._table = table(ordered.T if plan.kind == "exact" else ordered)

    @property
    def size_bytes(self) -> int:
        """Memory of the search structure, without the float32 vectors of all rows."""
        return sum(
            variable.dtype.size * int(np.prod(variable.shape))
            for variable in self.variables
            if variable is not self._vectors
        )

    @tf.Module.with_name_scope
    def vectors(self, position: tf.Tensor) -> tf.Tensor:
        """float32 [..., D], the vectors at positions (int32 [...], at most C; C gives row 0's)."""
        return tf.gather(self._vectors, tf.gather(self._row, position))

    @tf.Module.with_name_scope
    def score(self, query: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """Dot products of queries and candidates.

        Args:
          query: float32 [B, D].
          position: int32 [B, N] or [1, N], at most C.

        Returns:
          float32 [B, N]; a candidate's is the same in any place of any batch.
        """
        # not a matrix product: that rounds differently by shape
        return tf.reduce_sum(self.vectors(position) * query[:, None], -1)

    @tf.Module.with_name_scope
    def search(self, query: tf.Tensor, k: int, allowed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k allowed candidates with the largest dot products.

        Args:
          query: float32 [B, D].
          k: at most C.
          allowed: bool [B, C] or [1, C].

        Returns:
          (score float32 [B, k], position int32 [B, k]), best first; where fewer are allowed,
          position C at the end.
        """
        # one byte a dimension blurs the order at the border: find more than k, then look closely
        find = min(k + k // 2, self.count) if self._scale is not None else k
        nominate = self._partitioned if self._plan.partitioned else self._scan
        position = nominate(query, find, allowed)
        score = tf.where(position < self.count, self.score(query, position), _NONE)
        score, place = tf.math.top_k(score, k)
        return score, tf.gather(position, place, batch_dims=1)

    def _scan(self, query: tf.Tensor, k: int, allowed: tf.Tensor) -> tf.Tensor:
        """int32 [B, k], positions from all vectors."""
        if self._scale is None:
            score = tf.matmul(query, self._table)
        else:
            blocks = -(-self.count // _BLOCK)

            def block(index: tf.Tensor) -> tf.Tensor:
                # from the end for the last one, so that all have one shape
                start = tf.minimum(index * size, self.count - size)
                rows = tf.cast(tf.slice(self._table, [start, 0], [size, -1]), tf.float32)
                return tf.matmul(query, rows, transpose_b=True)

            size = min(_BLOCK, self.count)
            parts = tf.map_fn(
                block, tf.range(blocks), fn_output_signature=tf.float32, parallel_iterations=2
            )  # [blocks, B, size]
            score = tf.reshape(tf.transpose(parts, [1, 0, 2]), [-1, blocks * size])
            whole = (blocks - 1) * size
            score = tf.concat([score[:, :whole], score[:, whole + blocks * size - self.count :]], 1)
            score *= self._scale
        value, position = tf.math.top_k(tf.where(allowed, score, _NONE), k)
        return tf.where(value > _NONE / 2, position, self.count)

    def _partitioned(self, query: tf.Tensor, k: int, allowed: tf.Tensor) -> tf.Tensor:
        """int32 [B, k], positions from the lists near each query."""
        nearness = tf.matmul(query, self._centroids, transpose_b=True)
        limit = tf.shape(allowed)[0] - 1

        def one(row: tf.Tensor) -> tf.Tensor:
            mine = tf.gather(allowed, tf.minimum(row, limit))
            slot = self._slots(nearness[row], k, mine)
            score = tf.linalg.matvec(tf.cast(tf.gather(self._table, slot), tf.float32), query[row])
            if self._scale is not None:
                score *= tf.gather(self._scale, slot)
            # empty places, for when fewer than k are allowed
            score = tf.concat([score, tf.fill([k], _NONE)], 0)
            slot = tf.concat([slot, tf.fill([k], self.count)], 0)
            return tf.gather(self._position, tf.gather(slot, tf.math.top_k(score, k, sorted=False).indices))

        # a row at a time: each reads other lists, and a batch's would fill the memory
        rows = tf.range(tf.shape(query)[0])
        return tf.map_fn(one, rows, fn_output_signature=tf.int32, parallel_iterations=4)

    def _slots(self, nearness: tf.Tensor, k: int, allowed: tf.Tensor) -> tf.Tensor:
        """Places in the lists, int32 [T], of the allowed vectors that one query is compared with.

        A filter that leaves less than three quarters of what the query would read makes it read on,
        list by list of descending nearness, until it has as many as without a filter, and k. Where
        that would be most of the lists, all that is allowed is compared: little, and exact. So a
        filtered list is as full and as good as one without a filter.
        """
        lists = len(self._plan.centroids)

        def read(probes: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            near = tf.math.top_k(nearness, probes).indices
            slot = tf.ragged.range(tf.gather(self._start, near), tf.gather(self._end, near)).flat_values
            free = tf.gather(allowed, tf.gather(self._position, slot))
            return tf.boolean_mask(slot, free), tf.size(slot)

        slot, everything = read(self._plan.probes)
        aim = tf.maximum(k, everything)
        enough = tf.maximum(k, 3 * everything // 4)

        def more(probes: tf.Tensor, slot: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # as many as are needed if the filter is as strict everywhere, and some more
            wanted = 1.25 * tf.cast(probes, tf.float32) * tf.cast(aim, tf.float32)
            wanted /= tf.cast(tf.maximum(tf.size(slot), 1), tf.float32)
            most = wanted > lists / 2
            probes = tf.where(
                most, lists, tf.maximum(tf.cast(tf.minimum(wanted, lists), tf.int32), probes + 1)
            )
            return probes, tf.cond(
                most,
                lambda: tf.gather(self._slot, tf.where(allowed)[:, 0]),
                lambda: read(probes)[0],
            )

        return tf.while_loop(
            lambda probes, slot: (tf.size(slot) < enough) & (probes < lists),
            more,
            [tf.constant(self._plan.probes), slot],
            shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
        )[1]


def quantize(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in one byte a dimension.

    Args:
      vectors: float32 [N, D].

    Returns:
      (int8 [N, D], scale float32 [N]): vectors are about `int8 * scale[:, None]`.
    """
    scale = np.maximum(np.abs(vectors).max(1), 1e-12) / 127
    return np.rint(vectors / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def nearest(points: np.ndarray, centres: np.ndarray, block: int = 8192) -> np.ndarray:
    """int32 [N], for each point (float32 [N, D]) the centre (float32 [L, D]) of largest dot product."""
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
      lists: L, at most N.
      seed: of the sample and of the first centres.

    Returns:
      float32 [L, D], unit length.
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


def make_plan(
    kind: str, vectors: np.ndarray, candidate_row: np.ndarray, queries: np.ndarray, k: int, recall: float
) -> Plan:
    """Chooses the index and how many lists a query reads.

    Args:
      kind: one of `KINDS`, or "auto": exact below `EXACT_BELOW` candidates and where a partition does
        not pay, else ivf.
      vectors: float32 [V, D], of all rows.
      candidate_row: int32 [C], the rows that are searched.
      queries: float32 [Q, D], a sample of real ones.
      k, recall: a query reads the fewest lists with which this share of the k nearest vectors is found.

    Returns:
      The plan.
    """
    if kind == "auto" and len(candidate_row) < EXACT_BELOW:
        kind = "exact"
    if kind in ("exact", "int8"):
        return Plan.whole(kind)
    searched = vectors[candidate_row]
    # twice the square root: about as many centroids to compare with as vectors to read
    centres = centroids(searched, min(int(np.ceil(2 * np.sqrt(len(searched)))), len(searched)))
    list_of_row = nearest(vectors, centres)
    owner = list_of_row[candidate_row]
    order = np.argsort(-(queries @ centres.T), 1)
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(len(centres))[None], 1)
    _, truth = exact_neighbours(searched, queries, k)
    # the lists that must be read for each of the true neighbours
    needed = np.sort(np.take_along_axis(place, owner[truth], 1).ravel()) + 1
    probes = int(needed[min(int(np.ceil(recall * len(needed))), len(needed)) - 1])
    if kind == "auto":
        size = np.bincount(owner, minlength=len(centres))
        share = size[order[:, :probes]].sum(1).mean() / len(searched)
        if share > _MOST_READ:
            return Plan.whole("exact")
        kind = "ivf"
    return Plan(kind, centres, list_of_row, probes)


def exact_neighbours(
    vectors: np.ndarray, queries: np.ndarray, k: int, block: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """The true nearest vectors.

    Args:
      vectors: float32 [N, D].
      queries: float32 [Q, D].
      k: at most N.

    Returns:
      (dot products float32 [Q, k], indices int32 [Q, k]), best first.
    """
    all_vectors = tf.constant(vectors)
    parts = [
        tf.math.top_k(
            tf.matmul(tf.constant(queries[start : start + block]), all_vectors, transpose_b=True), k
        )
        for start in range(0, len(queries), block)
    ]
    return tuple(np.concatenate([part[which].numpy() for part in parts]) for which in (0, 1))
