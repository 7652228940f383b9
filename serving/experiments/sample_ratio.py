"""Whether the arms have the users that they should have.

A sample ratio mismatch means that users are lost or gained because of their arm (a crash, a bot, a
redirect), so that arms cannot be compared, whatever their metrics say (Fabijan et al., "Diagnosing
sample ratio mismatch in online controlled experiments", KDD 2019).
"""

from __future__ import annotations

import numpy as np
from scipy import special, stats


def one_look(users: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """p-values of Pearson's chi-square test, each at a single look, float64 [...].

    Args:
      users: users of each arm, [..., A].
      weights: their intended shares, [A], of any sum.
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    total = np.sum(users, axis=-1, keepdims=True)
    expected = np.where(total > 0, total, 1) * shares
    return stats.chisquare(np.where(total > 0, users, expected), expected, axis=-1).pvalue


def p_values(users: np.ndarray, weights: np.ndarray, strength: float = 1000.0) -> np.ndarray:
    """p-values that may be looked at daily.

    The likelihood ratio of shares drawn from a Dirichlet around the intended ones against those
    themselves (Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022):

        L = B(a + n) / B(a) / prod w_i^n_i,   a = strength w

    Args:
      users: users of each arm so far, [..., looks, A].
      weights: their intended shares, [A], of any sum.
      strength: how near to the intended shares the alternatives lie: 1,000 looks for differences of a
        few percentage points and less.

    Returns:
      float64 [..., looks], never rising.
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    prior = strength * shares
    users = np.asarray(users, np.float64)
    log_ratio = (
        np.sum(special.gammaln(prior + users) - special.gammaln(prior) - users * np.log(shares), axis=-1)
        + special.gammaln(strength)
        - special.gammaln(strength + users.sum(axis=-1))
    )
    return np.exp(-np.maximum(np.maximum.accumulate(log_ratio, axis=-1), 0))
