"""Which categories and brands a query means, by what its best candidates are.

The candidates of a query stand for it, as in pseudo-relevance feedback (Lavrenko and Croft, "Relevance-based
language models", SIGIR 2001): a category's probability is the share of the candidates' weights.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table


class Intent(tf.Module):
    """A distribution over the values of one attribute.

    Args:
      codes: int32 [C + 1], 0 for none and for position C.
      names: object (str) by code.
      size: I, values that are named.
    """

    def __init__(self, codes: np.ndarray, names: np.ndarray, size: int) -> None:
        super().__init__(name="intent")
        self._codes = frozen_table(codes, tf.int32)
        self._names = frozen_table(np.asarray([*names, *[""] * size], object), tf.string)
        self._values, self._size = len(names) + size, size

    def __call__(self, position: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What candidates say.

        Args:
          position: int32 [B, N], C for an empty slot.
          weight: float32 [B, N], at least 0.

        Returns:
          (float32 [B, N], the probability of each candidate's value, 0 without one; string [B, I],
          the likeliest values; float32 [B, I], their probabilities, descending).
        """
        code = tf.gather(self._codes, position)
        weight = tf.where(code > 0, weight, 0.0)
        batch = tf.shape(position)[0]
        flat = code + (tf.range(batch) * self._values)[:, None]
        mass = tf.math.unsorted_segment_sum(
            tf.reshape(weight, [-1]), tf.reshape(flat, [-1]), batch * self._values
        )
        mass = tf.reshape(mass, [batch, self._values])
        mass = tf.math.divide_no_nan(mass, tf.reduce_sum(mass, 1, keepdims=True))
        best, which = tf.math.top_k(mass, self._size)
        names = tf.where(best > 0, tf.gather(self._names, which), "")
        return tf.gather(mass, code, batch_dims=1), names, best
