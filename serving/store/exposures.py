"""What an experiment showed and what its users did, as columns for a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import sqlalchemy as sa

from schema import names as F
from serving.store import tables

_PRE_DAYS = 28.0  # before a user's first list of the experiment
_e, _l, _p = tables.events.c, tables.lists.c, tables.places.c
_TEXT = ("unit", "arm", "list_id", "surface", "item_id", "source", "event_type")
_WHOLE = ("fallback", "position")


def of_lists(connection: sa.Connection, experiment: str, since: float, until: float) -> dict[str, np.ndarray]:
    """One row for each list that was shown in [since, until), by time.

    Fallbacks are in it: an arm whose model is away more often must not lose the lists that show it.
    Users of whom an event looks like a robot's are left out.

    Args:
      connection: to the database.
      experiment: its name.
      since, until: unix seconds.

    Returns:
      Columns of one length N: `unit` (the user), `arm`, `list_id`, `surface` object (str); `time` float64,
      unix seconds; `fallback` int64, 0 or 1; `latency_ms` float64, NaN where nobody measured; `covariate`
      float64, money that the user spent in the 28 days before the first list of the experiment that they
      ever saw, which no arm can have changed.
    """
    chosen = _chosen(experiment, since, until)
    first = (
        sa.select(_l.user_id, sa.func.min(_l.shown_at).label("start"))
        .where(_l.experiment == experiment)
        .group_by(_l.user_id)
        .subquery()
    )
    before = (
        sa.select(first.c.user_id, sa.func.sum(sa.func.coalesce(_e.value, 0.0)).label("money"))
        .join(tables.events, _e.user_id == first.c.user_id)
        .where(
            *(_e.event_type == "purchase", _e.occurred_at < first.c.start),
            _e.occurred_at >= first.c.start - _PRE_DAYS * F.SECONDS_PER_DAY,
        )
        .group_by(first.c.user_id)
        .subquery()
    )
    query = (
        sa.select(
            *(chosen.c.user_id, chosen.c.arm, chosen.c.list_id, chosen.c.surface, chosen.c.shown_at),
            *(chosen.c.fallback, chosen.c.latency_ms, before.c.money),
        )
        .outerjoin(before, before.c.user_id == chosen.c.user_id)
        .order_by(chosen.c.shown_at, chosen.c.list_id)
    )
    names = ["unit", "arm", "list_id", "surface", "time", "fallback", "latency_ms", "covariate"]
    return _columns(connection.execute(query), names)


def of_places(
    connection: sa.Connection, experiment: str, since: float, until: float
) -> dict[str, np.ndarray]:
    """One row for each place of the lists of :func:`of_lists`, by time and position.

    Returns:
      Columns of one length: `unit`, `list_id`, `item_id`, `source` object (str); `time` float64, unix
      seconds; `position` int64, from 0; `propensity` float64.
    """
    chosen = _chosen(experiment, since, until)
    query = (
        sa.select(
            *(chosen.c.user_id, chosen.c.list_id, _p.item_id, _p.source),
            *(chosen.c.shown_at, _p.position, _p.propensity),
        )
        .join(tables.places, _p.list_id == chosen.c.list_id)
        .order_by(chosen.c.shown_at, chosen.c.list_id, _p.position)
    )
    names = ["unit", "list_id", "item_id", "source", "time", "position", "propensity"]
    return _columns(connection.execute(query), names)


def of_outcomes(
    connection: sa.Connection, experiment: str, since: float, until: float
) -> dict[str, np.ndarray]:
    """Clicks and purchases of the users of :func:`of_lists`, from `since` on however late they were.

    Returns:
      Columns of one length, by time: `unit`, `item_id`, `event_type` (click or purchase) object (str);
      `time` float64, unix seconds at which it happened; `value` float64, money, 0 where nobody says;
      `list_id` object (str), the list that the event names, "" for none.
    """
    users = sa.select(_chosen(experiment, since, until).c.user_id)
    query = (
        sa.select(_e.user_id, _e.item_id, _e.event_type, _e.occurred_at, _e.value, _e.list_id)
        .where(
            *(_e.user_id.in_(users), _e.event_type.in_(("click", "purchase"))),
            *(_e.occurred_at >= since, ~_e.suspect),
        )
        .order_by(_e.occurred_at, _e.event_id)
    )
    return _columns(connection.execute(query), ["unit", "item_id", "event_type", "time", "value", "list_id"])


def of_explored(connection: sa.Connection, since: float) -> dict[str, tuple[int, int]]:
    """What became of places that were left to chance: those with a propensity below 1.

    Args:
      connection: to the database.
      since: unix seconds.

    Returns:
      Item -> lists that had it in such a place, and those of them in which it was clicked.
    """
    clicked = (
        sa.select(_e.list_id, _e.item_id, _e.user_id)
        .where(_e.event_type == "click", _e.list_id != "", _e.occurred_at >= since, ~_e.suspect)
        .distinct()
        .subquery()
    )
    same = (clicked.c.list_id == _p.list_id, clicked.c.item_id == _p.item_id, clicked.c.user_id == _l.user_id)
    query = (
        sa.select(_p.item_id, sa.func.count(), sa.func.count(clicked.c.list_id))
        .join(tables.lists, _l.list_id == _p.list_id)
        .outerjoin(clicked, sa.and_(*same))
        .where(_p.propensity < 1, _l.shown_at >= since)
        .group_by(_p.item_id)
    )
    return {item: (shown, clicks) for item, shown, clicks in connection.execute(query)}


def _chosen(experiment: str, since: float, until: float) -> sa.Subquery:
    robots = sa.select(_e.user_id).where(_e.suspect, _e.received_at >= since)
    return (
        sa.select(_l.list_id, _l.user_id, _l.arm, _l.surface, _l.shown_at, _l.fallback, _l.latency_ms)
        .where(_l.experiment == experiment, _l.shown_at >= since, _l.shown_at < until)
        .where(_l.user_id.not_in(robots))
        .subquery()
    )


def _columns(result: sa.Result[Any], names: list[str]) -> dict[str, np.ndarray]:
    rows = result.all()
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    found = {}
    for name, values in zip(names, columns, strict=True):
        if name in _TEXT:
            found[name] = np.asarray(values, object)
        elif name == "latency_ms":
            found[name] = np.asarray([np.nan if value is None else value for value in values], np.float64)
        else:
            kind = np.int64 if name in _WHOLE else np.float64
            found[name] = np.asarray([0 if value is None else value for value in values], kind)
    return found
