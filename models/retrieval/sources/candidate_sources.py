"""Candidate sources: what may be worth ranking for a request, from stock TensorFlow ops.

What is known of a few candidates only (a request's own items, what the sources found) is kept
for those (`SparseValues`): a catalogue of a million items costs little more than one of thousands.
Only scores of co-purchased items are dense over the C candidates. A history event of an item that is
no candidate falls into position C.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.event_types import ALIKE, EventTypes
from models.data.frozen import frozen_table
from models.retrieval.index.kinds import build_index
from models.retrieval.index.plan import Plan
from models.retrieval.promotions import PromotionCalendar
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.base import Asked, FoundCandidates, Source, SourceTables, SparseValues
from models.retrieval.sources.buy_again import BuyAgain
from models.retrieval.sources.co_purchased import CoPurchased
from models.retrieval.sources.new_items import NewItems
from models.retrieval.sources.own_events import COUNTS, INTEREST, LOOKED, OPEN, OwnEvents
from models.retrieval.sources.planned import Planned
from models.retrieval.sources.segments import distinct, segment_extreme, slots_of
from models.retrieval.sources.trending import Trending
from models.retrieval.sources.two_tower import TwoTower
from models.retrieval.sources.viewed import Viewed
from schema import names as F
from schema.config import Candidates

# In this order: an item that several sources rank equally high is claimed by the first of them. The
# setting `candidates.<name>` says how many candidates a source gives.
SOURCES: dict[str, type[Source]] = {
    F.BUY_AGAIN: BuyAgain,
    F.CO_PURCHASED: CoPurchased,
    F.TWO_TOWER: TwoTower,
    F.TRENDING: Trending,
    F.NEW_ITEMS: NewItems,
    F.PLANNED: Planned,
    F.VIEWED: Viewed,
}
_SEEDS = 100  # own candidates whose neighbours are looked up


class CandidateSources(tf.Module):
    """All candidate sources of a request, in the order of `SOURCES`.

    Args:
      snapshot: item tables.
      item_vectors: float32 [V, D] variable, the search vectors of all rows.
      plan: how they are searched.
      config: how many candidates each source gives; a source with 0 is off.
      types: what the shop's types of event mean.

    Attributes:
      count: C.
      types: the argument.
      candidate_row: int32 [C + 1] variable, item row of each position; 0 of position C.
      row_candidate: int32 [V] variable, position of each item row; C where it is no candidate.
      index: the search over the candidates' vectors.
      sizes: source -> candidates that it gives, of the sources that are on.
      trending: float32 [C] variable, how much each candidate trends.
      calendar: the chain's promotions by the moment of the request.
      by_trend: int32 [C] variable, positions by descending trend.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        item_vectors: tf.Variable,
        plan: Plan,
        config: Candidates,
        types: EventTypes = ALIKE,
    ) -> None:
        super().__init__(name="candidate_sources")
        self.types = types
        self.count = len(snapshot.candidate_row)
        self.candidate_row = frozen_table(np.append(snapshot.candidate_row, 0), tf.int32)
        self.row_candidate = frozen_table(snapshot.row_candidate, tf.int32)
        self.index = build_index(item_vectors, snapshot.candidate_row, plan)
        self.calendar = PromotionCalendar(snapshot.promotions, snapshot.as_of)
        tables = SourceTables(snapshot, self.calendar, self.index, config, types)
        sources = {
            name: source(tables, min(getattr(config, name), self.count)) for name, source in SOURCES.items()
        }
        # the features, the reasons and `similar` read these two, on or off
        co_purchased, trending = sources[F.CO_PURCHASED], sources[F.TRENDING]
        assert isinstance(co_purchased, CoPurchased)
        assert isinstance(trending, Trending)
        self._co_purchased, self.trending, self.by_trend = co_purchased, trending.score, trending.order
        self._on = {name: source for name, source in sources.items() if source.size}
        self.sizes = {name: source.size for name, source in self._on.items()}
        self._own = OwnEvents(self.row_candidate, self.count, types)
        # every search of own candidates finds as many slots as it wants
        self._own_slots = min(max([_SEEDS, *(each.own_slots for each in self._on.values())]), self.count)
        self._unranked = tf.constant([*self.sizes.values()], tf.float32)

    @property
    def own_names(self) -> tuple[str, ...]:
        """Names of the first numbers of `FoundCandidates.own`, before the ages."""
        return COUNTS

    @property
    def ranks_of(self) -> tuple[str, ...]:
        """Sources that are on, in a fixed order."""
        return tuple(self.sizes)

    @tf.Module.with_name_scope
    def __call__(
        self,
        request: Mapping[str, tf.Tensor],
        query: tf.Tensor,
        allowed: tf.Tensor,
        fixed: tf.Tensor | None = None,
    ) -> FoundCandidates:
        """Finds candidates.

        Args:
          request: from `RequestParser`.
          query: float32 [B, D], the query tower's vectors.
          allowed: bool [B, C] (or [1, C]), candidates that filters and exclusions let through.
          fixed: int32 [B, N], positions to describe instead of searching (signature `rank`).

        Returns:
          The candidates; each occurs once in a list.
        """
        allowed = tf.broadcast_to(allowed, [tf.shape(query)[0], self.count])
        # and nothing may stand in an empty slot
        free = tf.pad(tf.cast(allowed, tf.float32), [[0, 0], [0, 1]])
        own, events = self._own(request)
        mine, weight = self._own.strengths(own, self._own_slots)
        looked, after, open_weight = None, weight, None
        if self.types.others:
            looked = self._own.looked(request, own)
            _, after = self._own.strengths(looked, self._own_slots, LOOKED.index(INTEREST))
            _, open_weight = self._own.strengths(looked, self._own_slots, LOOKED.index(OPEN))
        seed_weight, slot = tf.math.top_k(after, min(_SEEDS, self.count))
        seed = tf.gather(mine, slot, batch_dims=1)
        neighbour, value = self._co_purchased.links(seed, seed_weight)
        co_purchased = self._co_purchased.scores(neighbour, value)
        asked = Asked(
            query, allowed, free, mine, weight, neighbour, co_purchased, request["now"], open_weight
        )
        rank = self._rank(tf.concat([source.find(asked) for source in self._on.values()], 1))
        position = distinct(rank.position, self.count) if fixed is None else fixed
        return FoundCandidates(
            position=position,
            valid=position < self.count,
            events=events,
            own=own,
            query=query,
            seed=seed,
            seed_weight=seed_weight,
            scores={F.CO_PURCHASED: co_purchased},
            rank=rank,
            names=tuple(self.sizes),
            count=self.count,
            looked=looked,
        )

    def dense_scores(self, found: FoundCandidates) -> dict[str, tf.Tensor]:
        """source -> float32 [B, C], before filters, of the sources that are on and score every
        candidate. For measuring.
        """
        scores = {name: source.dense_scores(found) for name, source in self._on.items()}
        return {name: score for name, score in scores.items() if score is not None}

    def strongest_link(self, found: FoundCandidates, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The own item that speaks most for each candidate; see :meth:`CoPurchased.strongest_link`."""
        return self._co_purchased.strongest_link(found, position)

    def _rank(self, found: tf.Tensor) -> SparseValues:
        """`FoundCandidates.rank` of what the sources found, int32 [B, the sum of their sizes]."""
        sizes = list(self.sizes.values())
        batch, width = tf.shape(found)[0], sum(sizes)
        size = np.repeat(sizes, sizes).astype(np.float32)
        turn = np.concatenate([np.arange(size) for size in sizes]).astype(np.float32)
        source = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
        # empty slots all point at position C: no rank for it
        rank = tf.where(found < self.count, turn, size)
        ascending = tf.sort(found, axis=1)
        segment = slots_of(found, ascending) * len(sizes) + source
        least = segment_extreme(rank, segment, width * len(sizes), largest=False)
        ranked = tf.minimum(tf.reshape(least, [batch, width, len(sizes)]), self._unranked)
        return SparseValues(ascending, ranked, self._unranked)
