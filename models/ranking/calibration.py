"""Probabilities that mean what they say: Platt scaling, and how far a model is from calibrated."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special


def fit_platt(logit: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and offset with which sigmoid(slope x logit + offset) fits the labels best.

    Platt, "Probabilistic outputs for support vector machines", 1999. One pseudo-observation
    holds the fit near the identity where there are few labels; the slope is always positive, so
    that calibration never changes an order.

    Args:
      logit, label, weight: float [R]; weights are the inverse of the sampling probabilities, so
        that the fit is that of all candidates.

    Returns:
      (slope > 0, offset).
    """
    chosen = weight > 0
    logit, label, weight = (np.asarray(values, np.float64)[chosen] for values in (logit, label, weight))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        log_slope, offset = parameters
        slope = np.exp(log_slope)
        scaled = slope * logit + offset
        value = np.sum(weight * (np.logaddexp(0, scaled) - label * scaled))
        error = weight * (special.expit(scaled) - label)
        gradient = np.asarray([np.sum(error * logit) * slope, np.sum(error)])
        return value + 0.5 * parameters @ parameters, gradient + parameters

    log_slope, offset = optimize.minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B").x
    return float(np.exp(log_slope)), float(offset)


def reliability(
    probability: np.ndarray, label: np.ndarray, weight: np.ndarray, bins: int
) -> list[dict[str, float]]:
    """The reliability curve: what was said and what happened, in bins of equal mass.

    Args:
      probability, label, weight: float [R].
      bins: how many; fewer where probabilities tie.

    Returns:
      For each bin, by ascending probability: `weight`, `predicted` and `observed`, weighted means.
    """
    chosen = weight > 0
    probability, label, weight = (
        np.asarray(values, np.float64)[chosen] for values in (probability, label, weight)
    )
    return curve(probability, label, weight, equal_mass(probability, weight, bins))


def equal_mass(probability: np.ndarray, weight: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each probability, for bins of equal mass.

    Args:
      probability, weight: float64 [R]; weights above 0.
      bins: how many; fewer where probabilities tie.

    Returns:
      int [R], ascending with the probability, from 0 and without gaps.
    """
    order = np.argsort(probability, kind="stable")
    ascending, mass = probability[order], weight[order]
    # equal probabilities share a bin: else their order, which means nothing, would decide
    middle = np.cumsum(mass) - mass / 2
    place = np.minimum((bins * middle / mass.sum()).astype(int), bins - 1)
    place = place[np.searchsorted(ascending, ascending)]
    bin_of = np.empty(len(place), int)
    bin_of[order] = np.unique(place, return_inverse=True)[1]
    return bin_of


def curve(
    probability: np.ndarray, label: np.ndarray, weight: np.ndarray, bin_of: np.ndarray
) -> list[dict[str, float]]:
    """As `reliability`, in bins that are known: float64 [R] and int [R] without gaps."""
    mass = np.bincount(bin_of, weight)
    predicted, observed = (np.bincount(bin_of, weight * values) / mass for values in (probability, label))
    return [
        {"weight": float(w), "predicted": float(p), "observed": float(o)}
        for w, p, o in zip(mass, predicted, observed, strict=True)
    ]


def expected_calibration_error(curve: list[dict[str, float]]) -> float:
    """Mean over a reliability curve's mass of |predicted - observed|.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
    """
    total = sum(row["weight"] for row in curve)
    return sum(row["weight"] * abs(row["predicted"] - row["observed"]) for row in curve) / max(total, 1e-12)
