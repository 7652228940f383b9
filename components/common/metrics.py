"""Top-k metrics of recommendation lists: against sets of relevant items, and of the lists alone.

Binary relevance; R is a user's relevant set; a metric is the mean over users with |R| >= 1.
p(i) is the share of users who bought item i before.

=================  ======================================================================
recall@k           hits@k / |R|
recall_cap@k       hits@k / min(k, |R|)
ndcg@k             DCG / ideal DCG, gain 1 / log2(rank + 1) (Järvelin and Kekäläinen 2002)
hr@k               1 if there is a hit in the first k
mrr@k              1 / rank of the first hit within the first k, else 0
coverage@k         distinct items in all first-k lists / catalogue size
diversity@k        intra-list distance: mean of 1 - cosine over the pairs of the first k (Smyth
                   and McClave 2001)
novelty@k          mean of -log2 p(i) over the first k: self-information (Zhou et al. 2010)
popularity_lift@k  mean p(i) over the first k / mean p(i) over what the user bought - 1: how much
                   more popular the list is than the user's own taste (Abdollahpouri et al. 2019)
=================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def per_user(top: np.ndarray, relevant: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Metrics of every user.

    Args:
      top: int [U, K], recommended columns of `relevant`, best first, -1 = no item. An item
        counts once.
      relevant: bool [U, M]; every row has at least one relevant item.
      ks: cut-offs.

    Returns:
      metric -> float64 [U].

    Raises:
      ValueError: a row has no relevant item, or an item occurs twice in a list.
    """
    ordered = np.sort(top, 1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("an item occurs twice in one user's list")
    size = relevant.sum(1)
    if (size == 0).any():
        raise ValueError("a user without relevant items cannot be scored")
    longest = max(*ks, top.shape[1]) if len(ks) > 1 else max(ks[0], top.shape[1])
    hit = np.zeros((len(top), longest), bool)
    hit[:, : top.shape[1]] = np.take_along_axis(relevant, np.maximum(top, 0), 1) & (top >= 0)
    gain = 1 / np.log2(np.arange(2, longest + 2))
    ideal = np.cumsum(gain)
    hits, dcg = np.cumsum(hit, 1), np.cumsum(hit * gain, 1)
    first = np.where(hit.any(1), hit.argmax(1) + 1, longest + 1)
    out = {}
    for k in ks:
        cap = np.minimum(k, size)
        out[f"recall@{k}"] = hits[:, k - 1] / size
        out[f"recall_cap@{k}"] = hits[:, k - 1] / cap
        out[f"ndcg@{k}"] = dcg[:, k - 1] / ideal[cap - 1]
        out[f"hr@{k}"] = (hits[:, k - 1] > 0).astype(float)
        out[f"mrr@{k}"] = np.where(first <= k, 1 / first, 0.0)
    return out


def of_lists(
    top: np.ndarray, vectors: np.ndarray, share: np.ndarray, own_share: np.ndarray, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Metrics of every list that need no relevant items.

    Args:
      top: int [U, K], recommended columns, best first, -1 = no item.
      vectors: float32 [M, D], unit vectors of the items.
      share: float [M], p(i) > 0.
      own_share: float [U], mean p(i) over the items that each user bought before.
      ks: cut-offs.

    Returns:
      metric -> float64 [U], 0 for a list without an item (`diversity`: without two).
    """
    out = {}
    information, popularity = -np.log2(np.append(share, 1.0)), np.append(share, 0.0)
    padded = np.concatenate([vectors, np.zeros_like(vectors[:1])])
    for k in ks:
        first = top[:, :k]
        count = (first >= 0).sum(1)
        # over all ordered pairs the cosines add up to |sum of vectors|^2, the n diagonal ones to n
        total = np.square(padded[first].sum(1, dtype=np.float64)).sum(1) - count
        pairs = np.maximum(count * (count - 1), 1)
        out[f"diversity@{k}"] = np.where(count > 1, 1 - total / pairs, 0.0)
        out[f"novelty@{k}"] = information[first].sum(1) / np.maximum(count, 1)
        mean = popularity[first].sum(1) / np.maximum(count, 1)
        out[f"popularity_lift@{k}"] = np.where(count > 0, mean / own_share - 1, 0.0)
    return out


def summarise(
    values: dict[str, np.ndarray], top: np.ndarray, catalogue: int, ks: Sequence[int]
) -> dict[str, float]:
    """Means, standard errors (`<metric>_se`) and `coverage@k`.

    Args:
      values: from :func:`per_user` and :func:`of_lists`.
      top: int [U, K], the lists.
      catalogue: number of items that could be recommended.
      ks: cut-offs.
    """
    out = {}
    for name, value in values.items():
        out[name] = float(value.mean())
        out[f"{name}_se"] = standard_error(value)
    for k in ks:
        ids = np.unique(top[:, :k])
        out[f"coverage@{k}"] = float((ids >= 0).sum() / catalogue)
    return out


def standard_error(values: np.ndarray) -> float:
    """Standard error of a mean over users; 0 for fewer than two."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
