"""Candidate sources: what may be worth ranking for a request, from stock TensorFlow ops.

All work is done on dense score vectors over the C candidates: one scatter a source, then
`top_k`; only the two-tower source asks an index (`models.index`). A history event of an item
outside the candidates falls into position C, which is cut off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models import features as F
from models.index import Plan, VectorIndex
from models.snapshot import Snapshot
from models.tables import table
from pipeline.config import Candidates

_DECAYS = (14.0, 45.0, 90.0, 180.0)
_SEEDS = 100  # own items that look for co-purchased ones
_NONE = -1e9


def segment_sum(values: tf.Tensor, index: tf.Tensor, size: int | tf.Tensor) -> tf.Tensor:
    """Sums values by index within each row of a batch.

    Args:
      values: float32 [B, L, F].
      index: int32 [B, L], in [0, size).
      size: S.

    Returns:
      float32 [B, S, F].
    """
    batch = tf.shape(index)[0]
    flat = index + (tf.range(batch) * size)[:, None]
    total = tf.math.unsorted_segment_sum(
        tf.reshape(values, [-1, values.shape[-1]]), tf.reshape(flat, [-1]), batch * size
    )
    return tf.reshape(total, [batch, size, values.shape[-1]])


def segment_extreme(values: tf.Tensor, index: tf.Tensor, size: int, largest: bool) -> tf.Tensor:
    """Largest or smallest value by index within each row; see :func:`segment_sum`.

    Args:
      values: float32 [B, L].
      index: int32 [B, L].
      size: S.
      largest: maximum instead of minimum.

    Returns:
      float32 [B, S]; the type's lowest (highest) value where there is none.
    """
    batch = tf.shape(index)[0]
    flat = tf.reshape(index + (tf.range(batch) * size)[:, None], [-1])
    reduce = tf.math.unsorted_segment_max if largest else tf.math.unsorted_segment_min
    return tf.reshape(reduce(tf.reshape(values, [-1]), flat, batch * size), [batch, size])


@dataclasses.dataclass(frozen=True)
class Found:
    """Candidates of a batch of requests, with what the sources knew about them.

    Attributes:
      position: int32 [B, N], position among the candidates; C where the place is empty.
      valid: bool [B, N].
      own: float32 [B, C + 1, 1 + decays], own events: count, then decayed counts.
      first_age, last_age: float32 [B, C + 1], age in days of the first and last own event.
      query: float32 [B, D], the query tower's vectors.
      seed: int32 [B, S], positions of the strongest own candidates; C where there are no more.
      seed_weight: float32 [B, S], their decayed counts.
      scores: source -> float32 [B, C], before filters; without `two_tower`, whose index
        `CandidateSources.index` scores any candidates; `new_items` only where that source is on,
        and far below any score for what is not new.
      rank: float32 [B, C + 1, sources], rank (from 0) within each source that is on, the source's
        size where it did not return the candidate.
      names: the sources that are on, in the order of `rank`.
    """

    position: tf.Tensor
    valid: tf.Tensor
    own: tf.Tensor
    first_age: tf.Tensor
    last_age: tf.Tensor
    query: tf.Tensor
    seed: tf.Tensor
    seed_weight: tf.Tensor
    scores: dict[str, tf.Tensor]
    rank: tf.Tensor
    names: tuple[str, ...]

    @property
    def ranks(self) -> dict[str, tf.Tensor]:
        """source -> float32 [B, C + 1], see `rank`."""
        return dict(zip(self.names, tf.unstack(self.rank, axis=-1), strict=True))

    def without_empty_places(self) -> Found:
        """The same candidates in the same order, in as many places as the fullest row needs.

        What several sources found, and what they did not find, leaves places empty: a third of
        them for a shop's regulars, and the ranker would work for them all the same.
        """
        count = tf.reduce_sum(tf.cast(self.valid, tf.int32), 1)
        # a list without any place could not be arranged
        places = tf.maximum(tf.reduce_max(count), 1)
        # an empty place has the largest position
        position = tf.sort(self.position, axis=1)[:, :places]
        return dataclasses.replace(self, position=position, valid=tf.range(places) < count[:, None])


class CandidateSources(tf.Module):
    """Buy again, co-purchased, two-tower, trending and new candidates of a request.

    Args:
      snapshot: item tables.
      item_vectors: float32 [V, D] variable, the item tower's vectors of all rows.
      plan: how they are searched.
      config: how many candidates each source gives; a source with 0 is off.
    """

    def __init__(self, snapshot: Snapshot, item_vectors: tf.Variable, plan: Plan, config: Candidates) -> None:
        super().__init__(name="candidate_sources")
        self.count = len(snapshot.candidate_row)
        self.candidate_row = table(np.append(snapshot.candidate_row, 0), tf.int32)
        self.row_candidate = table(snapshot.row_candidate, tf.int32)
        self.index = VectorIndex(item_vectors, snapshot.candidate_row, plan)
        none = np.full((1, snapshot.neighbour.shape[1]), self.count, np.int32)
        self._neighbour = table(np.concatenate([snapshot.neighbour, none]))
        self._neighbour_weight = table(
            np.concatenate([snapshot.neighbour_weight, np.zeros_like(none, np.float32)])
        )
        # all-time popularity breaks ties, so that the list is full on a quiet day
        trending = snapshot.trending + snapshot.popularity / (snapshot.popularity.max() + 1)
        self.trending = table(trending, tf.float32)
        sizes = {
            F.BUY_AGAIN: config.buy_again,
            F.CO_PURCHASED: config.co_purchased,
            F.TWO_TOWER: config.two_tower,
            F.TRENDING: config.trending,
            F.NEW_ITEMS: config.new_items,
        }
        self.sizes = {name: min(size, self.count) for name, size in sizes.items() if size}
        if F.NEW_ITEMS in self.sizes:
            new = np.flatnonzero(snapshot.new_within(config.new_days)[snapshot.candidate_row])
            place = np.full(self.count, len(new), np.int32)
            place[new] = np.arange(len(new))
            self._new, self._new_place = table(new, tf.int32), table(place)
        self._decay_index = 1 + _DECAYS.index(90.0)
        self._unranked = table(np.tile(np.float32([*self.sizes.values()]), self.count + 1))

    @property
    def own_names(self) -> tuple[str, ...]:
        """Names of the last axis of `Found.own`."""
        return ("count", *(f"decay_{int(days)}" for days in _DECAYS))

    @property
    def ranks_of(self) -> tuple[str, ...]:
        """Sources that are on, in a fixed order."""
        return tuple(self.sizes)

    @tf.Module.with_name_scope
    def history(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Position, mask and weights of the request's events.

        Returns:
          `position` int32 [B, L]; `weights` float32 [B, L, 1 + decays], 0 for padding.
        """
        row = request["history_row"]
        mask = tf.cast(row > 0, tf.float32)
        age = request[F.HISTORY_AGE_DAYS]
        # Items of one basket have equal scores and must tie in every batch: float32 `exp` rounds
        # differently by place in the batch, float64 does so far below what float32 keeps.
        exact = tf.cast(age, tf.float64)
        weights = [mask]
        weights += [mask * tf.cast(tf.exp(-np.log(2.0) * exact / days), tf.float32) for days in _DECAYS]
        return {"position": tf.gather(self.row_candidate, row), "weights": tf.stack(weights, -1)}

    @tf.Module.with_name_scope
    def __call__(
        self,
        request: Mapping[str, tf.Tensor],
        query: tf.Tensor,
        allowed: tf.Tensor,
        fixed: tf.Tensor | None = None,
    ) -> Found:
        """Finds candidates.

        Args:
          request: from `RequestParser`.
          query: float32 [B, D], the query tower's vectors.
          allowed: bool [B, C] (or [1, C]), candidates that filters and exclusions let through.
          fixed: int32 [B, N], positions to describe instead of searching (signature `rank`).

        Returns:
          The candidates; each occurs once in a row.
        """
        size = self.count + 1
        events = self.history(request)
        own = segment_sum(events["weights"], events["position"], size)
        age = request[F.HISTORY_AGE_DAYS]
        real = request["history_row"] > 0
        last = segment_extreme(tf.where(real, age, 1e9), events["position"], size, largest=False)
        first = segment_extreme(tf.where(real, age, -1e9), events["position"], size, largest=True)
        decayed = own[:, :, self._decay_index]
        allowed = tf.broadcast_to(allowed, [tf.shape(query)[0], self.count])
        # no score is beyond it where allowed, all are elsewhere: a minimum is many times a `where`
        most = _NONE - 2 * _NONE * tf.cast(allowed, tf.float32)
        # own candidates come from the events and not from a search of all candidates
        mine = self._own(events["position"])
        weight = tf.gather(decayed, mine, batch_dims=1)
        real = mine < self.count
        seed_weight, at = tf.math.top_k(tf.where(real, weight, 0.0), min(_SEEDS, self.count))
        seed = tf.gather(mine, at, batch_dims=1)
        scores = {
            F.BUY_AGAIN: decayed[:, : self.count],
            F.CO_PURCHASED: self._co_purchased(seed, seed_weight),
            F.TRENDING: tf.repeat(self.trending[None], tf.shape(query)[0], 0),
        }
        if F.NEW_ITEMS in self.sizes:
            scores[F.NEW_ITEMS] = self._new_items(query)
        found = []
        for name, wanted in self.sizes.items():
            if name == F.TWO_TOWER:
                _, position = self.index.search(query, wanted, allowed)
            elif name == F.BUY_AGAIN:
                free = real & tf.gather(tf.pad(allowed, [[0, 0], [0, 1]]), mine, batch_dims=1)
                value, at = tf.math.top_k(tf.where(free, weight, _NONE), wanted)
                position = tf.where(value > _NONE / 2, tf.gather(mine, at, batch_dims=1), self.count)
            else:
                value, position = tf.math.top_k(tf.minimum(scores[name], most), wanted)
                least = 0.0 if name == F.CO_PURCHASED else _NONE / 2
                position = tf.where(value > least, position, self.count)
            found.append(position)
        together = tf.concat(found, 1)
        rank = self._rank(together)
        position = self._distinct(together) if fixed is None else fixed
        return Found(
            *(position, position < self.count, own, first, last, query, seed, seed_weight, scores, rank),
            names=tuple(self.sizes),
        )

    def _own(self, position: tf.Tensor) -> tf.Tensor:
        """int32 [B, M]: the distinct ones of events' positions (int32 [B, L]) in their order, with C
        between and after them; at least as many places as any search of them wants.
        """
        distinct = self._distinct(position)
        least = min(max(_SEEDS, self.sizes.get(F.BUY_AGAIN, 0)), self.count)
        missing = tf.maximum(least - tf.shape(distinct)[1], 0)
        return tf.pad(distinct, [[0, 0], [0, missing]], constant_values=self.count)

    def _new_items(self, query: tf.Tensor) -> tf.Tensor:
        """What the two towers say of the new candidates, float32 [B, C]; `_NONE` of all others."""
        score = self.index.score(query, self._new[None])
        return tf.gather(tf.pad(score, [[0, 0], [0, 1]], constant_values=_NONE), self._new_place, axis=1)

    def _co_purchased(self, seed: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """Item-based nearest neighbours of the request's strongest items, float32 [B, C]."""
        neighbour, value = self._links(seed, weight)
        batch = tf.shape(seed)[0]
        total = segment_sum(
            tf.reshape(value, [batch, -1, 1]), tf.reshape(neighbour, [batch, -1]), self.count + 1
        )
        return total[:, : self.count, 0]

    def _links(self, seed: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The neighbours of own items (int32 [B, S, M]) and what each adds."""
        value = tf.gather(self._neighbour_weight, seed) * tf.math.log1p(weight)[..., None]
        return tf.gather(self._neighbour, seed), value

    @tf.Module.with_name_scope
    def strongest_link(self, found: Found, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The own item that speaks most for each candidate.

        Args:
          found: from `__call__`.
          position: int32 [B, K].

        Returns:
          (int32 [B, K] position of the own item, bool [B, K] whether there is one).
        """
        neighbour, value = self._links(found.seed, found.seed_weight)
        hit = neighbour[:, None] == position[:, :, None, None]  # [B, K, S, M]
        # values are not negative; a product is several times faster than `where`
        of_seed = tf.reduce_max(tf.cast(hit, tf.float32) * value[:, None], -1)
        best = tf.argmax(of_seed, -1, output_type=tf.int32)
        return tf.gather(found.seed, best, batch_dims=1), tf.reduce_max(of_seed, -1) > 0

    def _rank(self, found: tf.Tensor) -> tf.Tensor:
        """`Found.rank` of what the sources found, int32 [B, the sum of their sizes]."""
        sizes = list(self.sizes.values())
        batch, width = tf.shape(found)[0], sum(sizes)
        size = np.repeat(sizes, sizes).astype(np.float32)
        place = np.concatenate([np.arange(size) for size in sizes]).astype(np.float32)
        source = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
        # empty places all point at position C: no rank for it
        rank = tf.where(found < self.count, place, size)
        at = (tf.range(batch)[:, None] * (self.count + 1) + found) * len(sizes) + source
        worst = tf.reshape(tf.repeat(self._unranked[None], batch, 0), [-1])
        ranked = tf.tensor_scatter_nd_min(worst, tf.reshape(at, [-1, 1]), tf.reshape(rank, [batch * width]))
        return tf.reshape(ranked, [batch, self.count + 1, len(sizes)])

    def _distinct(self, position: tf.Tensor) -> tf.Tensor:
        ordered = tf.sort(position, axis=1)
        repeated = tf.concat([tf.zeros_like(ordered[:, :1], tf.bool), ordered[:, 1:] == ordered[:, :-1]], 1)
        return tf.where(repeated, self.count, ordered)
