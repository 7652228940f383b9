"""Candidate sources: what may be worth ranking for a request, from stock TensorFlow ops.

What is known of a few candidates only (a request's own items, what the sources found) is kept
for those (:class:`Some`): a catalogue of a million items costs little more than one of thousands.
Scores of co-purchased items are dense over the C candidates, and the two-tower source asks an index
(`models.retrieval.index`). A history event of an item outside the candidates falls into position C.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.frozen import table
from models.retrieval.index.kinds import build_index
from models.retrieval.index.plan import Plan
from models.retrieval.snapshot import Snapshot
from schema import names as F
from schema.config import Candidates

_DECAYS = (14.0, 45.0, 90.0, 180.0)
_SEEDS = 100  # own items that look for co-purchased ones
_NONE = -1e9
_FAR = 1e9


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
class Some:
    """Numbers of a few positions of each request.

    Attributes:
      position: int32 [B, M], ascending; numbers stand where a position is for the first time.
      values: float32 [B, M, F].
      otherwise: float32 [F], of all other positions.
    """

    position: tf.Tensor
    values: tf.Tensor
    otherwise: tf.Tensor

    def of(self, position: tf.Tensor) -> tf.Tensor:
        """float32 [B, N, F], the numbers of positions (int32 [B, N])."""
        at = places_of(position, self.position)
        known = tf.cast(tf.gather(self.position, at, batch_dims=1) == position, tf.float32)[..., None]
        # a product is several times faster than `where`, and exact with 0 and 1
        return self.otherwise + known * (tf.gather(self.values, at, batch_dims=1) - self.otherwise)


def places_of(position: tf.Tensor, ascending: tf.Tensor) -> tf.Tensor:
    """int32 [B, N]: where each position (int32 [B, N]) stands first in a row of `ascending` (int32
    [B, M]), or some place of the row if it does not stand there.
    """
    # not `tf.searchsorted`, which cannot reshape rows of no positions
    at = tf.raw_ops.LowerBound(sorted_inputs=ascending, values=position)
    return tf.minimum(at, tf.shape(ascending)[1] - 1)


@dataclasses.dataclass(frozen=True)
class Found:
    """Candidates of a batch of requests, with what the sources knew about them.

    Attributes:
      position: int32 [B, N], position among the candidates; C where the place is empty.
      valid: bool [B, N].
      own: 1 + decays + 2 numbers of own candidates: events, decayed events, age in days of the first
        and of the last one (both 0 where there is none).
      query: float32 [B, D], the query tower's vectors.
      seed: int32 [B, S], positions of the strongest own candidates; C where there are no more.
      seed_weight: float32 [B, S], their decayed counts.
      scores: source -> before filters, float32 [B, C + 1] of co-purchased candidates (0 in the last
        place), and [B, C] of new ones where that source is on (far below any score for what is not new).
      rank: for each source that is on, the rank (from 0) of what it returned; its size for all
        other candidates.
      names: the sources that are on, in the order of `rank`.
      count: C.
    """

    position: tf.Tensor
    valid: tf.Tensor
    own: Some
    query: tf.Tensor
    seed: tf.Tensor
    seed_weight: tf.Tensor
    scores: dict[str, tf.Tensor]
    rank: Some
    names: tuple[str, ...]
    count: int

    def ranks(self) -> dict[str, tf.Tensor]:
        """source -> float32 [B, C], ranks of all candidates; for measuring."""
        every = tf.repeat(tf.range(self.count)[None], tf.shape(self.query)[0], 0)
        return dict(zip(self.names, tf.unstack(self.rank.of(every), axis=-1), strict=True))

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
        self.index = build_index(item_vectors, snapshot.candidate_row, plan)
        none = np.full((1, snapshot.neighbour.shape[1]), self.count, np.int32)
        self._neighbour = table(np.concatenate([snapshot.neighbour, none]))
        self._neighbour_weight = table(
            np.concatenate([snapshot.neighbour_weight, np.zeros_like(none, np.float32)])
        )
        # all-time popularity breaks ties, so that the list is full on a quiet day
        trending = snapshot.trending + snapshot.popularity / (snapshot.popularity.max() + 1)
        self.trending = table(trending, tf.float32)
        # what trends is the same for everybody; on a tie the first candidate, as `top_k` has it
        self.by_trend = table(np.argsort(-self.trending.numpy(), kind="stable"), tf.int32)
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
        self._unranked = tf.constant([*self.sizes.values()], tf.float32)

    @property
    def own_names(self) -> tuple[str, ...]:
        """Names of the first numbers of `Found.own`, before the ages."""
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
        allowed = tf.broadcast_to(allowed, [tf.shape(query)[0], self.count])
        # and nothing may stand in an empty place
        free = tf.pad(tf.cast(allowed, tf.float32), [[0, 0], [0, 1]])
        own = self._own(request)
        mine, weight = self._strongest(own)
        seed_weight, at = tf.math.top_k(weight, min(_SEEDS, self.count))
        seed = tf.gather(mine, at, batch_dims=1)
        links = self._links(seed, seed_weight)
        scores = {F.CO_PURCHASED: self._co_purchased(*links)}
        found = []
        for name, wanted in self.sizes.items():
            if name == F.TWO_TOWER:
                _, position = self.index.search(query, wanted, allowed)
            elif name == F.BUY_AGAIN:
                position = self._best(mine, weight * tf.gather(free, mine, batch_dims=1), wanted)
            elif name == F.CO_PURCHASED:
                position = self._linked(links[0], scores[name] * free, wanted)
            elif name == F.TRENDING:
                position = self._trends(allowed, wanted)
            else:
                scores[name] = self._new_items(query)
                value, position = tf.math.top_k(tf.where(allowed, scores[name], _NONE), wanted)
                position = tf.where(value > _NONE / 2, position, self.count)
            found.append(position)
        together = tf.concat(found, 1)
        rank = self._rank(together)
        position = _distinct(rank.position, self.count) if fixed is None else fixed
        return Found(
            *(position, position < self.count, own, query, seed, seed_weight, scores, rank),
            names=tuple(self.sizes),
            count=self.count,
        )

    def _own(self, request: Mapping[str, tf.Tensor]) -> Some:
        """`Found.own` of a request."""
        events = self.history(request)
        position, age = events["position"], request[F.HISTORY_AGE_DAYS]
        # a place at least, so that there is something to look into
        ascending = tf.pad(tf.sort(position, axis=1), [[0, 0], [0, 1]], constant_values=self.count)
        at, size = places_of(position, ascending), tf.shape(ascending)[1]
        total = segment_sum(events["weights"], at, size)
        real = request["history_row"] > 0
        first = segment_extreme(tf.where(real, age, 0.0), at, size, largest=True)
        last = segment_extreme(tf.where(real, age, _FAR), at, size, largest=False)
        ages = tf.where(total[..., :1] > 0, tf.stack([first, last], -1), 0.0)
        values = tf.concat([total, ages], -1)
        return Some(ascending, values, tf.zeros(values.shape[-1:]))

    def _strongest(self, own: Some) -> tuple[tf.Tensor, tf.Tensor]:
        """Own candidates (int32 [B, M], C between and after them) and their decayed counts (float32
        [B, M], 0 where there is none); at least as many places as any search of them wants.
        """
        mine = _distinct(own.position, self.count)
        weight = tf.where(mine < self.count, own.values[..., self._decay_index], 0.0)
        least = min(max(_SEEDS, self.sizes.get(F.BUY_AGAIN, 0)), self.count)
        missing = [[0, 0], [0, tf.maximum(least - tf.shape(mine)[1], 0)]]
        return tf.pad(mine, missing, constant_values=self.count), tf.pad(weight, missing)

    def _best(self, position: tf.Tensor, value: tf.Tensor, wanted: int) -> tf.Tensor:
        """int32 [B, wanted]: the positions (of int32 [B, M]) with the largest values above 0; C where
        there are no more.
        """
        value, at = tf.math.top_k(value, wanted)
        return tf.where(value > 0, tf.gather(position, at, batch_dims=1), self.count)

    def _linked(self, neighbour: tf.Tensor, score: tf.Tensor, wanted: int) -> tf.Tensor:
        """int32 [B, wanted]: the best of the neighbours (int32 [B, S, M]) by score (float32 [B, C + 1])."""
        batch, entries = tf.shape(neighbour)[0], neighbour.shape[1] * neighbour.shape[2]
        neighbour = tf.reshape(neighbour, [batch, entries])
        # a neighbour of several own items counts where it stands first
        index = tf.repeat(tf.range(entries)[None], batch, 0)
        first = segment_extreme(index, neighbour, self.count + 1, largest=False)
        once = tf.cast(tf.gather(first, neighbour, batch_dims=1) == index, tf.float32)
        value = tf.gather(score, neighbour, batch_dims=1)
        found = self._best(neighbour, once * value, min(wanted, entries))
        return tf.pad(found, [[0, 0], [0, max(wanted - entries, 0)]], constant_values=self.count)

    def _trends(self, allowed: tf.Tensor, wanted: int) -> tf.Tensor:
        """int32 [B, wanted]: what trends most of the allowed candidates (bool [B, C])."""
        # as far as the request with the most exclusions has to look
        free = tf.reduce_sum(tf.cast(allowed, tf.int32), 1)
        reach = tf.clip_by_value(self.count - tf.reduce_min(free) + wanted, wanted, self.count)
        order = self.by_trend[:reach]
        turn = tf.where(tf.gather(allowed, order, axis=1), tf.range(reach, 0, -1), 0)
        turn, at = tf.math.top_k(turn, wanted)
        return tf.where(turn > 0, tf.gather(order, at), self.count)

    def _new_items(self, query: tf.Tensor) -> tf.Tensor:
        """What the two towers say of the new candidates, float32 [B, C]; `_NONE` of all others."""
        score = self.index.score(query, self._new[None])
        return tf.gather(tf.pad(score, [[0, 0], [0, 1]], constant_values=_NONE), self._new_place, axis=1)

    def _co_purchased(self, neighbour: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """Item-based nearest neighbours of the request's strongest items, float32 [B, C + 1]."""
        batch, size = tf.shape(neighbour)[0], self.count + 1
        total = segment_sum(tf.reshape(value, [batch, -1, 1]), tf.reshape(neighbour, [batch, -1]), size)
        return tf.reshape(total, [batch, size])

    def _links(self, seed: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The neighbours of own items (int32 [B, S, M]) and what each adds."""
        value = tf.gather(self._neighbour_weight, seed) * tf.math.log1p(weight)[..., None]
        return tf.gather(self._neighbour, seed), value

    def dense_scores(self, found: Found) -> dict[str, tf.Tensor]:
        """source -> float32 [B, C], before filters; without the two-tower source, whose index scores any
        candidates. For measuring.
        """
        batch = tf.shape(found.query)[0]
        every = tf.repeat(tf.range(self.count)[None], batch, 0)
        scores = {name: values[:, : self.count] for name, values in found.scores.items()}
        return scores | {
            F.BUY_AGAIN: found.own.of(every)[..., self._decay_index],
            F.TRENDING: tf.repeat(self.trending[None], batch, 0),
        }

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

    def _rank(self, found: tf.Tensor) -> Some:
        """`Found.rank` of what the sources found, int32 [B, the sum of their sizes]."""
        sizes = list(self.sizes.values())
        batch, width = tf.shape(found)[0], sum(sizes)
        size = np.repeat(sizes, sizes).astype(np.float32)
        place = np.concatenate([np.arange(size) for size in sizes]).astype(np.float32)
        source = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
        # empty places all point at position C: no rank for it
        rank = tf.where(found < self.count, place, size)
        ascending = tf.sort(found, axis=1)
        at = places_of(found, ascending) * len(sizes) + source
        least = segment_extreme(rank, at, width * len(sizes), largest=False)
        ranked = tf.minimum(tf.reshape(least, [batch, width, len(sizes)]), self._unranked)
        return Some(ascending, ranked, self._unranked)


def _distinct(ascending: tf.Tensor, nothing: int) -> tf.Tensor:
    """int32 [B, M]: ascending positions (int32 [B, M]), with `nothing` where one is repeated."""
    repeated = tf.concat([tf.zeros_like(ascending[:, :1], tf.bool), ascending[:, 1:] == ascending[:, :-1]], 1)
    return tf.where(repeated, nothing, ascending)
