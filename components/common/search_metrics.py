"""Metrics of search results with graded gains.

=================  ==========================================================================
ndcg@k             DCG / ideal DCG, gain / log2(rank + 1) (Järvelin and Kekäläinen 2002); an item
                   that was not judged counts 0
ndcg_judged@k      the same of the judged items alone, in the order in which they were ranked
recall@k           right items among the first k / right items; right is the best gain of the query
mrr                1 / rank of the first right item among all that were returned, else 0
zero_results       1 if nothing was returned
=================  ==========================================================================
"""

from __future__ import annotations

import numpy as np

from components.common.queries import Queries


def per_query(queries: Queries, top: np.ndarray, k: int = 10, recall_at: int = 50) -> dict[str, np.ndarray]:
    """Metrics of every query.

    Args:
      queries: what is right; each has an item of gain above 0.
      top: int [Q, N], positions of what was returned, best first, -1 = nothing.
      k: cut-off of NDCG.
      recall_at: cut-off of recall.

    Returns:
      metric -> float64 [Q].
    """
    gain, judged = queries.gains_of(top)
    gain, judged = np.where(top >= 0, gain, 0), judged & (top >= 0)
    ideal = ideal_dcg(queries, k)
    # a stable sort brings the judged items forward in their order
    order = np.argsort(~judged, 1, kind="stable")
    best = queries.best()
    right = (gain >= best[:, None]) & (gain > 0)
    count = np.bincount(queries.query[queries.gain >= best[queries.query]], minlength=len(queries))
    first = right.argmax(1) + 1
    return {
        f"ndcg@{k}": dcg(gain, k) / ideal,
        f"ndcg_judged@{k}": dcg(np.take_along_axis(gain, order, 1), k) / ideal,
        f"recall@{recall_at}": right[:, :recall_at].sum(1) / np.maximum(count, 1),
        "mrr": np.where(right.any(1), 1 / first, 0.0),
        "zero_results": (top < 0).all(1).astype(float),
    }


def dcg(gain: np.ndarray, k: int) -> np.ndarray:
    """float64 [Q], the discounted sum of the first k gains (float [Q, N])."""
    gain = gain[:, :k].astype(np.float64)
    return (gain / np.log2(np.arange(2, gain.shape[1] + 2))).sum(1)


def ideal_dcg(queries: Queries, k: int) -> np.ndarray:
    """float64 [Q], the largest discounted sum of k gains that a ranking can reach."""
    order = np.lexsort((-queries.gain, queries.query))
    query, gain = queries.query[order], queries.gain[order].astype(np.float64)
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    each = np.where(rank < k, gain / np.log2(rank + 2), 0.0)
    return np.bincount(query, each, len(queries))


def summarised(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the queries; empty without queries."""
    return {name: float(value.mean()) for name, value in values.items() if len(value)}
