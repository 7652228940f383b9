"""The nearest items by text: few dimensions find them, all dimensions compare them.

The vectors of a language model lie near a space of far fewer dimensions: the directions in which their
second moments are largest (principal components without centring, so that dot products stay what they are).
A query reads a quarter of the memory there, which is what its time goes into.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.index.base import NO_SCORE
from models.retrieval.index.kinds import build_index, make_plan
from models.retrieval.index.plan import Plan
from schema.config import Search

_PLAN_QUERIES = 512
_PLAN_K = 20
_SEED = 17
_NOMINATED = 2  # times as many are found in few dimensions as are wanted


def directions(vectors: np.ndarray, size: int) -> np.ndarray:
    """float32 [D, size], orthonormal: the directions with the largest second moments of float32 [C, D]."""
    _, found = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    return np.ascontiguousarray(found[:, ::-1][:, :size], np.float32)


class TextVectors(tf.Module):
    """The items' text vectors and the search over them.

    Args:
      vectors: float32 [C, D], unit vectors.
      settings: kind of the index, dimensions in which it searches.
      plan: how the index searches; made from `settings` if None.

    Attributes:
      table: float32 [C + 1, D] variable; zeros at position C.
      count: C.
    """

    def __init__(self, vectors: np.ndarray, settings: Search, plan: Plan | None = None) -> None:
        super().__init__(name="text_vectors")
        self.count = len(vectors)
        self.table = frozen_table(np.pad(vectors, [(0, 1), (0, 0)]), tf.float32)
        few = settings.semantic_dim
        self._directions = None
        searched, table = vectors, self.table
        if 0 < few < vectors.shape[1]:
            self._directions = frozen_table(directions(vectors, few), tf.float32)
            searched = vectors @ self._directions.numpy()
            table = frozen_table(np.pad(searched, [(0, 1), (0, 0)]), tf.float32)
        rows = np.arange(self.count, dtype=np.int32)
        self._index = build_index(table, rows, plan or _plan(searched, rows, settings))

    def vectors(self, position: tf.Tensor) -> tf.Tensor:
        """float32 [..., D], the vectors at positions (int32 [...]); zeros for C."""
        return tf.gather(self.table, position)

    def score(self, query: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """float32 [B, N], dot products of queries (float32 [B, D]) and positions (int32 [B, N])."""
        return tf.reduce_sum(self.vectors(position) * query[:, None], -1)

    def search(self, query: tf.Tensor, k: int, allowed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k allowed items with the largest dot products.

        Args:
          query: float32 [B, D].
          k: at most C.
          allowed: bool [B, C] or [1, C].

        Returns:
          (score float32 [B, k], position int32 [B, k]), best first; where fewer are allowed, position C.
        """
        if self._directions is None:
            return self._index.search(query, k, allowed)
        few = tf.matmul(query, self._directions)
        _, position = self._index.search(few, min(_NOMINATED * k, self.count), allowed)
        score = tf.where(position < self.count, self.score(query, position), NO_SCORE)
        score, slot = tf.math.top_k(score, k)
        return score, tf.gather(position, slot, batch_dims=1)


def _plan(vectors: np.ndarray, rows: np.ndarray, settings: Search) -> Plan:
    sample = np.random.default_rng(_SEED).choice(
        len(vectors), min(_PLAN_QUERIES, len(vectors)), replace=False
    )
    k = min(_PLAN_K, len(vectors))
    return make_plan(settings.index, vectors, rows, vectors[sample], k, settings.index_recall)
