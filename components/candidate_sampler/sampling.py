"""Which candidates of a list are kept, and how many others each of them stands for."""

from __future__ import annotations

import numpy as np


def sample(
    valid: np.ndarray,
    label: np.ndarray,
    promoted: np.ndarray,
    size: int,
    promoted_share: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the kept candidates and the inverse of the probability that they were kept.

    All positives are kept (a uniform sample of them if they do not fit). Of the other places
    the share `promoted_share` goes to candidates in proportion to their promotions, the rest to
    any candidate alike: with M others, n places and e_i promotions candidate i is kept with
    probability pi_i = n ((1 - s) / M + s e_i / sum(e)), cut at 1. Systematic sampling in a random
    order (Madow, Annals of Mathematical Statistics 1949) keeps exactly n with just those
    probabilities, so that the weights 1 / pi_i stand for all candidates of the sources.

    Args:
      valid: bool [B, M], which places hold a candidate.
      label: bool [B, M], which were bought.
      promoted: [B, M], how much each was promoted while the user passed it over.
      size: N <= M.
      promoted_share: s.
      rng: source of randomness.

    Returns:
      (int [B, N] places, float32 [B, N] weights, 0 for padding).
    """
    positive, other = valid & label, valid & ~label
    room = size - np.minimum(positive.sum(1), size)
    probability = np.where(positive, _shares(positive, size), 0.0)
    exposed = np.where(other, promoted, 0.0)
    total = exposed.sum(1, keepdims=True)
    # without a promotion the sample is uniform
    share = np.where(total > 0, promoted_share, 0.0)
    mix = (1 - share) * other / np.maximum(other.sum(1, keepdims=True), 1)
    mix = mix + share * exposed / np.maximum(total, 1e-9)
    probability += _cut(mix, np.minimum(room, other.sum(1)))

    key = rng.random(valid.shape)
    order = np.argsort(key, 1)
    reached = np.cumsum(np.take_along_axis(probability, order, 1), 1)
    # sums of the probabilities are whole numbers up to rounding
    reached += rng.random((len(valid), 1)) * (1 - 1e-6)
    steps = np.floor(reached + 1e-9)
    taken = np.diff(steps, axis=1, prepend=0) > 0
    chosen = np.zeros_like(valid)
    np.put_along_axis(chosen, order, taken, 1)
    place = np.argsort(np.where(chosen, key - 1, key), 1)[:, :size]
    kept = np.take_along_axis(chosen, place, 1)
    weight = 1 / np.maximum(np.take_along_axis(probability, place, 1), 1e-12)
    return place, np.where(kept, weight, 0).astype(np.float32)


def _shares(chosen: np.ndarray, size: int) -> np.ndarray:
    """float [B, 1]: probability with which each of the chosen is kept if `size` fit."""
    return np.minimum(size / np.maximum(chosen.sum(1, keepdims=True), 1), 1.0)


def _cut(mix: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Inclusion probabilities min(1, c mix) that add up to `size` (int [B]) in every row."""
    out = mix * size[:, None]
    while (out > 1 + 1e-9).any():
        full = out >= 1
        rest = np.where(full, 0.0, mix)
        left = (size - full.sum(1))[:, None] * rest / np.maximum(rest.sum(1, keepdims=True), 1e-12)
        out = np.where(full, 1.0, left)
    return out
