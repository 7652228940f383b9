"""What every index of item vectors can do, whatever its kind."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.index.plan import Plan

NO_SCORE = -1e9  # of what is not allowed: far below any dot product


def best_allowed(score: tf.Tensor, allowed: tf.Tensor, k: int) -> tf.Tensor:
    """The allowed candidates with the largest scores.

    Args:
      score: float32 [B, C].
      allowed: bool [B, C] or [1, C].
      k: at most C.

    Returns:
      int32 [B, k] positions, best first; C where fewer are allowed.
    """
    value, position = tf.math.top_k(tf.where(allowed, score, NO_SCORE), k)
    return tf.where(value > NO_SCORE / 2, position, score.shape[1])


class VectorIndex(tf.Module):
    """The candidates' vectors and the search over them; a subclass is one kind of search.

    Args:
      vectors: float32 [V, D] variable, the vectors of all rows of the item table.
      candidate_row: int32 [C], the item rows that are searched; a *position* is an index into it.
      plan: how they are searched.

    Attributes:
      count: C.
    """

    # Whether the search compares rounded vectors. They blur the order at the border of the k best,
    # so that half as many again are nominated before the exact scores decide.
    rounded = False

    def __init__(self, vectors: tf.Variable, candidate_row: np.ndarray, plan: Plan) -> None:
        super().__init__(name="vector_index")
        self.count = len(candidate_row)
        self._vectors = vectors
        self._row = frozen_table(np.append(candidate_row, 0), tf.int32)

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
        """How an index of this kind would search; arguments as :func:`..kinds.make_plan`."""
        return Plan.whole(kind)

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
          float32 [B, N]; a candidate's score is the same in any slot of any batch.
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
        position = self.nominate(query, min(k + k // 2, self.count) if self.rounded else k, allowed)
        score = tf.where(position < self.count, self.score(query, position), NO_SCORE)
        score, slot = tf.math.top_k(score, k)
        return score, tf.gather(position, slot, batch_dims=1)

    def nominate(self, query: tf.Tensor, k: int, allowed: tf.Tensor) -> tf.Tensor:
        """int32 [B, k]: positions of the allowed candidates that this kind of search finds nearest, in
        any order; C where fewer are allowed. Arguments as :meth:`search`.
        """
        raise NotImplementedError
