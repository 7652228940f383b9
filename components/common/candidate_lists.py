"""CandidateSampler's lists, read back as the inputs of a request."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models.data import example_io
from schema import names as F


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
