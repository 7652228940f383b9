"""What a request needs to know of one user; every query is answered by an index of the user."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from schema import names as F
from schema.events import Event
from serving.store import tables
from serving.store.rows import HISTORY_TYPES, WANTED_TYPES

# A click on a shown item opens it: to the model, that is a look at it.
_MODEL_TYPE = {"click": "view"}
_e, _l, _p = tables.events.c, tables.lists.c, tables.places.c


def recent(connection: sa.Connection, user_id: str, limit: int, now: float) -> list[Event]:
    """The newest `limit` events that count as history, oldest first; see `EventStore.recent`."""
    types = (*HISTORY_TYPES, "remove_from_cart")
    rows = connection.execute(
        sa.select(_e.item_id, _e.event_type, _e.occurred_at)
        .where(_e.user_id == user_id, _e.event_type.in_(types), ~_e.suspect)
        .order_by(_e.occurred_at.desc(), _e.event_id.desc())
        .limit(limit)
    ).all()
    found: list[Event] = []
    taken_out: set[str] = set()
    for item, kind, occurred_at in rows:  # the newest first
        if kind == "remove_from_cart":
            taken_out.add(item)
        elif kind == "cart" and item in taken_out:
            taken_out.discard(item)  # put in and taken out again: as if it had not been
        else:
            age = max(now - occurred_at, 0.0) / F.SECONDS_PER_DAY
            found.append(Event(item, age, _MODEL_TYPE.get(kind, kind)))
    return found[::-1]


def dismissed(connection: sa.Connection, user_id: str) -> list[str]:
    """Items whose last word from the user is "not interested", in order of their ids."""
    refused = _last(_e.event_type == "not_interested")
    wanted = _last(_e.event_type.in_(WANTED_TYPES))
    return list(
        connection.scalars(
            sa.select(_e.item_id)
            .where(_e.user_id == user_id, _e.event_type.in_(("not_interested", *WANTED_TYPES)))
            .group_by(_e.item_id)
            .having(refused.is_not(None), sa.or_(wanted.is_(None), wanted <= refused))
            .order_by(_e.item_id)
        )
    )


def basket(connection: sa.Connection, user_id: str) -> list[str]:
    """Items that were put into the basket and neither taken out nor bought since, oldest first."""
    put = _last(_e.event_type == "cart")
    gone = _last(_e.event_type.in_(("remove_from_cart", "purchase")))
    return list(
        connection.scalars(
            sa.select(_e.item_id)
            .where(_e.user_id == user_id, _e.event_type.in_(("cart", "remove_from_cart", "purchase")))
            .group_by(_e.item_id)
            .having(put.is_not(None), sa.or_(gone.is_(None), gone < put))
            .order_by(put, _e.item_id)
        )
    )


def unwanted(
    connection: sa.Connection, user_id: str, since: float, visit_seconds: float, places: int
) -> dict[str, int]:
    """Item -> visits since `since` in which it was seen and after which it was not wanted.

    A place below `places` of a list that nobody searched for counts as seen; showings in the same
    `visit_seconds` are one visit.
    """
    wanted = (
        sa.select(_e.item_id, sa.func.max(_e.occurred_at).label("last"))
        .where(_e.user_id == user_id, _e.occurred_at >= since, _e.event_type.in_(WANTED_TYPES))
        .group_by(_e.item_id)
        .subquery()
    )
    visit = _floor(connection, _l.shown_at / visit_seconds)
    rows = connection.execute(
        sa.select(_p.item_id, sa.func.count(sa.distinct(visit)))
        .select_from(
            tables.lists.join(tables.places, _l.list_id == _p.list_id).outerjoin(
                wanted, wanted.c.item_id == _p.item_id
            )
        )
        .where(
            *(_l.user_id == user_id, _l.shown_at >= since, _l.query == "", _p.position < places),
            sa.or_(wanted.c.last.is_(None), _l.shown_at > wanted.c.last),
        )
        .group_by(_p.item_id)
    )
    return {item: int(count) for item, count in rows}


def per_minute(connection: sa.Connection, since: float, until: float) -> list[tuple[int, int]]:
    """Minute and number of the events that came in, in order; see `EventStore.events_per_minute`."""
    minute = _floor(connection, _e.received_at / 60.0).label("minute")
    rows = connection.execute(
        sa.select(minute, sa.func.count())
        .where(_e.received_at >= since, _e.received_at < until)
        .group_by(minute)
        .order_by(minute)
    )
    return [(int(at), int(count)) for at, count in rows]


def _last(condition: Any) -> Any:
    """When an event with the condition happened last."""
    return sa.func.max(sa.case((condition, _e.occurred_at)))


def _floor(connection: sa.Connection, number: Any) -> Any:
    # SQLite's CAST truncates and its floor() is not in every build; PostgreSQL's CAST rounds.
    return sa.cast(number, sa.BigInteger) if connection.dialect.name == "sqlite" else sa.func.floor(number)
