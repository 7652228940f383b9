"""What a new policy's lists would have earned, from the log of another policy.

Item-position model (Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay and Wen, "Offline evaluation of
ranking policies with click models", KDD 2018): what an item earns at a place depends on the user, the item
and the place, and not on the other items of the list. Then a row of the log (one place of one list) has the
weight

    w = pi(item at place | user) / mu(item at place | user)

mu is the *logged propensity*: the probability with which the policy that made the log puts the item
there. It must have been known when the list was made; a propensity of 1 says that nothing was left to chance.

Estimators of the value (reward of a list), with n lists, r the reward of a row and q a model of it:

* IPS: sum(w r) / n (Horvitz and Thompson 1952);
* clipped IPS: the same with min(w, M): less variance, and a bias towards 0 for rewards >= 0 (Bottou et al.,
  JMLR 2013);
* SNIPS: IPS divided by the mean of the weights, place by place, which is 1 in expectation (Swaminathan and
  Joachims, NeurIPS 2015);
* doubly robust: value of q under pi, plus IPS of the residuals r - q; right if w or q is (Dudik, Langford and
  Li, ICML 2011).

Standard errors are of means over users, who are the independent units (delta method for the ratios).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special

from schema.errors import DataError

_MIN_EFFECTIVE = 30.0  # rows; with fewer an interval of a normal distribution means nothing


@dataclasses.dataclass(frozen=True)
class LoggedPlaces:
    """Places of logged lists, one row each.

    Attributes:
      user: number of the user, int [E], 0 to U - 1.
      list: number of the list, int [E], 0 to n - 1.
      place: place in the list, int [E], from 0.
      reward: what came of it, float64 [E], such as 1 for a click.
      logged: propensity of the logging policy, float64 [E], above 0 to 1.
      target: probability that the new policy has the item at the place, float64 [E], 0 to 1.
    """

    user: np.ndarray
    list: np.ndarray
    place: np.ndarray
    reward: np.ndarray
    logged: np.ndarray
    target: np.ndarray


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A policy's value: reward of a list.

    Attributes:
      value: the estimate.
      error: standard error.
      effective: rows that would say as much without weights, (sum w)^2 / sum w^2 (Kong 1992).
      support: share of the new policy's places that the log could have shown: the mean weight.
    """

    value: float
    error: float
    effective: float
    support: float

    def interval(self, level: float = 0.05) -> tuple[float, float]:
        """Ends of the interval with probability 1 - level."""
        radius = special.ndtri(1 - level / 2) * self.error
        return self.value - radius, self.value + radius


def ips(log: LoggedPlaces, clip: float | None = None) -> Estimate:
    """Inverse propensity scores, clipped at `clip` if that is given.

    Args:
      log: the logged places.
      clip: the largest weight; None clips nothing.

    Raises:
      DataError: wrong columns, or the log does not support the policy; see :func:`weights`.
    """
    weight, support = weights(log)
    used = weight if clip is None else np.minimum(weight, clip)
    value, error = _mean_of_lists(log, used * log.reward)
    return Estimate(value, error, _effective(used), support)


def snips(log: LoggedPlaces) -> Estimate:
    """Self-normalised inverse propensity scores: sum over places of sum(w r) / sum(w).

    Raises:
      DataError: as :func:`ips`.
    """
    weight, support = weights(log)
    shares = np.bincount(log.place) / _lists(log)  # of the lists that have the place
    of_place = np.bincount(log.place, weight)
    earned = np.bincount(log.place, weight * log.reward)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(of_place > 0, earned / of_place, 0.0)
        scale = np.where(of_place > 0, np.bincount(log.place) / of_place, 0.0)
    value = float(shares @ mean)
    # Each place is a ratio; its residuals in units of a list sum over the rows of a user.
    residual = weight * (log.reward - mean[log.place]) * scale[log.place]
    _, error = _mean_of_lists(log, residual, (shares @ mean) if len(shares) else 0.0)
    return Estimate(value, error, _effective(weight), support)


