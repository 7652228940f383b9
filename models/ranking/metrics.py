"""Measures of ranked lists that were sampled."""

from __future__ import annotations

import numpy as np


def estimated_ndcg(logits: np.ndarray, label: np.ndarray, weight: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of each full list, estimated from its sample.

    Args:
      logits, label, weight: float32 [B, N]; a candidate that stands for w candidates takes w
        places.
      k: the cut-off.

    Returns:
      float64 [B]; NaN for a list without a purchase.
    """
    order = np.argsort(-np.where(weight > 0, logits, -np.inf), 1, kind="stable")
    weight, label = (np.take_along_axis(values, order, 1).astype(np.float64) for values in (weight, label))
    rank = np.cumsum(weight, 1) - weight + 1
    gain = np.where(rank <= k, 1 / np.log2(1 + rank), 0.0)
    count = np.rint((label * weight).sum(1)).astype(int)
    ideal = np.append(0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))[np.minimum(count, k)]
    with np.errstate(invalid="ignore"):
        return (gain * label * weight).sum(1) / np.where(count > 0, ideal, np.nan)
