"""Lifts with standard errors from moments: the delta method by user, and CUPED."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import special

from serving.experiments.moments import mean_and_covariance


@dataclasses.dataclass(frozen=True)
class Ratios:
    """A ratio of sums in each arm.

    Attributes:
      value: float64 [A, ...], sum of the numerator over sum of the denominator.
      variance: of `value`, float64 [A, ...].
      outcomes: effective number of users that the numerator comes from, (sum)^2 / (sum of squares): how
        far a normal distribution can be trusted, float64 [A, ...].
      reduction: share of the variance that the covariates took away, float64 [A, ...].
    """

    value: np.ndarray
    variance: np.ndarray
    outcomes: np.ndarray
    reduction: np.ndarray


def ratios(moments: np.ndarray, numerator: int, denominator: int, covariates: Sequence[int] = ()) -> Ratios:
    """Ratio metrics by arm, with variances clustered by user.

    With user means (n, d), R = n / d has variance g' C g / U, g = (1, -R) / d and C the covariance over U
    users (Deng, Knoblich and Lu, "Applying the delta method in metric analytics", KDD 2018). Covariates from
    before the experiment explain a part of the users' residuals n_u - R d_u; that part is taken off
    (CUPED; Deng, Xu, Kohavi and Walker, WSDM 2013). Its coefficients are of all arms together.

    Args:
      moments: float64 [A, ..., P, P], arms first.
      numerator: place of the numerator in the vector of sums.
      denominator: place of the denominator; 0 is "per user".
      covariates: places of the covariates.

    Returns:
      The ratios; NaN where an arm has fewer than two users or no denominator.
    """
    count, mean, covariance = mean_and_covariance(moments)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = mean[..., denominator]
        value = mean[..., numerator] / scale
        square = moments[..., numerator, numerator]
        outcomes = moments[..., 0, numerator] ** 2 / np.where(square > 0, square, np.nan)
        gradient = np.zeros(mean.shape)
        gradient[..., numerator] += 1 / scale
        gradient[..., denominator] -= value / scale
        plain = _quadratic(covariance, gradient)
        adjusted = plain
        if covariates:
            weight = _coefficients(count, covariance, gradient, list(covariates))
            shift = mean[..., list(covariates)] - _pooled(mean[..., list(covariates)], count)
            value = value - np.sum(np.where(np.isfinite(weight), weight, 0) * shift, axis=-1)
            gradient[..., list(covariates)] -= weight
            adjusted = _quadratic(covariance, gradient)
        return Ratios(value, adjusted / count, np.nan_to_num(outcomes), 1 - adjusted / plain)


@dataclasses.dataclass(frozen=True)
class Lift:
    """How an arm compares with the control, on the scale of the log of the ratio.

    Attributes:
      log: log(arm / control), float64 [...]; NaN where one of them is not above 0.
      variance: of `log`, float64 [...].
    """

    log: np.ndarray
    variance: np.ndarray

    @property
    def relative(self) -> np.ndarray:
        """The lift as a share, arm / control - 1, float64 [...]."""
        return np.expm1(self.log)

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval that covers the lift with probability 1 - level, at one look, [...] each."""
        radius = special.ndtri(1 - level / 2) * np.sqrt(self.variance)
        return np.expm1(self.log - radius), np.expm1(self.log + radius)

    def p_value(self) -> np.ndarray:
        """Two-sided p-value at one look, float64 [...]."""
        return 2 * special.ndtr(-np.abs(self.log) / np.sqrt(self.variance))


def lift(arms: Ratios, arm: int, control: int = 0) -> Lift:
    """The lift of an arm over the control.

    Var log R = Var R / R^2 by the delta method. On the log scale an interval stays above -100 %, and is
    nearer to normal than the ratio of two ratios.

    Args:
      arms: ratios, arms first.
      arm: index of the arm.
      control: index of the control.
    """
    pair = arms.value[[arm, control]]
    pair = np.where(pair > 0, pair, np.nan)
    relative = arms.variance[[arm, control]] / pair**2
    logs = np.log(pair)
    return Lift(logs[0] - logs[1], relative.sum(axis=0))


def _quadratic(covariance: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return np.maximum(np.einsum("...i,...ij,...j->...", gradient, covariance, gradient), 0)


def _pooled(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean over arms weighted by users, of the same shape but one arm; arms without users count nothing."""
    weights = count.reshape(count.shape + (1,) * (values.ndim - count.ndim))
    total = np.nansum(values * weights, axis=0, keepdims=True)
    return total / weights.sum(axis=0, keepdims=True)


def _coefficients(
    count: np.ndarray, covariance: np.ndarray, gradient: np.ndarray, covariates: list[int]
) -> np.ndarray:
    """Least squares of the residuals on the covariates, within arms, [1, ..., X]."""
    among = _pooled(covariance[..., covariates, :][..., covariates], count)
    across = _pooled(np.einsum("...ij,...j->...i", covariance[..., covariates, :], gradient), count)
    size = np.sqrt(np.einsum("...ii->...i", among))
    size = np.where(size > 0, size, 1)
    scaled = np.nan_to_num(among / (size[..., :, None] * size[..., None, :]))
    inverse = np.linalg.pinv(scaled, rcond=1e-9, hermitian=True)
    return np.einsum("...ij,...j->...i", inverse, np.nan_to_num(across / size)) / size
