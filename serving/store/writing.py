"""What is appended: events that may come twice, and lists that were shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from serving.store import tables
from serving.store.engine import insert
from serving.store.rows import ShownList, StoredEvent


def append(connection: sa.Connection, events: Sequence[StoredEvent]) -> set[str]:
    """Inserts the events that are not there yet; gives their ids.

    They go in by ascending id, so that of two transactions with the same events one waits for the other
    and neither for both.
    """
    rows = {event.event_id: event for event in reversed(events)}  # of equal ids the first counts
    if not rows:
        return set()
    statement = (
        insert(connection, tables.events)
        .on_conflict_do_nothing(index_elements=["event_id"])
        .returning(tables.events.c.event_id)
    )
    return set(connection.scalars(statement, [_columns(rows[key]) for key in sorted(rows)]))


def log_lists(connection: sa.Connection, shown: Sequence[ShownList]) -> None:
    """Inserts shown lists and their places; one that is there already stays as it is."""
    rows = {each.list_id: each for each in reversed(shown)}
    ordered = [rows[key] for key in sorted(rows)]
    if not ordered:
        return
    names = [column.name for column in tables.lists.columns]
    connection.execute(
        insert(connection, tables.lists).on_conflict_do_nothing(index_elements=["list_id"]),
        [{name: getattr(each, name) for name in names} for each in ordered],
    )
    places = [{"list_id": each.list_id, **item._asdict()} for each in ordered for item in each.items]
    if places:
        connection.execute(
            insert(connection, tables.places).on_conflict_do_nothing(index_elements=["list_id", "position"]),
            places,
        )


def _columns(event: StoredEvent) -> dict[str, Any]:
    row = {name: getattr(event, name) for name in event.__slots__}
    row["context"] = json.dumps(dict(event.context), sort_keys=True, ensure_ascii=False)
    return row
