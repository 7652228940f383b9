"""Promotions of items by week, from the shop's table of exposures.

20.9 M rows on Complete Journey are aggregated in columns: each Arrow batch becomes its distinct (item,
week, store) rows with one flag a channel, the flags of an item's part are combined, and stores are
counted per (item, week).
"""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common import tables
from components.common.columns import MICROS, as_ids, as_strings, one_batch, to_micros
from components.common.tables import Chunk, Role
from schema.config import Exposures, Time

WEEK = 7 * 86_400
_MONDAY = 4 * 86_400  # 1970-01-05, the first Monday
_DAY = 86_400


def exposure_roles(exposures: Exposures) -> list[Role]:
    """The columns of the exposures table: item_id, time, store (if any), channel_<name>."""
    kind = "timestamp" if exposures.time.unit == "timestamp" else "period"
    found = [
        Role("item_id", exposures.item_id, "exposures.item_id", "id"),
        Role("time", exposures.time.column, "exposures.time.column", kind),
    ]
    if exposures.store:
        found.append(Role("store", exposures.store, "exposures.store", "id"))
    for name in exposures.channels:
        key = f"exposures.channels.{name}"
        found.append(Role(f"channel_{name}", exposures.column(name), key, "category", False))
    return found


def week_starts(chunk: Chunk, exposures: Exposures) -> np.ndarray:
    """int64 [rows]: the start of each row's week in unix seconds.

    Weeks and days are counted from the configured origin; timestamps fall into weeks from
    the origin, or from Monday 00:00 UTC without one.
    """
    time = exposures.time
    if time.unit == "timestamp":
        role = next(role for role in exposure_roles(exposures) if role.name == "time")
        seconds = to_micros(chunk, role) // MICROS
        anchor = _origin(time) if time.origin else _MONDAY
    else:
        period = WEEK if time.unit == "week" else _DAY
        number = chunk.batch.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False)
        anchor = _origin(time)
        seconds = anchor + (number - time.first) * period
    return anchor + (seconds - anchor) // WEEK * WEEK


def exposed(chunk: Chunk, exposures: Exposures) -> pa.RecordBatch:
    """Distinct (item, week, store) rows of a chunk: the partial aggregate.

    Returns:
      item_id and store (int64 or strings, by :func:`as_ids`; int8 0 without a store column), week
      int64 (unix seconds), channel_<name> int8: 1 where any row of the group is an exposure in the
      channel. Groups without an exposure are left out.

    Raises:
      DataError: a missing item, time or store.
    """
    tables.check_values(chunk, exposure_roles(exposures))
    rows = chunk.batch.num_rows
    columns: dict[str, pa.Array] = {
        "item_id": as_ids(chunk.batch.column("item_id")),
        "week": pa.array(week_starts(chunk, exposures)),
        "store": as_ids(chunk.batch.column("store"))
        if exposures.store
        else pa.array(np.zeros(rows, np.int8)),
    }
    any_channel = np.zeros(rows, bool) if exposures.channels else np.ones(rows, bool)
    for name in exposures.channels:
        active = _active(chunk.batch.column(f"channel_{name}"), exposures.values(name), exposures.inactive)
        any_channel |= active
        columns[f"channel_{name}"] = pa.array(active.astype(np.int8))
    table = pa.Table.from_pydict(columns).filter(pa.array(any_channel))
    return one_batch(_distinct(table, list(exposures.channels)))


def stores_by_week(partials: pa.Table, exposures: Exposures) -> pa.Table:
    """Counts the stores that expose an item in a week, by channel.

    Args:
      partials: concatenated :func:`exposed` batches that hold all rows of their items.
      exposures: channels.

    Returns:
      item_id string, week int64 and exposure_<channel> float32, sorted by (item_id, week). A
      store counts once however often its rows are repeated.
    """
    channels = list(exposures.channels)
    rows = _distinct(partials, channels)
    sums = [(f"channel_{name}", "sum") for name in channels]
    counts = rows.group_by(["item_id", "week"]).aggregate(sums).combine_chunks()
    columns = {"item_id": as_strings(counts.column("item_id")), "week": counts.column("week")}
    for name in channels:
        columns[f"exposure_{name}"] = counts.column(f"channel_{name}_sum").cast(pa.float32())
    return pa.Table.from_pydict(columns).sort_by([("item_id", "ascending"), ("week", "ascending")])


def no_weeks(exposures: Exposures) -> pa.Table:
    """What :func:`stores_by_week` gives of no rows."""
    fields = [("item_id", pa.string()), ("week", pa.int64())]
    return pa.schema(
        fields + [(f"exposure_{name}", pa.float32()) for name in exposures.channels]
    ).empty_table()


def _distinct(table: pa.Table, channels: list[str]) -> pa.Table:
    """One row an (item, week, store), each channel's flags combined."""
    keys = ["item_id", "week", "store"]
    grouped = table.group_by(keys).aggregate([(f"channel_{name}", "max") for name in channels])
    return grouped.select(keys + [f"channel_{name}_max" for name in channels]).rename_columns(
        keys + [f"channel_{name}" for name in channels]
    )


def _active(channel: pa.Array, values: list[str] | None, inactive: list[str]) -> np.ndarray:
    """bool [rows]: the channel's value is an exposure: one of `values` or, without those, neither null
    nor one of `inactive`.
    """
    encoded = channel if pa.types.is_dictionary(channel.type) else channel.dictionary_encode()
    names = as_strings(encoded.dictionary)
    if values is None:
        active = pc.invert(pc.is_in(names, pa.array([*inactive, None], pa.string())))
    else:
        active = pc.is_in(names, pa.array(values, pa.string()))
    return pc.fill_null(active.take(encoded.indices), False).to_numpy(zero_copy_only=False)


def _origin(time: Time) -> int:
    origin = time.origin
    assert origin is not None  # checked by the configuration
    return int((origin if origin.tzinfo else origin.replace(tzinfo=dt.UTC)).timestamp())
