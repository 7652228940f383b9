"""Large constant tables inside a graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def table(values: np.ndarray, dtype: tf.DType | None = None, name: str = "table") -> tf.Variable:
    """A frozen variable: saved once with the checkpoint, where a constant would be copied into
    the graph of every signature that reads it.
    """
    return tf.Variable(values, trainable=False, dtype=dtype, name=name)
