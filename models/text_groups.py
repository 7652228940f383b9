"""Texts that belong together, from what the shop's households do.

Everything here looks at events that the caller has already cut off at a moment, so that no
later purchase can reach the text vectors. Texts are indices into one array of distinct texts:
products that share a text are one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sp

from models import features as F

NEGATIVE, MEMBER, CONTEXT, TARGET = range(4)  # roles of a text in a group, see `models.text_training`
_BLOCK = 1024


def lifted_pairs(
    basket: np.ndarray, text: np.ndarray, texts: int, min_support: int, min_lift: float, partners: int
) -> np.ndarray:
    """Pairs of texts found in the same baskets far more often than chance has it.

    Lift is n(a,b) N / (n(a) n(b)) over N baskets; a text's best partners are those of the
    highest n(a,b) / (expected + `min_support`), a lift shrunk so that a few chance meetings of
    rare texts do not lead the list.

    Args:
      basket: int [E], which basket (or which household, for what the same people buy) an
        event belongs to.
      text: int [E], index of the event's text.
      texts: T, number of texts.
      min_support: baskets that a pair must share.
      min_lift: lift that a pair must have.
      partners: the most partners kept for a text.

    Returns:
      int32 [P, 2], each pair in the direction(s) in which it is among the best partners.
    """
    _, basket = np.unique(basket, return_inverse=True)
    size = int(basket.max(initial=-1)) + 1
    bought = sp.csr_matrix((np.ones(len(text), np.float32), (basket, text)), shape=(size, texts))
    bought.data[:] = 1  # csr_matrix has summed repeats
    count = np.asarray(bought.sum(0)).ravel()
    by_text = bought.T.tocsr()
    found = []
    # blocks of rows: all pairs at once would be the square of the texts
    for start in range(0, texts, _BLOCK):
        shared = (by_text[start : start + _BLOCK] @ bought).tocoo()
        one, other, both = shared.row + start, shared.col, shared.data
        expected = count[one] * count[other] / max(size, 1)
        keep = (both >= min_support) & (one != other) & (both >= min_lift * expected)
        one, other, both, expected = one[keep], other[keep], both[keep], expected[keep]
        order = np.lexsort((other, -both / (expected + min_support), one))
        one, other = one[order], other[order]
        place = np.arange(len(one)) - np.searchsorted(one, one)
        found.append(np.stack([one, other], 1)[place < partners])
    return np.concatenate(found).astype(np.int32) if found else np.zeros((0, 2), np.int32)


def frequent_pairs(one: np.ndarray, other: np.ndarray, partners: int) -> np.ndarray:
    """The most frequent partners of each text.

    Args:
      one, other: int [E], an observed pair each (a query, a product that it led to).
      partners: the most kept for each `one`.

    Returns:
      int32 [P, 2], each pair once.
    """
    pairs, count = np.unique(np.stack([one, other], 1), axis=0, return_counts=True)
    pairs = pairs[np.lexsort((pairs[:, 1], -count, pairs[:, 0]))]
    place = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[place < partners].astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Lists of texts, one a household.

    Attributes:
      values: int32 [E], list after list.
      start, size: int64 [B], where each list begins and how long it is.
    """

    values: np.ndarray
    start: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, key: np.ndarray, values: np.ndarray, keys: int) -> Ragged:
        """The distinct values (int [E]) of each of `keys` keys (int [E], from 0)."""
        pair = np.unique(np.stack([key, values], 1), axis=0) if len(key) else np.zeros((0, 2), np.int64)
        size = np.bincount(pair[:, 0], minlength=keys)
        return cls(pair[:, 1].astype(np.int32), np.cumsum(size) - size, size)

    def draw(self, chosen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` values of each chosen list (int [N], none empty), with repeats, int32 [N, count]."""
        place = rng.random((len(chosen), count)) * self.size[chosen][:, None]
        return self.values[self.start[chosen][:, None] + place.astype(np.int64)]


@dataclasses.dataclass(frozen=True)
class Groups:
    """Training batches of grouped texts; see `models.text_training`.

    Attributes:
      text, group, role: int32 [S, N].
    """

    text: np.ndarray
    group: np.ndarray
    role: np.ndarray


def new_purchases(
    item: np.ndarray, timestamp: np.ndarray, until: float, new_days: float, span_days: float
) -> np.ndarray:
    """Which events buy a product that had lately come to the shop.

    A product is new for `new_days` after its first event. Products of the log's first
    `span_days` / 2 days are left out: they may be as old as the log.

    Args:
      item: int [E].
      timestamp: [E], unix seconds.
      until: unix seconds; products that came in the `span_days` before it are looked at.
      new_days, span_days: see above.

    Returns:
      bool [E].
    """
    if not len(item):
        return np.zeros(0, bool)
    first = np.full(int(item.max()) + 1, np.inf)
    np.minimum.at(first, item, timestamp)
    came = first[item]
    day = F.SECONDS_PER_DAY
    known = came >= timestamp.min() + span_days / 2 * day
    return known & (came >= until - span_days * day) & (timestamp < came + new_days * day)


def plan(
    steps: int,
    pairs: list[np.ndarray],
    pair_count: int,
    households: Ragged,
    news: Ragged,
    household_count: int,
    contexts: int,
    targets: int,
    catalogue: np.ndarray,
    negatives: int,
    rng: np.random.Generator,
) -> Groups:
    """Draws the batches of all steps.

    Args:
      steps: S.
      pairs: int32 [P, 2] arrays, one a source; each that is not empty gives the same number.
      pair_count: pairs in a batch; none without pairs.
      households: texts that each household bought.
      news: texts of products that it bought when they were new.
      household_count: households in a batch; none where nobody bought anything new.
      contexts, targets: texts drawn from `households` and from `news` for each of them.
      catalogue: int32 [V], the text of each product: negatives are drawn from it.
      negatives: in a batch.
      rng: draws.

    Raises:
      ValueError: there is nothing to learn from.
    """
    texts, groups, roles = [], [], []

    def add(drawn: np.ndarray, group: np.ndarray, role: int) -> None:
        texts.append(drawn.reshape(steps, -1))
        groups.append(np.broadcast_to(group, (steps, len(group))))
        roles.append(np.full(len(group), role))

    used = 0
    pairs = [source for source in pairs if len(source)]
    if pairs and pair_count:
        size = [pair_count // len(pairs) + (place < pair_count % len(pairs)) for place in range(len(pairs))]
        drawn = [
            source[rng.integers(len(source), size=(steps, count))]
            for source, count in zip(pairs, size, strict=True)
        ]
        add(np.concatenate(drawn, 1), np.repeat(np.arange(1, pair_count + 1), 2), MEMBER)
        used = pair_count
    buyers = np.flatnonzero((news.size > 0) & (households.size > 0))
    if len(buyers) and household_count:
        share = news.size[buyers] / news.size[buyers].sum()
        chosen = rng.choice(buyers, steps * household_count, p=share)
        number = used + np.arange(1, household_count + 1)
        add(households.draw(chosen, contexts, rng), np.repeat(number, contexts), CONTEXT)
        add(news.draw(chosen, targets, rng), np.repeat(number, targets), TARGET)
        add(rng.choice(catalogue, (steps, negatives)), np.zeros(negatives), NEGATIVE)
    if not roles:
        raise ValueError("nothing to learn from: neither a pair nor a purchase of a new product")
    role = np.broadcast_to(np.concatenate(roles), (steps, sum(len(part) for part in roles)))
    return Groups(
        np.concatenate(texts, 1).astype(np.int32),
        np.concatenate(groups, 1).astype(np.int32),
        role.astype(np.int32),
    )


def partner_ranks(vectors: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """How far each text must look to find a partner of its own.

    Args:
      vectors: float32 [H, E], unit vectors of the held-out texts.
      pairs: int [P, 2], places in `vectors`: (a text, one of its partners).

    Returns:
      int [A], for each text with a partner the rank (from 1) of its best partner by cosine
      among the H - 1 others; ties count against it.
    """
    score = vectors @ vectors.T
    np.fill_diagonal(score, -np.inf)
    best = np.full(len(vectors), -np.inf, score.dtype)
    np.maximum.at(best, pairs[:, 0], score[pairs[:, 0], pairs[:, 1]])
    asks = np.unique(pairs[:, 0])
    return (score[asks] >= best[asks, None]).sum(1)
