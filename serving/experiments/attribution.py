"""Which list an outcome counts for: the latest one that showed the item to the user, within a window."""

from __future__ import annotations

import numpy as np


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
