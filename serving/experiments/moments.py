"""Sums by user, and the moments over users that every estimate is a function of.

A user is one independent observation however many lists they were shown, so variances are of sums by
user. With s_u(t) the vector of a user's sums up to day t (its first element is 1 from the first list on),
the matrix M(t) = sum_u s_u(t) s_u(t)' holds count, sums and products. It grows by s' s'' - s s'' at each day
of a user, so all days cost one sort of the log and no [users, days] array.
"""

from __future__ import annotations

import numpy as np


def user_moments(
    cell: np.ndarray,
    unit: np.ndarray,
    day: np.ndarray,
    values: np.ndarray,
    fixed: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """Moments of users' sums by cell, cumulative over days.

    Args:
      cell: arm (or another independent group of users) of each row, int [E]; a unit has one.
      unit: user of each row, int [E].
      day: day of each row, int [E], 0 to days - 1.
      values: what is summed, float64 [E, P].
      fixed: what is known of the user before, float64 [E, X], the same in all rows of a unit.
      shape: number of cells A and days D.

    Returns:
      float64 [A, D, 1 + X + P, 1 + X + P], in the order 1, fixed, values.
    """
    cells, days = shape
    width = 1 + fixed.shape[1] + values.shape[1]
    result = np.zeros((cells, days, width, width))
    if not len(unit):
        return result
    order = np.lexsort((day, unit))
    unit, day, cell = unit[order], day[order], cell[order]
    new_unit = np.diff(unit, prepend=unit[0] - 1) != 0
    starts = np.flatnonzero(new_unit | (np.diff(day, prepend=day[0]) != 0))
    first = new_unit[starts]  # the user's first day
    running = np.cumsum(np.add.reduceat(values[order], starts, axis=0), axis=0)
    before = np.concatenate([np.zeros((1, values.shape[1])), running[:-1]])
    owner = np.cumsum(first) - 1
    sums = running - before[first][owner]
    now = np.concatenate([np.ones((len(starts), 1)), fixed[order][starts], sums], axis=1)
    old = np.where(first[:, None], 0.0, np.roll(now, 1, axis=0))
    place = cell[starts] * days + day[starts]
    for a in range(width):
        for b in range(a, width):
            growth = now[:, a] * now[:, b] - old[:, a] * old[:, b]
            grown = np.bincount(place, growth, minlength=cells * days).reshape(cells, days)
            result[:, :, a, b] = result[:, :, b, a] = np.cumsum(grown, axis=1)
    return result


def mean_and_covariance(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, mean and covariance of their sums.

    Args:
      moments: float64 [..., P, P] of :func:`user_moments`.

    Returns:
      Number of users [...], mean [..., P] and unbiased covariance [..., P, P]; NaN for fewer than two users.
    """
    count = moments[..., 0, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = moments[..., 0, :] / count[..., None]
        spread = moments / count[..., None, None] - mean[..., :, None] * mean[..., None, :]
        return count, mean, spread * (count / (count - 1))[..., None, None]