def doubly_robust(
    log: LoggedPlaces, predicted: np.ndarray, expected: np.ndarray, clip: float | None = None
) -> Estimate:
    """Doubly robust estimate.

    Args:
      log: the logged places.
      predicted: reward of each row by a model that was fitted on other users (cross-fitting), float64 [E].
      expected: the model's reward of each list under the new policy, sum over places and items of pi q,
        float64 [n].
      clip: the largest weight; None clips nothing.

    Raises:
      DataError: as :func:`ips`, or a model that is not finite.
    """
    weight, support = weights(log)
    if np.shape(predicted) != np.shape(log.reward) or np.shape(expected) != (_lists(log),):
        raise DataError(
            f"predicted, expected: shapes {np.shape(predicted)} and {np.shape(expected)}; need one for "
            f"each of the {len(log.reward)} rows and of the {_lists(log)} lists"
        )
    if not (np.isfinite(predicted).all() and np.isfinite(expected).all()):
        raise DataError("predicted, expected: not all finite; correct the reward model")
    used = weight if clip is None else np.minimum(weight, clip)
    value, error = _mean_of_lists(log, used * (log.reward - predicted), 0.0, expected)
    return Estimate(value, error, _effective(used), support)


def weights(log: LoggedPlaces, min_support: float = 0.95) -> tuple[np.ndarray, float]:
    """Weights of the rows, and the share of the new policy that the log supports.

    If every item that the new policy can show was possible in the log, the weights' mean is 1; what is
    missing is the probability of items that the log could not have. An estimate would count them as earning
    nothing.

    Args:
      log: the logged places.
      min_support: least share of support, up to chance (two standard errors).

    Returns:
      Weights, float64 [E], and their mean.

    Raises:
      DataError: columns of different lengths; a propensity that is no probability, or is 0 for an item
        that was shown; too little support, or so few effective rows that no interval holds.
    """
    size = np.shape(log.reward)
    for name in ("user", "list", "place", "logged", "target"):
        if np.shape(getattr(log, name)) != size:
            raise DataError(f"{name}: has shape {np.shape(getattr(log, name))} but reward has {size}")
    if not size or not size[0]:
        raise DataError("the log has no rows; give a period in which lists were shown")
    for name, lowest in (("logged", np.nextafter(0, 1)), ("target", 0.0)):
        column = getattr(log, name)
        wrong = np.flatnonzero(~((column >= lowest) & (column <= 1)))
        if len(wrong):
            raise DataError(
                f"row {wrong[0]} of '{name}': {column[wrong[0]]!r} is no propensity; it must be "
                f"{'above 0' if lowest else '0 or more'} and at most 1, as computed when the list was made"
            )
    if not np.isfinite(log.reward).all():
        raise DataError(f"row {np.flatnonzero(~np.isfinite(log.reward))[0]} of 'reward' is not finite")
    weight = log.target / log.logged
    by_list = len(weight) / _lists(log)
    total, error = _mean_of_lists(log, weight)
    support, error = total / by_list, error / by_list
    if support + 2 * error < min_support:
        raise DataError(
            f"no support: the log could have shown {support:.0%} of what the new policy shows (needed: "
            f"{min_support:.0%}); let the logging policy explore, or test the new one with an experiment"
        )
    effective = _effective(weight)
    if effective < _MIN_EFFECTIVE:
        raise DataError(
            f"no support: {len(weight)} rows count as {effective:.0f} without weights (needed: "
            f"{_MIN_EFFECTIVE:.0f}); take a longer log, or a policy nearer to the logging one"
        )
    return weight, support


def _lists(log: LoggedPlaces) -> int:
    return int(np.max(log.list)) + 1


def _effective(weight: np.ndarray) -> float:
    square = float(np.sum(weight**2))
    return float(np.sum(weight)) ** 2 / square if square > 0 else 0.0


def _mean_of_lists(
    log: LoggedPlaces, rows: np.ndarray, centre: float | None = None, lists: np.ndarray | None = None
) -> tuple[float, float]:
    """Mean over lists of the rows' sums (and of `lists`), and its standard error over users."""
    of_list = np.bincount(log.list, rows, minlength=_lists(log))
    if lists is not None:
        of_list = of_list + lists
    user = np.zeros(len(of_list), np.int64)
    user[log.list] = log.user
    users = int(user.max()) + 1
    sums, counts = np.bincount(user, of_list, minlength=users), np.bincount(user, minlength=users)
    value = float(of_list.mean())
    seen = counts > 0
    residual = sums[seen] - value * counts[seen]
    many = len(residual)
    if many < 2:
        return value, float("nan")
    return value, float(np.sqrt(many / (many - 1) * np.sum(residual**2)) / len(of_list))
