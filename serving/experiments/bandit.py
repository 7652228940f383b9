"""Thompson sampling whose propensities are known, within bounds.

A choice with s successes of n showings has the posterior Beta(a + s, b + n - s); Thompson sampling shows it
with the probability that it is the best (Thompson 1933; Chapelle and Li, NeurIPS 2011). That probability is
computed by numerical integration and then drawn from, instead of drawing from the posteriors: so the
propensity that is logged is exact, and off-policy estimates may rely on it. It changes only when the
posteriors are updated, from the log, every few minutes.

Bounds are `schema.config.experiments.Exploration`: places of a list that are left to chance, and the least
probability of a choice.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special

from schema.config.experiments import Exploration

_QUANTILES = 96  # of each posterior, in the grid of the integration
_TAILS = np.array([1e-9, 1e-6, 1e-4])  # and quantiles beyond them
_NODES = 256  # of the integration over the exponential clock


@dataclasses.dataclass(frozen=True)
class Beliefs:
    """Posteriors of several choices.

    Attributes:
      alpha: successes and the prior's, float64 [N], > 0.
      beta: failures and the prior's, float64 [N], > 0.
    """

    alpha: np.ndarray
    beta: np.ndarray

    @classmethod
    def of(cls, successes: np.ndarray, showings: np.ndarray, settings: Exploration) -> Beliefs:
        """Posteriors after some showings.

        Args:
          successes: of each choice, [N].
          showings: of each choice, [N], at least as many.
          settings: has the prior.
        """
        failures = np.asarray(showings, np.float64) - successes
        return cls(
            np.asarray(successes, np.float64) + settings.prior_successes, failures + settings.prior_failures
        )


def probability_best(beliefs: Beliefs) -> np.ndarray:
    """Probability that each choice has the highest rate, float64 [N], of sum 1.

    P(i best) is the integral of prod_{j != i} F_j dF_i. The trapezoidal rule on the quantiles of all
    posteriors together is fine where any of them is steep; with 96 quantiles each it is right to 1e-3.
    The sum is the integral of d(prod F_j), 1, to which the result is scaled.

    Args:
      beliefs: the posteriors; N log N + N^2 work in their number.
    """
    alpha, beta = beliefs.alpha, beliefs.beta
    if len(alpha) == 1:
        return np.ones(1)
    levels = np.concatenate([_TAILS, (np.arange(_QUANTILES) + 0.5) / _QUANTILES, 1 - _TAILS])
    grid = np.unique(special.betaincinv(alpha[:, None], beta[:, None], levels))
    below = special.betainc(alpha[:, None], beta[:, None], np.concatenate([[0.0], grid, [1.0]]))  # [N, G]
    zero = below == 0
    logs = np.log(np.where(zero, 1, below))
    # The product of the others is 0 where one of them is; log F would be -inf there.
    others = np.where(zero.sum(axis=0) - zero > 0, 0, np.exp(logs.sum(axis=0) - logs))
    parts = np.sum(np.diff(below, axis=1) * 0.5 * (others[:, 1:] + others[:, :-1]), axis=1)
    return parts / parts.sum()


def mixed(probability: np.ndarray, uniform_share: float) -> np.ndarray:
    """A mixture with the uniform distribution, float64 [N]: at least uniform_share / N each.

    Args:
      probability: of sum 1, [N].
      uniform_share: share of the uniform distribution.
    """
    return (1 - uniform_share) * probability + uniform_share / len(probability)


def variant(beliefs: Beliefs, settings: Exploration, uniform: float) -> tuple[int, float]:
    """Draws a variant of a list.

    Args:
      beliefs: of the variants, N of them.
      settings: has the uniform share.
      uniform: a number on [0, 1): a hash of the request or a random one.

    Returns:
      The variant's index and its propensity.
    """
    probability = mixed(probability_best(beliefs), settings.uniform_share)
    chosen = _drawn(probability, uniform)
    return chosen, float(probability[chosen])


def explored_places(length: int, settings: Exploration) -> np.ndarray:
    """Places of a list that are left to chance, int64, ascending.

    floor(share x length) of them, spread evenly from the middle of each stretch on, never the first place.

    Args:
      length: places of the list.
      settings: has the share.
    """
    count = min(int(settings.share * length + 1e-9), length - 1)
    if count <= 0:
        return np.zeros(0, np.int64)
    return np.maximum(((np.arange(count) + 0.5) * length / count).astype(np.int64), 1)


def order(probability: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Draws choices one after the other without putting them back, int64 [M] (Plackett-Luce).

    Args:
      probability: of the first draw, [N]; later ones are in proportion.
      uniforms: a number on [0, 1) for each draw, [M], M <= N.
    """
    left = np.array(probability, np.float64)
    chosen = np.empty(len(uniforms), np.int64)
    for place, uniform in enumerate(uniforms):  # a handful of places
        chosen[place] = _drawn(left / left.sum(), uniform)
        left[chosen[place]] = 0
    return chosen


def marginals(probability: np.ndarray, places: int) -> np.ndarray:
    """Probability of each choice at each of the places that :func:`order` fills, float64 [N, M].

    Choice i of Plackett-Luce is the arrival of an exponential clock of rate p_i, so it comes j-th with the
    probability that it rings at t and j - 1 of the others have rung: the integral over t of p_i exp(-p_i t)
    P(j - 1 of the others), a Poisson-binomial. Its distribution comes from products before and after i, so
    that nothing is divided. In log t the integrand is smooth and falls off at both ends, where the
    trapezoidal rule converges exponentially: 256 nodes are right to 1e-6.

    Args:
      probability: of the first draw, float64 [N], > 0, of sum 1.
      places: M, at most N; the work is N M^2.
    """
    rate = np.asarray(probability, np.float64)
    count = len(rate)
    log_time, step = np.linspace(np.log(1e-10), np.log(40 / max(rate.min(), 1e-9)), _NODES, retstep=True)
    time = np.exp(log_time)
    silent = np.exp(-rate[:, None] * time)  # [N, T]
    density = rate[:, None] * silent * time * step
    after = np.zeros((count + 1, places, len(time)))
    after[count, 0] = 1
    for index in range(count - 1, 0, -1):
        after[index] = _with_clock(after[index + 1], silent[index])
    before = np.zeros((places, len(time)))
    before[0] = 1
    result = np.empty((count, places))
    for index in range(count):
        rest = after[index + 1]
        for place in range(places):
            rung = np.einsum("jt,jt->t", before[: place + 1], rest[place::-1])
            result[index, place] = density[index] @ rung
        before = _with_clock(before, silent[index])
    return result


def _with_clock(counts: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """Distribution of the number of clocks that rang, [M, T], with one more clock."""
    grown = counts * silent
    grown[1:] += counts[:-1] * (1 - silent)
    return grown


def _drawn(probability: np.ndarray, uniform: float) -> int:
    ends = np.cumsum(probability)
    chosen = int(np.searchsorted(ends, uniform * ends[-1], side="right"))
    return min(chosen, int(np.flatnonzero(probability)[-1]))
