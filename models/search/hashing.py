"""Strings as keys: int64 fingerprints in sorted tables, which load faster than hash tables of strings."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table

_BUCKETS = 2**62  # two of a million strings meet with a probability of 1e-7
_BATCH = 1 << 20


def keys(strings: tf.Tensor) -> tf.Tensor:
    """int64 fingerprints, of the shape of `strings`."""
    return tf.strings.to_hash_bucket_fast(strings, _BUCKETS)


def key_array(strings: np.ndarray) -> np.ndarray:
    """int64 [N], the fingerprints of object (str or bytes) [N], a million at a time."""
    parts = [
        keys(tf.constant(strings[start : start + _BATCH], tf.string)).numpy()
        for start in range(0, len(strings), _BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


class SortedKeys(tf.Module):
    """Finds keys in an ascending table.

    Args:
      table: int64 [K], ascending; repeated keys are one run.

    Attributes:
      size: K.
    """

    def __init__(self, table: np.ndarray, name: str = "keys") -> None:
        super().__init__(name=name)
        self.size = len(table)
        # the last entry is larger than any key, so that a table of none can be read
        self._table = frozen_table(np.append(table, np.iinfo(np.int64).max), tf.int64)

    def find(self, wanted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(int32, the first entry of each key, K at most; bool, whether it is there), shaped like
        `wanted` (int64).
        """
        entry = tf.raw_ops.LowerBound(sorted_inputs=self._row(), values=tf.reshape(wanted, [1, -1]))
        entry = tf.reshape(entry, tf.shape(wanted))
        return entry, tf.gather(self._table, entry) == wanted

    def run(self, wanted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(int32 start, int32 end) of the run of each key, equal where it is missing."""
        flat = tf.reshape(wanted, [1, -1])
        start = tf.raw_ops.LowerBound(sorted_inputs=self._row(), values=flat)
        end = tf.raw_ops.UpperBound(sorted_inputs=self._row(), values=flat)
        return tf.reshape(start, tf.shape(wanted)), tf.reshape(end, tf.shape(wanted))

    def _row(self) -> tf.Tensor:
        return tf.reshape(self._table, [1, -1])
