"""What a source of candidates is: what it is built from, what it is asked, and what all have found.

Shapes: B requests, C candidates, D dimensions of a vector, M own candidates, N slots of a list, S seeds
(docs/glossary.md).
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from models.data.event_types import ALIKE, EventTypes
from models.retrieval.index.base import VectorIndex
from models.retrieval.promotions import PromotionCalendar
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.segments import slots_of
from schema.config import Candidates


@dataclasses.dataclass(frozen=True)
class SparseValues:
    """Numbers of a few candidates of each request; all other candidates share one set of numbers.

    Attributes:
      position: int32 [B, M], ascending; the first slot of a position holds its numbers.
      values: float32 [B, M, F].
      otherwise: float32 [F], of all other positions.
    """

    position: tf.Tensor
    values: tf.Tensor
    otherwise: tf.Tensor

    def of(self, position: tf.Tensor) -> tf.Tensor:
        """float32 [B, N, F], the numbers of positions (int32 [B, N])."""
        slot = slots_of(position, self.position)
        known = tf.cast(tf.gather(self.position, slot, batch_dims=1) == position, tf.float32)[..., None]
        # a product is several times faster than `where`, and exact with 0 and 1
        return self.otherwise + known * (tf.gather(self.values, slot, batch_dims=1) - self.otherwise)


@dataclasses.dataclass(frozen=True)
class FoundCandidates:
    """Candidates of a batch of requests, with what the sources knew about them.

    Attributes:
      position: int32 [B, N], position among the candidates; C where the slot is empty.
      valid: bool [B, N], whether the slot holds a candidate.
      events: of the request's events, `position` int32 [B, L] and `weights` float32 [B, L, 1 + decays] (see
        :meth:`OwnEvents.history`), and `first` float32 [B, L], age in days of the first one of its candidate.
      own: 1 + decays + 2 numbers of own candidates: purchases, decayed purchases, age in days of the first
        and of the last one (both 0 where there is none).
      query: float32 [B, D], the query tower's vectors.
      seed: int32 [B, S], positions of the strongest own candidates, bought or viewed; C where there are no
        more.
      seed_weight: float32 [B, S], their decayed counts, each event by the weight of its type.
      scores: "co_purchased" -> float32 [B, C + 1], before filters; 0 at position C.
      rank: for each source that is on, the rank (from 0) of what it returned; its size for all
        other candidates.
      names: the sources that are on, in the order of `rank`.
      count: C.
      looked: numbers of candidates that were viewed (see :meth:`OwnEvents.looked`); None in a shop whose
        every event is a purchase.
    """

    position: tf.Tensor
    valid: tf.Tensor
    events: dict[str, tf.Tensor]
    own: SparseValues
    query: tf.Tensor
    seed: tf.Tensor
    seed_weight: tf.Tensor
    scores: dict[str, tf.Tensor]
    rank: SparseValues
    names: tuple[str, ...]
    count: int
    looked: SparseValues | None = None

    def every_position(self) -> tf.Tensor:
        """int32 [B, C], the positions of all candidates; for measuring."""
        return tf.repeat(tf.range(self.count)[None], tf.shape(self.query)[0], 0)

    def ranks(self) -> dict[str, tf.Tensor]:
        """source -> float32 [B, C], ranks of all candidates; for measuring."""
        ranks = tf.unstack(self.rank.of(self.every_position()), axis=-1)
        return dict(zip(self.names, ranks, strict=True))

    def without_empty_places(self) -> FoundCandidates:
        """The same candidates in the same order, in as many slots as the fullest list needs.

        What several sources found, and what they did not find, leaves slots empty: a third of
        them for a shop's regulars, and the ranker would work for them all the same.
        """
        count = tf.reduce_sum(tf.cast(self.valid, tf.int32), 1)
        # a list without any slot could not be arranged
        slots = tf.maximum(tf.reduce_max(count), 1)
        # an empty slot has the largest position
        position = tf.sort(self.position, axis=1)[:, :slots]
        return dataclasses.replace(self, position=position, valid=tf.range(slots) < count[:, None])


@dataclasses.dataclass(frozen=True)
class SourceTables:
    """What sources are built from.

    Attributes:
      snapshot: item tables as of one moment.
      calendar: the promotions by the moment of a request.
      index: the search over the candidates' vectors.
      config: the configuration's section.
      types: what the shop's types of event mean.
    """

    snapshot: Snapshot
    calendar: PromotionCalendar
    index: VectorIndex
    config: Candidates
    types: EventTypes = ALIKE


@dataclasses.dataclass(frozen=True)
class Asked:
    """What sources may look at: a batch of requests, looked up once for all of them.

    Attributes:
      query: float32 [B, D], the query tower's vectors.
      allowed: bool [B, C], candidates that filters and exclusions let through.
      free: float32 [B, C + 1], `allowed` as 1 and 0; position C, an empty slot, is never free.
      own: int32 [B, M], own candidates, bought or viewed; C between and after them.
      own_weight: float32 [B, M], their decayed counts; 0 where the slot is empty.
      neighbour: int32 [B, S, K], items bought together with the strongest own candidates.
      co_purchased: float32 [B, C + 1], how much they speak for each candidate.
      now: int64 [B], unix seconds; 0 = unknown.
      open_weight: float32 [B, M], decayed counts of what was viewed and not bought since; None in a shop
        whose every event is a purchase.
    """

    query: tf.Tensor
    allowed: tf.Tensor
    free: tf.Tensor
    own: tf.Tensor
    own_weight: tf.Tensor
    neighbour: tf.Tensor
    co_purchased: tf.Tensor
    now: tf.Tensor
    open_weight: tf.Tensor | None = None


class Source(tf.Module):
    """One way to find candidates worth ranking; a subclass gives :meth:`find`.

    Sources are tf.Modules, so that the tables they make are found by those who save them.

    Args:
      tables: what it is built from.
      size: candidates that it gives, at most C; 0 where it is off and never asked.

    Attributes:
      count: C.
      size: see above.
    """

    def __init__(self, tables: SourceTables, size: int) -> None:
        super().__init__()
        self.count = tables.index.count
        self.size = size

    @property
    def own_slots(self) -> int:
        """The least number of slots that `Asked.own` must have for this source."""
        return 0

    def find(self, asked: Asked) -> tf.Tensor:
        """int32 [B, size], positions of allowed candidates, best first; C where there are no more."""
        raise NotImplementedError

    def dense_scores(self, found: FoundCandidates) -> tf.Tensor | None:
        """float32 [B, C], what :meth:`find` ranks by, before filters; for measuring. None where there
        is no score of every candidate.
        """
        return None

    def best(self, position: tf.Tensor, value: tf.Tensor, wanted: int) -> tf.Tensor:
        """The positions with the largest values above 0.

        Args:
          position: int32 [B, M].
          value: float32 [B, M].
          wanted: at most M.

        Returns:
          int32 [B, wanted], best first; C where there are no more.
        """
        value, slot = tf.math.top_k(value, wanted)
        return tf.where(value > 0, tf.gather(position, slot, batch_dims=1), self.count)
