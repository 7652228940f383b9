"""Tests and intervals that hold however often one looks (always-valid inference).

An estimate d with variance v, of an effect that is 0, gives the likelihood ratio of a mixture
of effects N(0, tau^2) against 0:

    L = sqrt(v / (v + tau^2)) exp(d^2 tau^2 / (2 v (v + tau^2)))

Over all looks together L exceeds 1 / alpha with probability alpha at most (Ville), so min 1 / L is a
p-value that may be looked at at any time (mixture SPRT: Robbins 1970; Johari, Koomen, Pekelis and Walsh,
"Peeking at A/B tests", KDD 2017), and the effects that it does not reject are a confidence sequence
(Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences",
Ann. Statist. 2021, normal mixture). With estimated variances the guarantee is asymptotic (Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
Ann. Statist. 2024).

Assumed: estimates of later looks hold the data of earlier ones, and Cov(S_s, S_t) >= Var(S_s), s < t, for the
sums S = d / v. It is equality if users are new every day; a user who comes back and behaves alike makes it
larger, which makes crossings rarer (Slepian's inequality).
"""

from __future__ import annotations

import numpy as np
from scipy import special


def mixture_sd(expected_lift: float) -> float:
    """tau on the log scale, from the relative effect that a test should find soonest.

    A mixture is tightest at the variance v with tau^2 / v = -W(-alpha^2 / e) - 1 (lower branch of Lambert's
    W; 8.2 at alpha = 0.05), and an effect is found when it is about 3 standard errors:
    tau^2 = 8.2 (lift / 3)^2.
    """
    return float(np.log1p(expected_lift)) * np.sqrt(8.2) / 3


def log_likelihood_ratio(estimate: np.ndarray, variance: np.ndarray, tau: float) -> np.ndarray:
    """log L of effects N(0, tau^2) against no effect, float64 [...].

    Args:
      estimate: float64 [...].
      variance: of the estimate, float64 [...], > 0; NaN gives NaN.
      tau: standard deviation of the mixture, > 0.
    """
    total = variance + tau**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return 0.5 * np.log(variance / total) + estimate**2 * tau**2 / (2 * variance * total)


def p_values(log_ratio: np.ndarray) -> np.ndarray:
    """Always-valid p-values over looks.

    Args:
      log_ratio: log likelihood ratios, float64 [..., looks]; NaN is a look without data.

    Returns:
      float64 [..., looks], never rising; 1 before the first look with data.
    """
    reached = np.maximum.accumulate(np.nan_to_num(log_ratio, nan=-np.inf), axis=-1)
    return np.exp(-np.maximum(reached, 0))


def radius(variance: np.ndarray, tau: float, level: float) -> np.ndarray:
    """Half the width of the confidence sequence at each look, float64 [...].

    The effects whose likelihood ratio stays below 1 / level.

    Args:
      variance: of the estimates, float64 [...].
      tau: standard deviation of the mixture.
      level: probability that the truth is ever outside.
    """
    total = variance + tau**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(variance * total / tau**2 * (np.log(total / variance) - 2 * np.log(level)))


def one_sided_radius(variance: np.ndarray, tau: float, level: float) -> np.ndarray:
    """What to take off (or add to) an estimate for a one-sided confidence sequence, float64 [...].

    The mixture is half-normal (Howard et al. 2021, one-sided normal mixture):

        L = 2 sqrt(v / (v + tau^2)) exp(y^2 / 2) Phi(y),   y = d tau / sqrt(v (v + tau^2))

    Its level is solved for y by Newton's method, which descends to the root because log L is convex in y.

    Args:
      variance: of the estimates, float64 [...].
      tau: standard deviation of the mixture.
      level: probability that the truth is ever beyond, below 0.5.
    """
    total = variance + tau**2
    with np.errstate(divide="ignore", invalid="ignore"):
        goal = -np.log(2 * level) + 0.5 * np.log(total / variance)
        y = np.sqrt(2 * goal + 2 * np.log(2))
        for _ in range(12):
            log_phi = special.log_ndtr(y)
            slope = y + np.exp(-0.5 * y * y - 0.5 * np.log(2 * np.pi) - log_phi)
            y = y - (0.5 * y * y + log_phi - goal) / slope
        return y * np.sqrt(variance * total) / tau


def running(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersection of a confidence sequence's intervals up to each look, [..., looks] each.

    It covers with the same probability, and never widens. If the intervals disagree, low is above high:
    the effect moved while the experiment ran, or the data changed after they were looked at.
    """
    return np.fmax.accumulate(low, axis=-1), np.fmin.accumulate(high, axis=-1)
