"""A person's data: given out, removed, and that either was done."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa

from serving.store import tables
from serving.store.rows import Erased


def subject(user_id: str) -> str:
    """What the audit calls a user: SHA-256 of the id, as 64 hexadecimal digits."""
    return hashlib.sha256(user_id.encode()).hexdigest()


def export(connection: sa.Connection, user_id: str) -> dict[str, Any]:
    """Everything that is kept of a user: {"user_id", "events": [...], "lists": [{..., "items": [...]}],
    "erased": whether they were erased before}.
    """
    events = [
        dict(row) | {"context": json.loads(row["context"])}
        for row in connection.execute(
            sa.select(tables.events)
            .where(tables.events.c.user_id == user_id)
            .order_by(tables.events.c.occurred_at, tables.events.c.event_id)
        ).mappings()
    ]
    lists = {
        row["list_id"]: dict(row) | {"items": []}
        for row in connection.execute(
            sa.select(tables.lists)
            .where(tables.lists.c.user_id == user_id)
            .order_by(tables.lists.c.shown_at, tables.lists.c.list_id)
        ).mappings()
    }
    places = connection.execute(
        sa.select(tables.places)
        .join(tables.lists, tables.lists.c.list_id == tables.places.c.list_id)
        .where(tables.lists.c.user_id == user_id)
        .order_by(tables.places.c.list_id, tables.places.c.position)
    ).mappings()
    for row in places:
        if row["list_id"] in lists:  # not one that was logged between the two queries
            lists[row["list_id"]]["items"].append({k: v for k, v in row.items() if k != "list_id"})
    found = {"user_id": user_id, "events": events, "lists": list(lists.values())}
    return found | {"erased": was_erased(connection, user_id)}


def erase(connection: sa.Connection, user_id: str) -> Erased:
    """Removes all that is kept of a user; places go with their lists."""
    found = [
        connection.execute(sa.delete(table).where(table.c.user_id == user_id)).rowcount
        for table in (tables.events, tables.lists)
    ]
    return Erased(*found)


def was_erased(connection: sa.Connection, user_id: str) -> bool:
    """Whether the audit has it that a user was erased."""
    found = sa.exists().where(tables.audit.c.subject == subject(user_id), tables.audit.c.action == "erase")
    return bool(connection.scalar(sa.select(found)))


def note(
    connection: sa.Connection, action: str, user_id: str, caller: str, at: float, counts: Erased
) -> None:
    """Writes a row of the audit."""
    connection.execute(
        sa.insert(tables.audit).values(
            at=at, action=action, subject=subject(user_id), caller=caller, **counts._asdict()
        )
    )


def audit(connection: sa.Connection, user_id: str) -> list[dict[str, Any]]:
    """The rows of the audit that are about a user, oldest first."""
    rows = connection.execute(
        sa.select(tables.audit)
        .where(tables.audit.c.subject == subject(user_id))
        .order_by(tables.audit.c.number)
    )
    return [dict(row) for row in rows.mappings()]
