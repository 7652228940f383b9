"""What a request's history says of the candidates in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.event_types import ALIKE, EventTypes
from models.retrieval.sources.base import SparseValues
from models.retrieval.sources.segments import distinct, segment_extreme, segment_sum, slots_of
from schema import names as F

DECAY_DAYS = (14.0, 45.0, 90.0, 180.0)  # half-lives of the decayed counts
# Names of an own candidate's numbers, before the ages of its first and of its last event.
COUNTS = ("count", *(f"decay_{int(days)}" for days in DECAY_DAYS))
STRENGTH = COUNTS.index("decay_90")  # the number that own candidates are compared by
# Of what was viewed and not bought, before two numbers for each type of event: how many, and the age of the
# last one. Both sums weigh an event by its type: of all events (which items the user is after), and of those
# since the last purchase of the item.
INTEREST, OPEN = "interest", "open"
LOOKED = (INTEREST, OPEN)
OPEN_DAYS = 14.0  # half-life of the second
_STRENGTH_DAYS = DECAY_DAYS[COUNTS.index("decay_90") - 1]
_FAR = 1e9


class OwnEvents(tf.Module):
    """Reads the histories of requests.

    Args:
      row_candidate: int32 [V] variable, position of each item row; C where it is no candidate.
      count: C.
      types: which events are purchases; the others are read by :meth:`looked`.
    """

    def __init__(self, row_candidate: tf.Variable, count: int, types: EventTypes = ALIKE) -> None:
        super().__init__(name="own_events")
        self._row_candidate = row_candidate
        self._count = count
        self._types = types

    @tf.Module.with_name_scope
    def history(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Position and weights of the request's events.

        Returns:
          `position` int32 [B, L], C for padding and for what is no candidate; `weights` float32
          [B, L, 1 + decays], 1 and the decayed counts, 0 for padding and for what is no purchase.
        """
        row = request["history_row"]
        mask = tf.cast(self._types.purchases(request), tf.float32)
        age = request[F.HISTORY_AGE_DAYS]
        # Items of one basket have equal scores and must tie in every batch: float32 `exp` rounds
        # differently by place in the batch, float64 does so far below what float32 keeps.
        exact = -np.log(2.0) * tf.cast(age, tf.float64)[..., None]
        decayed = tf.cast(tf.exp(exact / tf.constant(DECAY_DAYS, tf.float64)), tf.float32)
        mask = mask[..., None]
        weights = tf.concat([mask, mask * decayed], -1)
        return {"position": tf.gather(self._row_candidate, row), "weights": weights}

    @tf.Module.with_name_scope
    def __call__(self, request: Mapping[str, tf.Tensor]) -> tuple[SparseValues, dict[str, tf.Tensor]]:
        """`FoundCandidates.own` and `FoundCandidates.events` of requests."""
        events = self.history(request)
        position, age = events["position"], request[F.HISTORY_AGE_DAYS]
        # at least one slot, so that there is something to look into
        ascending = tf.pad(tf.sort(position, axis=1), [[0, 0], [0, 1]], constant_values=self._count)
        slot, size = slots_of(position, ascending), tf.shape(ascending)[1]
        total = segment_sum(events["weights"], slot, size)
        real = self._types.purchases(request)
        first = segment_extreme(tf.where(real, age, 0.0), slot, size, largest=True)
        last = segment_extreme(tf.where(real, age, _FAR), slot, size, largest=False)
        ages = tf.where(total[..., :1] > 0, tf.stack([first, last], -1), 0.0)
        values = tf.concat([total, ages], -1)
        events["first"] = tf.gather(ages[..., 0], slot, batch_dims=1)
        return SparseValues(ascending, values, tf.zeros(values.shape[-1:])), events

    @tf.Module.with_name_scope
    def looked(self, request: Mapping[str, tf.Tensor], own: SparseValues) -> SparseValues:
        """`FoundCandidates.looked` of requests.

        An event is *open* if its item was not bought since: what is bought in the same moment is a
        purchase with its views.

        Args:
          request: from `RequestParser`.
          own: from :meth:`__call__`.
        """
        types, age = self._types, request[F.HISTORY_AGE_DAYS]
        real, size = request["history_row"] > 0, tf.shape(own.position)[1]
        slot = slots_of(tf.gather(self._row_candidate, request["history_row"]), own.position)
        weight = types.weights(request)
        weight = tf.cast(real, tf.float32) if weight is None else tf.where(real, weight, 0.0)
        bought = types.purchases(request)
        last = segment_extreme(tf.where(bought, age, _FAR), slot, size, largest=False)
        is_open = real & ~bought & (age < tf.gather(last, slot, batch_dims=1))
        # as exact as the decayed counts, and for the same reason
        exact = tf.cast(age, tf.float64)
        decays = [
            tf.cast(tf.exp(exact * (-np.log(2.0) / days)), tf.float32) for days in (_STRENGTH_DAYS, OPEN_DAYS)
        ]
        summed = [weight * decays[0], tf.where(is_open, weight * decays[1], 0.0)]
        code = request[F.HISTORY_EVENT_TYPE]
        of_type = [is_open & tf.gather(types.codes(name), code) for name in types.others]
        summed += [tf.cast(each, tf.float32) for each in of_type]
        total = segment_sum(tf.stack(summed, -1), slot, size)
        columns = [total[..., : len(LOOKED)]]
        for place, each in enumerate(of_type, len(LOOKED)):
            youngest = segment_extreme(tf.where(each, age, _FAR), slot, size, largest=False)
            counted = total[..., place]
            columns.append(tf.stack([counted, tf.where(counted > 0, youngest, 0.0)], -1))
        values = tf.concat(columns, -1)
        return SparseValues(own.position, values, tf.zeros(values.shape[-1:]))

    @tf.Module.with_name_scope
    def strengths(self, own: SparseValues, least: int, column: int = STRENGTH) -> tuple[tf.Tensor, tf.Tensor]:
        """Own candidates and their strength, each candidate once.

        Args:
          own: from :meth:`__call__` or :meth:`looked`.
          least: slots that the result has at least.
          column: the number that is the strength.

        Returns:
          (int32 [B, M] positions, C between and after them; float32 [B, M] decayed counts, 0 where
          the slot is empty).
        """
        mine = distinct(own.position, self._count)
        weight = tf.where(mine < self._count, own.values[..., column], 0.0)
        missing = [[0, 0], [0, tf.maximum(least - tf.shape(mine)[1], 0)]]
        return tf.pad(mine, missing, constant_values=self._count), tf.pad(weight, missing)
