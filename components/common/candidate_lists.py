"""CandidateSampler's lists: written as columns, read back as the inputs of a request."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import tensorflow as tf

from models.data import example_io
from schema import names as F

AS_OF = "as_of"  # column: unix seconds, the moment whose snapshot the list was found with


def padded(table: pa.Table, column: str, default: object) -> np.ndarray:
    """A list column as a matrix [rows, longest], padded at the end."""
    size = example_io.lengths(table, column)
    values = example_io.flat(table, column)
    kind = object if isinstance(default, str) else values.dtype
    out = np.full((table.num_rows, max(int(size.max(initial=0)), 1)), default, kind)
    if len(values):
        out[np.arange(out.shape[1]) < size[:, None]] = values
    return out


def request_inputs(table: pa.Table, contexts: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What `models.data.requests.request_spec` names, of every row.

    Args:
      table: lists, read by `example_io.read_table`.
      contexts: context names.
    """
    inputs = {name: example_io.first(table, name, "") for name in (F.USER_ID, *map(F.context, contexts))}
    inputs |= {name: padded(table, name, "") for name in (F.HISTORY_ITEM_ID, F.HISTORY_EVENT_TYPE)}
    inputs[F.HISTORY_AGE_DAYS] = padded(table, F.HISTORY_AGE_DAYS, 0.0).astype(np.float32)
    inputs[F.CONTEXT_TIMESTAMP] = example_io.first(table, F.CONTEXT_TIMESTAMP, 0).astype(np.int64)
    return inputs


def tensor(values: np.ndarray) -> tf.Tensor:
    """A numpy array as a tensor; object arrays of str become strings."""
    return tf.constant(
        values.tolist() if values.dtype == object else values, tf.string if values.dtype == object else None
    )


def strings(values: tf.Tensor) -> np.ndarray:
    """A string tensor as an object array of str of its shape; what it holds is UTF-8."""
    given = np.asarray(values.numpy(), object)
    return example_io.to_numpy(pa.array(given.ravel().tolist(), pa.large_binary())).reshape(given.shape)


def record_batch(batch: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    """A batch as list columns; padding ("" or 0 beyond it) of the string lists is cut off.

    Candidate lists keep their padding, so that the lists of ids, labels and weights stay
    aligned.
    """
    keep_padding = {F.CANDIDATE_ITEM_ID, F.CANDIDATE_WEIGHT, *F.LABELS}
    keep_padding |= {name for name in batch if name.startswith(F.SLICE_PREFIX)}
    columns = {}
    history = (batch[F.HISTORY_ITEM_ID] != "").sum(1)
    for name, values in batch.items():
        if values.ndim == 1:
            values = values[:, None]
            size = np.ones(len(values), np.int64)
        elif name in keep_padding:
            size = np.full(len(values), values.shape[1])
        elif name == F.EXCLUDE_ITEM_ID:
            size = (values != "").sum(1)
        else:
            size = history
        flat = values[np.arange(values.shape[1]) < size[:, None]]
        offsets = np.concatenate([[0], np.cumsum(size)])
        if flat.dtype == object:
            data = pa.array(flat.tolist(), pa.large_string()).cast(pa.large_binary())
        elif np.issubdtype(flat.dtype, np.floating):
            data = pa.array(flat.astype(np.float32))
        else:
            data = pa.array(flat.astype(np.int64))
        columns[name] = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), data)
    return pa.RecordBatch.from_pydict(columns)
