"""What was shown and what came of it, as columns for a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import sqlalchemy as sa

from schema import names as F
from serving.store import tables
from serving.store.rows import WANTED_TYPES

_PRE_DAYS = 28.0  # before a user's first list of the experiment
_e, _l, _p = tables.events.c, tables.lists.c, tables.places.c


def of_lists(connection: sa.Connection, experiment: str, since: float, until: float) -> dict[str, np.ndarray]:
    """One row for each list that was shown in [since, until), by time.

    An event belongs to the list that it names. Fallback lists are left out, as no arm made them, and so
    are users of whom an event looks like a robot's.

    Args:
      connection: to the database.
      experiment: its name.
      since, until: unix seconds.

    Returns:
      Columns of one length N: `unit` object (str), the user; `arm`, `list_id`, `surface` object (str);
      `time` float64, unix seconds; `shown` int64, items of the list; `clicked`, `converted` int64, clicks
      and purchases of its items; `revenue` float64, money of those purchases; `propensity` float64, of the
      whole list (the product over its places); `covariate` float64, money that the user spent in the 28
      days before their first list of the period; `pre_wanted` int64, clicks, cart lines and purchases in
      these.
    """
    chosen = _chosen(experiment, since, until)
    caused = _caused(chosen, _e.list_id)
    first = (
        sa.select(chosen.c.user_id, sa.func.min(chosen.c.shown_at).label("start"))
        .group_by(chosen.c.user_id)
        .subquery()
    )
    before = (
        sa.select(
            first.c.user_id,
            sa.func.sum(sa.case((_e.event_type == "purchase", sa.func.coalesce(_e.value, 0.0)))).label(
                "money"
            ),
            sa.func.count().label("wanted"),
        )
        .join(tables.events, _e.user_id == first.c.user_id)
        .where(
            _e.occurred_at >= first.c.start - _PRE_DAYS * F.SECONDS_PER_DAY,
            _e.occurred_at < first.c.start,
            _e.event_type.in_(WANTED_TYPES),
        )
        .group_by(first.c.user_id)
        .subquery()
    )
    query = (
        sa.select(
            *(chosen.c.user_id, chosen.c.arm, chosen.c.list_id, chosen.c.surface, chosen.c.shown_at),
            *(caused.c.clicked, caused.c.converted, caused.c.revenue, before.c.money, before.c.wanted),
        )
        .outerjoin(caused, caused.c.list_id == chosen.c.list_id)
        .outerjoin(before, before.c.user_id == chosen.c.user_id)
        .order_by(chosen.c.shown_at, chosen.c.list_id)
    )
    names = ("unit", "arm", "list_id", "surface", "time", "clicked", "converted", "revenue")
    columns = _columns(connection.execute(query), [*names, "covariate", "pre_wanted"])
    places = sa.select(_p.list_id, _p.propensity).join(chosen, chosen.c.list_id == _p.list_id)
    of_places = _columns(connection.execute(places), ["list_id", "propensity"])
    # Both in order of the ids, so that a list's places are found by bisection.
    order = np.argsort(of_places["list_id"], kind="stable")
    ids, propensity = of_places["list_id"][order], of_places["propensity"][order]
    start, end = (np.searchsorted(ids, columns["list_id"], side) for side in ("left", "right"))
    total = np.concatenate([[0.0], np.cumsum(np.log(np.maximum(propensity, np.finfo(float).tiny)))])
    columns["shown"] = (end - start).astype(np.int64)
    columns["propensity"] = np.exp(total[end] - total[start])
    return columns


def of_places(
    connection: sa.Connection, experiment: str, since: float, until: float
) -> dict[str, np.ndarray]:
    """One row for each place of the lists of `of_lists`, by time and position.

    Returns:
      Columns of one length: `unit`, `arm`, `list_id`, `item_id`, `source` object (str); `time` float64;
      `position` int64, from 0; `propensity` float64; `clicked`, `converted` int64 and `revenue` float64 of
      the item.
    """
    chosen = _chosen(experiment, since, until)
    caused = _caused(chosen, _e.list_id, _e.item_id)
    query = (
        sa.select(
            *(chosen.c.user_id, chosen.c.arm, chosen.c.list_id, _p.item_id, _p.source, chosen.c.shown_at),
            *(_p.position, _p.propensity, caused.c.clicked, caused.c.converted, caused.c.revenue),
        )
        .join(tables.places, _p.list_id == chosen.c.list_id)
        .outerjoin(caused, sa.and_(caused.c.list_id == _p.list_id, caused.c.item_id == _p.item_id))
        .order_by(chosen.c.shown_at, chosen.c.list_id, _p.position)
    )
    names = ("unit", "arm", "list_id", "item_id", "source", "time", "position", "propensity")
    return _columns(connection.execute(query), [*names, "clicked", "converted", "revenue"])


_TEXT = ("unit", "arm", "list_id", "surface", "item_id", "source")
_WHOLE = ("clicked", "converted", "pre_wanted", "position")


def _chosen(experiment: str, since: float, until: float) -> sa.Subquery:
    robots = sa.select(_e.user_id).where(_e.suspect, _e.received_at >= since)
    return (
        sa.select(_l.list_id, _l.user_id, _l.arm, _l.surface, _l.shown_at)
        .where(_l.experiment == experiment, _l.shown_at >= since, _l.shown_at < until, ~_l.fallback)
        .where(_l.user_id.not_in(robots))
        .subquery()
    )


def _caused(chosen: sa.Subquery, *by: Any) -> sa.Subquery:
    """Clicks, purchases and money of events that name a chosen list, by some columns."""
    bought = _e.event_type == "purchase"
    return (
        sa.select(
            *by,
            sa.func.sum(sa.case((_e.event_type == "click", 1), else_=0)).label("clicked"),
            sa.func.sum(sa.case((bought, 1), else_=0)).label("converted"),
            sa.func.sum(sa.case((bought, sa.func.coalesce(_e.value, 0.0)), else_=0.0)).label("revenue"),
        )
        # of the user who saw the list: nobody else's events count, whatever list they name
        .join(chosen, sa.and_(chosen.c.list_id == _e.list_id, chosen.c.user_id == _e.user_id))
        .where(~_e.suspect)
        .group_by(*by)
        .subquery()
    )


def _columns(result: sa.Result[Any], names: list[str]) -> dict[str, np.ndarray]:
    rows = result.all()
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    found = {}
    for name, values in zip(names, columns, strict=True):
        if name in _TEXT:
            found[name] = np.asarray(values, object)
        else:
            kind = np.int64 if name in _WHOLE else np.float64
            found[name] = np.asarray([0 if value is None else value for value in values], kind)
    return found
