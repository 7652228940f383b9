"""Large constant tables inside a graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def frozen_table(
    values: np.ndarray, dtype: tf.DType | None = None, name: str = "table", resizable: bool = False
) -> tf.Variable:
    """A variable that no training changes, for a constant of many values.

    It is saved once with the checkpoint, where a constant would be copied into the graph of every
    signature that reads it.

    Args:
      values: the content.
      dtype: its type; that of `values` by default.
      name: of the variable.
      resizable: other content, assigned later, may have more or fewer rows.

    Returns:
      A variable of the shape of `values`, or [None, ...] where it is resizable.
    """
    shape = tf.TensorShape([None, *np.shape(values)[1:]]) if resizable else None
    return tf.Variable(values, trainable=False, dtype=dtype, name=name, shape=shape)
