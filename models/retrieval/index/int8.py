"""Search of all vectors in one byte a dimension, a block at a time: the least memory."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.index.base import VectorIndex, best_allowed
from models.retrieval.index.plan import Plan

_BLOCK = 65_536  # vectors that are widened to float32 at a time


def quantize(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in one byte a dimension.

    Args:
      vectors: float32 [N, D].

    Returns:
      (int8 [N, D], scale float32 [N]): vectors are about `int8 * scale[:, None]`.
    """
    scale = np.maximum(np.abs(vectors).max(1), 1e-12) / 127
    return np.rint(vectors / scale[:, None]).astype(np.int8), scale.astype(np.float32)


class Int8Index(VectorIndex):
    """Compares a query with every rounded vector; arguments as :class:`VectorIndex`."""

    rounded = True

    def __init__(self, vectors: tf.Variable, candidate_row: np.ndarray, plan: Plan) -> None:
        super().__init__(vectors, candidate_row, plan)
        rounded, scale = quantize(vectors.numpy()[candidate_row])
        self._table, self._scale = frozen_table(rounded), frozen_table(scale, tf.float32)

    def nominate(self, query: tf.Tensor, k: int, allowed: tf.Tensor) -> tf.Tensor:
        """The nearest of the rounded vectors; see the base class."""
        blocks = -(-self.count // _BLOCK)
        size = min(_BLOCK, self.count)

        def block(number: tf.Tensor) -> tf.Tensor:
            # the last block starts earlier and repeats some vectors, so that all blocks have one shape
            start = tf.minimum(number * size, self.count - size)
            part = tf.cast(tf.slice(self._table, [start, 0], [size, -1]), tf.float32)
            return tf.matmul(query, part, transpose_b=True)

        parts = tf.map_fn(
            block, tf.range(blocks), fn_output_signature=tf.float32, parallel_iterations=2
        )  # [blocks, B, size]
        score = tf.reshape(tf.transpose(parts, [1, 0, 2]), [-1, blocks * size])
        whole = (blocks - 1) * size
        score = tf.concat([score[:, :whole], score[:, whole + blocks * size - self.count :]], 1)
        return best_allowed(score * self._scale, allowed, k)
