"""Which list an outcome counts for, and the lists with what came of them.

An event that names the list it came from counts for that list. One that does not, such as a purchase
at the till, counts for the latest list that showed the item to the user within a window (last touch).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serving.experiments.columns import Exposures

Columns = Mapping[str, np.ndarray]


def exposures(lists: Columns, places: Columns, outcomes: Columns, window: float) -> Exposures:
    """The lists of an experiment with what came of them, from the columns of `serving.store`.

    Args:
      lists: `list_id`, `unit`, `arm`, `time`, `fallback`, `latency_ms` and `covariate` of each list, [N].
        Latencies are used if all were measured.
      places: `list_id`, `unit`, `item_id` and `time` of each place of these lists, [E].
      outcomes: `unit`, `item_id`, `event_type` (click or purchase), `time`, `value` and `list_id` of each
        event, [O].
      window: seconds after a list within which an outcome counts for it.

    Returns:
      The exposures. A card that is clicked twice is one click; all purchases of an item add to its revenue,
      and are one conversion of its place.
    """
    count = len(lists["list_id"])
    row = place_rows(places, outcomes, window)
    order = np.argsort(lists["list_id"])
    list_of = np.zeros(len(places["list_id"]), np.int64)
    if count:
        found = np.searchsorted(lists["list_id"][order], places["list_id"])
        list_of = order[np.minimum(found, count - 1)]
    values = {
        "shown": np.bincount(list_of, minlength=count).astype(np.float64),
        "fallback": np.asarray(lists["fallback"], np.float64),
    }
    if np.isfinite(lists["latency_ms"]).all():
        values["latency_ms"] = lists["latency_ms"]
    for kind, name in (("click", "clicked"), ("purchase", "converted")):
        of_kind = outcomes["event_type"] == kind
        happened, money = outcome_sums(row[of_kind], outcomes["value"][of_kind], len(list_of))
        values[name] = np.bincount(list_of, happened, minlength=count)
        if kind == "purchase":
            values["revenue"] = np.bincount(list_of, money, minlength=count)
    return Exposures(lists["unit"], lists["arm"], lists["time"], values, lists["covariate"])


def place_rows(places: Columns, outcomes: Columns, window: float) -> np.ndarray:
    """The place that each outcome counts for, int64 [O], -1 for none.

    Args:
      places: `list_id`, `unit`, `item_id` and `time`, [E].
      outcomes: `list_id`, `unit`, `item_id` and `time`, [O].
      window: seconds after a list within which an outcome counts for it.
    """
    size = len(places["unit"])
    touched = attribute(
        (places["unit"], places["item_id"], places["time"]),
        (outcomes["unit"], outcomes["item_id"], outcomes["time"]),
        window,
    )
    # A named list holds whatever the clocks say of the order, within the window. The list is part of the
    # item's name here, so that the same search finds its place, from the beginning of time on.
    ids = np.unique(np.concatenate([places["list_id"], outcomes["list_id"]]), return_inverse=True)[1]
    units = np.unique(np.concatenate([places["unit"], outcomes["unit"]]), return_inverse=True)[1]
    pair = ids * (int(units.max(initial=0)) + 1) + units
    named = attribute(
        (pair[:size], places["item_id"], np.zeros(size)),
        (pair[size:], outcomes["item_id"], np.zeros(len(pair) - size)),
        window,
    )
    far = np.abs(outcomes["time"] - places["time"][named]) > window if size else np.ones(len(named), bool)
    named[far | (outcomes["list_id"] == "")] = -1
    return np.where(named >= 0, named, touched)


def attribute(
    shown: tuple[np.ndarray, np.ndarray, np.ndarray],
    outcomes: tuple[np.ndarray, np.ndarray, np.ndarray],
    window: float,
) -> np.ndarray:
    """The row that showed each outcome's item last (last-touch attribution).

    Args:
      shown: unit, item and time of each item shown, [E] each (ids as text or numbers, unix seconds).
      outcomes: the same of each click or purchase, [O] each.
      window: seconds after a list within which an outcome counts for it, > 0. A row at the very time
        of the outcome counts.

    Returns:
      int64 [O], index into the rows of `shown`; -1 where no list within the window had the item.
    """
    count = len(shown[0])
    unit, item = (
        np.unique(np.concatenate([np.asarray(shown[key]), np.asarray(outcomes[key])]), return_inverse=True)[1]
        for key in (0, 1)
    )
    time = np.concatenate([np.asarray(shown[2], np.float64), np.asarray(outcomes[2], np.float64)])
    outcome = np.arange(len(time)) >= count
    order = np.lexsort((outcome, time, item, unit))
    last = np.maximum.accumulate(np.where(outcome[order], -1, np.arange(len(order))))
    row = order[np.maximum(last, 0)]
    same = (last >= 0) & (unit[row] == unit[order]) & (item[row] == item[order])
    same &= time[order] - time[row] <= window
    found = np.empty(len(order), np.int64)
    found[order] = np.where(same, row, -1)
    return found[count:]


def outcome_sums(rows: np.ndarray, value: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of each shown row.

    Args:
      rows: what :func:`attribute` gave, int64 [O].
      value: value of each outcome, float [O], such as its revenue.
      count: number of shown rows E.

    Returns:
      Whether the row had an outcome, float64 [E] (a second click on the same card adds nothing), and the
      sum of their values, float64 [E].
    """
    found = rows >= 0
    values = np.asarray(value, np.float64)[found]
    return (
        np.minimum(np.bincount(rows[found], minlength=count), 1).astype(np.float64),
        np.bincount(rows[found], values, minlength=count),
    )
