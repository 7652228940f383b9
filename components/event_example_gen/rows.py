"""Rows of the events table, typed as the sessions need them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.columns import as_strings
from components.common.tables import Chunk
from components.event_example_gen.roles import counted, event_times, roles, users
from components.event_example_gen.settings import Settings
from components.event_example_gen.survey import Plan
from schema.config import EventKinds, Events
from schema.errors import DataError


def normalise(chunk: Chunk, chosen: Plan, settings: Settings) -> pa.RecordBatch | None:
    """The rows that count, typed as the sessions need them.

    Args:
      chunk: rows as read.
      chosen: window limits and users.
      settings: columns and weights.

    Returns:
      user_id, item_id, event_type, context_* string; session_id, query string if configured;
      time int64 (microseconds), weight, quantity, value float32, row int64 (file order).
      None when no row counts.

    Raises:
      DataError: an event type without a weight, a number that is not finite.
    """
    events = settings.events
    times = event_times(chunk, events)
    keep = counted(chunk, events, EventKinds.of(settings)) & (times <= chosen.data_end)
    user_ids = users(chunk, events)
    if chosen.users is not None:
        coded = user_ids.dictionary_encode()
        wanted = pc.is_in(as_strings(coded.dictionary), pa.array(chosen.users, pa.string()))
        keep &= pc.fill_null(wanted.take(coded.indices), False).to_numpy(zero_copy_only=False)
    if not keep.any():
        return None
    index = pa.array(np.flatnonzero(keep))
    rows = chunk.batch.take(index)
    columns: dict[str, pa.Array] = {
        "user_id": as_strings(user_ids.take(index)),
        "item_id": as_strings(rows.column("item_id")),
        "time": pa.array(times[keep]),
        "row": pa.array(chunk.row_keys()[keep]),
    }
    if events.columns.session_id:
        columns["session_id"] = as_strings(rows.column("session_id"))
    columns["event_type"], columns["weight"] = _types_and_weights(chunk, rows, index, events)
    # A row without a quantity is one unit, such as a view; a row without a value stays unknown.
    quantity = _floats(chunk, rows, index, "quantity", 1.0, settings)
    columns["quantity"] = pc.if_else(pc.is_nan(quantity), pa.scalar(1.0, pa.float32()), quantity)
    columns["value"] = _floats(chunk, rows, index, "value", 0.0, settings)
    kinds = EventKinds.of(settings)
    if kinds.others:  # nothing is paid for a view
        bought = pc.is_in(columns["event_type"], pa.array(kinds.purchases))
        free = pc.and_(pc.invert(bought), pc.is_nan(columns["value"]))
        columns["value"] = pc.if_else(free, pa.scalar(0.0, pa.float32()), columns["value"])
    if events.columns.query:
        columns["query"] = pc.fill_null(as_strings(rows.column("query")), "")
    for name in events.context:
        columns[f"context_{name}"] = pc.fill_null(as_strings(rows.column(f"context_{name}")), "")
    return pa.RecordBatch.from_pydict(columns)


def _types_and_weights(
    chunk: Chunk, rows: pa.RecordBatch, index: pa.Array, events: Events
) -> tuple[pa.Array, pa.Array]:
    if not events.columns.event_type:
        types = (
            pa.array([events.default_event_type])
            .dictionary_encode()
            .take(pa.array(np.zeros(len(index), np.int32)))
        )
    else:
        types = as_strings(rows.column("event_type")).dictionary_encode()
    names = types.dictionary.to_pylist()
    codes = types.indices.to_numpy()
    for code, name in enumerate(names):
        if name not in events.event_weights:
            known = ", ".join(sorted(events.event_weights))
            if not events.columns.event_type:
                raise DataError(
                    f"events.default_event_type '{name}' has no weight in events.event_weights ({known}); "
                    "add it"
                )
            row = chunk.where(index[int((codes == code).argmax())].as_py())
            raise DataError(
                f"{chunk.path}: event type '{name}' in {row}, column '{events.columns.event_type}' "
                f"(events.columns.event_type), has no weight in events.event_weights ({known}); give "
                "it one there, or leave such events out of the file"
            )
    weights = np.array([events.event_weights[name] for name in names], np.float32)
    return types.cast(pa.string()), pa.array(weights[codes])


def _floats(
    chunk: Chunk, rows: pa.RecordBatch, index: pa.Array, name: str, default: float, settings: Settings
) -> pa.Array:
    """A role's numbers as float32 [rows], NaN where there is none; `default` without such a column."""
    if name not in rows.schema.names:
        return pa.array(np.full(rows.num_rows, default, np.float32))
    numbers = pc.fill_null(rows.column(name).cast(pa.float64()), float("nan")).to_numpy()
    with np.errstate(over="ignore"):
        found = numbers.astype(np.float32)
    infinite = np.isinf(found)
    if infinite.any():
        first = int(infinite.argmax())
        role = next(role for role in roles(settings.events) if role.name == name)
        row = chunk.where(index[first].as_py())
        raise DataError(
            f"{chunk.path}: column '{role.column}' ({role.key}) is {numbers[first]:g} in "
            f"{row}, {infinite.sum():,} times in rows {chunk.first_row + 1:,} to "
            f"{chunk.first_row + chunk.batch.num_rows:,}; give numbers below 3.4e38, or none"
        )
    return pa.array(found)
