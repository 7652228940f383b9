"""Texts that belong together, from what the shop's households do.

Everything here looks at events that the caller has already cut off at a moment, so that no
later purchase can reach the text vectors. Texts are indices into one array of distinct texts:
products that share a text are one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sp

from schema import names as F

NEGATIVE, MEMBER, CONTEXT, TARGET = range(4)  # roles of a text in a group, see `models.text.losses`
_BLOCK = 1024
_DRAWN = 8  # contexts that stand for a household


def lifted_pairs(
    basket: np.ndarray, text: np.ndarray, texts: int, min_support: int, min_lift: float, partners: int
) -> np.ndarray:
    """Pairs of texts found in the same baskets far more often than by chance.

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
    bought = purchases(basket, text, size, texts)
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
class Groups:
    """Training batches of grouped texts; see `models.text.losses`.

    Attributes:
      text: int32 [S, M], the texts that a step encodes.
      place: int32 [S, N], where in a step's texts each member of its groups is: a text that is
        encoded once can be in many groups.
      group, role: int32 [S, N].
    """

    text: np.ndarray
    place: np.ndarray
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


def purchases(household: np.ndarray, text: np.ndarray, households: int, texts: int) -> sp.csr_matrix:
    """Which household (int [E]) bought which text (int [E]), float32 [households, texts] of ones."""
    found = sp.csr_matrix((np.ones(len(text), np.float32), (household, text)), shape=(households, texts))
    found.data[:] = 1  # csr_matrix has summed repeats
    return found


def plan(
    steps: int,
    pairs: list[np.ndarray],
    pair_count: int,
    bought: sp.csr_matrix,
    wanted: sp.csr_matrix,
    households: int,
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
      bought: [B, T], from :func:`purchases`.
      wanted: [B, T], those of them that are to be found.
      households: groups of a household and a text that it wanted; none where nothing is wanted.
      contexts, targets: distinct texts in a batch that stand for what the households bought and
        wanted, drawn as often as households bought them; all groups share them.
      catalogue: int32 [V], the text of each product: negatives are drawn from it.
      negatives: in a batch.
      rng: draws.

    Raises:
      ValueError: there is nothing to learn from.
    """
    texts, places, groups, roles = [], [], [], []

    def add(drawn: np.ndarray, place: np.ndarray, group: np.ndarray, role: int) -> None:
        """`drawn` [S, M'] texts, of which the members `place` [S or 1, N'] are."""
        first = sum(part.shape[1] for part in texts)
        shape = (steps, place.shape[1])
        texts.append(drawn)
        places.append(np.broadcast_to(place + first, shape))
        groups.append(np.broadcast_to(group, shape))
        roles.append(np.full(shape, role))

    pairs = [source for source in pairs if len(source)]
    used = pair_count if pairs else 0
    if used:
        size = [used // len(pairs) + (place < used % len(pairs)) for place in range(len(pairs))]
        drawn = np.concatenate(
            [
                source[rng.integers(len(source), size=(steps, count))]
                for source, count in zip(pairs, size, strict=True)
            ],
            1,
        ).reshape(steps, -1)
        add(drawn, np.arange(2 * used)[None], np.repeat(np.arange(1, used + 1), 2)[None], MEMBER)
    targets = min(targets, np.count_nonzero(np.bincount(wanted.indices)))
    contexts = min(contexts, np.count_nonzero(np.bincount(bought.indices)) - targets)
    if households and targets and contexts > 0:
        context, target, member, real = _household_groups(
            steps, bought, wanted, households, contexts, targets, rng
        )
        number = used + np.arange(1, households + 1)
        # group 0 has no target: a member that is not real says nothing
        group = np.where(real, number[:, None], 0).reshape(steps, -1)
        add(context, member.reshape(steps, -1), group, CONTEXT)
        add(target, (np.arange(households) % targets)[None], number[None], TARGET)
        add(rng.choice(catalogue, (steps, negatives)), np.arange(negatives)[None], np.zeros((1, 1)), NEGATIVE)
    if not texts:
        raise ValueError("nothing to learn from: neither a pair nor a purchase")
    return Groups(*(np.concatenate(parts, 1).astype(np.int32) for parts in (texts, places, groups, roles)))


def _household_groups(
    steps: int,
    bought: sp.csr_matrix,
    wanted: sp.csr_matrix,
    households: int,
    contexts: int,
    targets: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Texts of the contexts [S, C] and targets [S, K], and for each group a sample of the contexts
    that its household bought: place [S, households, `_DRAWN`] and whether there is one.
    """
    buyers = wanted.tocsc()
    often, wish = (np.bincount(it.indices, minlength=it.shape[1]).astype(float) for it in (bought, wanted))
    drawn = min(_DRAWN, contexts)
    context, target = np.zeros((steps, contexts), int), np.zeros((steps, targets), int)
    member = np.zeros((steps, households, drawn), int)
    real = np.zeros(member.shape, bool)
    for step in range(steps):
        target[step] = rng.choice(len(wish), targets, replace=False, p=wish / wish.sum())
        # a target that were a context too would find itself
        left = often.copy()
        left[target[step]] = 0
        if np.count_nonzero(left) < contexts:  # what some bought and nobody wanted may be less
            continue
        context[step] = rng.choice(len(left), contexts, replace=False, p=left / left.sum())
        asked = target[step][np.arange(households) % targets]
        start, size = buyers.indptr[asked], np.diff(buyers.indptr)[asked]
        who = buyers.indices[start + (rng.random(households) * size).astype(int)]
        has = bought[who][:, context[step]].toarray() > 0
        member[step] = np.argsort(-(rng.random(has.shape) + has), 1)[:, :drawn]
        real[step] = np.take_along_axis(has, member[step], 1)
    return context, target, member, real


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
