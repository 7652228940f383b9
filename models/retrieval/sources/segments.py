"""Sums, extremes and look-ups within each request of a batch.

Shapes: B requests, L values of each, S segments, N positions asked about, M positions known.
"""

from __future__ import annotations

import tensorflow as tf


def segment_sum(values: tf.Tensor, index: tf.Tensor, size: int | tf.Tensor) -> tf.Tensor:
    """Sums values by index within each request.

    Args:
      values: float32 [B, L, F].
      index: int32 [B, L], in [0, size).
      size: S.

    Returns:
      float32 [B, S, F].
    """
    batch = tf.shape(index)[0]
    flat = index + (tf.range(batch) * size)[:, None]
    total = tf.math.unsorted_segment_sum(
        tf.reshape(values, [-1, values.shape[-1]]), tf.reshape(flat, [-1]), batch * size
    )
    return tf.reshape(total, [batch, size, values.shape[-1]])


def segment_extreme(values: tf.Tensor, index: tf.Tensor, size: int | tf.Tensor, largest: bool) -> tf.Tensor:
    """Largest or smallest value by index within each request; see :func:`segment_sum`.

    Args:
      values: any number type [B, L].
      index: int32 [B, L], in [0, size).
      size: S.
      largest: maximum instead of minimum.

    Returns:
      The type of `values` [B, S]; its lowest (highest) value where a segment is empty.
    """
    batch = tf.shape(index)[0]
    flat = tf.reshape(index + (tf.range(batch) * size)[:, None], [-1])
    reduce = tf.math.unsorted_segment_max if largest else tf.math.unsorted_segment_min
    return tf.reshape(reduce(tf.reshape(values, [-1]), flat, batch * size), [batch, size])


def slots_of(position: tf.Tensor, ascending: tf.Tensor) -> tf.Tensor:
    """Where positions stand in ascending lists.

    Args:
      position: int32 [B, N].
      ascending: int32 [B, M], sorted; at least one slot.

    Returns:
      int32 [B, N]: the first slot of each position, or some slot of the list that lacks it.
    """
    # not `tf.searchsorted`, which cannot reshape lists of no positions
    slot = tf.raw_ops.LowerBound(sorted_inputs=ascending, values=position)
    return tf.minimum(slot, tf.shape(ascending)[1] - 1)


def distinct(ascending: tf.Tensor, nothing: int) -> tf.Tensor:
    """int32 [B, M]: ascending positions (int32 [B, M]), with `nothing` where one is repeated."""
    repeated = tf.concat([tf.zeros_like(ascending[:, :1], tf.bool), ascending[:, 1:] == ascending[:, :-1]], 1)
    return tf.where(repeated, nothing, ascending)
