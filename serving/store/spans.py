"""What the next training run reads: the events of a period as the shop's own events table."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import sqlalchemy as sa

from schema.config import Events
from schema.errors import UserError
from serving.store import tables

SETTLED_SECONDS = 60.0  # what was received may be committed this much later
_MICROS = 1_000_000
_e = tables.events.c


class Span(NamedTuple):
    """One exported period.

    Attributes:
      path: the file.
      events: its rows.
    """

    path: Path
    events: int


def export(
    connection: sa.Connection, folder: str | os.PathLike[str], since: float, until: float, events: Events
) -> Span:
    """Writes the events that were received in [since, until) as one Parquet file of the events table.

    Consecutive periods hold every event once: an event that arrives late is in the period in which it
    arrives, with the time at which it happened. Only types with a weight in `events.event_weights` are
    written, none of users of whom an event of the period looks like a robot's.

    Args:
      connection: to the database.
      folder: is made if missing; the file is events-<since>-<until>.parquet, there complete or not at all.
      since, until: unix seconds; `until` must be a minute ago, when everything received is committed.
      events: the columns' names by role; a purchase without a quantity is of 1, and events without a
        session are grouped by user and pause (`session_gap_minutes`).

    Returns:
      The file and its number of rows.

    Raises:
      UserError: the period is empty, or not over for a minute.
    """
    if not since < until:
        raise UserError(f"export_span: since {since:.0f} is not before until {until:.0f}; give a period")
    if until > time.time() - SETTLED_SECONDS:
        raise UserError(
            f"export_span: until {until:.0f} is less than {SETTLED_SECONDS:.0f} s ago, so that events of the "
            "period may still arrive; give an earlier moment"
        )
    robots = sa.select(_e.user_id).where(_e.suspect, _e.received_at >= since, _e.received_at < until)
    columns = (_e.user_id, _e.item_id, _e.event_type, _e.occurred_at, _e.session_id, _e.event_id)
    rows = connection.execute(
        sa.select(*columns, _e.query, _e.value, _e.quantity, _e.context)
        .where(
            *(_e.received_at >= since, _e.received_at < until, _e.item_id != ""),
            _e.event_type.in_(sorted(events.event_weights)),
            _e.user_id.not_in(robots),
        )
        .order_by(_e.user_id, _e.occurred_at, _e.event_id)
    ).all()
    names = ("user", "item", "type", "time", "session", "id", "query", "value", "quantity", "context")
    found = dict(zip(names, zip(*rows, strict=True) if rows else ((),) * len(names), strict=True))
    roles, text = events.columns, pa.string()
    seconds = np.asarray(found["time"], np.float64)
    table = {
        roles.user_id: pa.array(found["user"], text),
        roles.item_id: pa.array(found["item"], text),
        roles.timestamp: pa.array(np.round(seconds * _MICROS).astype(np.int64), pa.timestamp("us")),
    }
    if roles.session_id:
        table[roles.session_id] = pa.array(_sessions(found, seconds, events.session_gap_minutes * 60), text)
    if roles.event_type:
        table[roles.event_type] = pa.array(found["type"], text)
    if roles.quantity:
        units = [1.0 if units is None else units for units in found["quantity"]]
        table[roles.quantity] = pa.array(units, pa.float64())
    if roles.value:
        table[roles.value] = pa.array(found["value"], pa.float64())
    if roles.query:
        table[roles.query] = pa.array(found["query"], text)
    contexts = [json.loads(given) for given in found["context"]]
    for name, column in events.context.items():
        table[column] = pa.array([given.get(name, "") for given in contexts], text)
    path = Path(folder) / f"events-{since:.0f}-{until:.0f}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    pa.parquet.write_table(pa.table(table), part)
    part.replace(path)
    return Span(path, len(rows))


def _sessions(found: dict[str, tuple[str, ...]], seconds: np.ndarray, gap: float) -> list[str]:
    """Session ids [rows]: the client's, and one for each run of a user's events without one."""
    user = np.asarray(found["user"], object)
    nameless = np.flatnonzero(np.asarray(found["session"], object) == "")
    named = list(found["session"])
    if len(nameless):
        own, when = user[nameless], seconds[nameless]  # by user and time, as the rows are
        begins = np.ones(len(nameless), bool)
        begins[1:] = (own[1:] != own[:-1]) | (np.diff(when) > gap)
        first = nameless[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
        for row, begun in zip(nameless.tolist(), first.tolist(), strict=True):
            named[row] = f"session-{found['id'][begun]}"
    return named
