"""What a request's history says of items, from the request alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import tensorflow as tf

from models.funnel.calendar import MOST_DAYS
from schema import names as F

_FAR = 1e9


class OwnHistory:
    """The history of a batch of requests; computed when first asked for. L events a request.

    Args:
      request: from `RequestParser`.
      bought: bool [event types], which event type codes mean "bought".
    """

    def __init__(self, request: Mapping[str, tf.Tensor], bought: tf.Tensor) -> None:
        self._request, self._bought = request, bought

    @functools.cached_property
    def is_event(self) -> tf.Tensor:
        """bool [B, L]: which places of the history hold an event of an item of the catalogue."""
        return self._request["history_row"] > 0

    @functools.cached_property
    def purchases(self) -> dict[str, tf.Tensor]:
        """Purchases by item and age, so that neighbours tell intervals: `row` int32 [B, L] (0 for
        other events), `age` float32 [B, L] and `sums` float32 [B, L, 4], what each adds to the
        occasions, the intervals, their days and their squares.
        """
        only = tf.where(self._is_purchase, self._request["history_row"], 0)
        age = self._request[F.HISTORY_AGE_DAYS]
        # oldest first within an item; float64 holds row and age in one number exactly enough
        key = tf.cast(only, tf.float64) * (MOST_DAYS + 1) - tf.cast(age, tf.float64)
        order = tf.argsort(key, 1)
        only, days = tf.gather(only, order, batch_dims=1), tf.gather(age, order, batch_dims=1)
        again = tf.pad((only[:, 1:] == only[:, :-1]) & (only[:, 1:] > 0), [[0, 0], [1, 0]])
        interval = tf.where(again, tf.pad(days[:, :-1] - days[:, 1:], [[0, 0], [1, 0]]), 0.0)
        # lines of one basket have one age: they are one occasion
        later = interval > 0
        occasion = (only > 0) & (later | ~again)
        sums = [occasion, later, interval, interval * interval]
        return {
            "row": only,
            "age": days,
            "sums": tf.stack([tf.cast(values, tf.float32) for values in sums], -1),
        }

    def of(self, row: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the history says of items (int32 [B, K] rows, 0 for none), float32 [B, K] each.

        `occasions` on which it was bought, age of the `last` one, number of `intervals` between
        them, their mean `interval` and `spread` (standard deviation) in days, and the age at
        which it was last `seen` without being bought.
        """
        purchases = self.purchases
        hit = (purchases["row"][:, None] == row[:, :, None]) & (row > 0)[:, :, None]
        sums = tf.unstack(tf.matmul(tf.cast(hit, tf.float32), purchases["sums"]), axis=-1)
        occasions, intervals, total, squares = sums
        mean = total / tf.maximum(intervals, 1.0)
        variance = tf.maximum(squares / tf.maximum(intervals, 1.0) - mean * mean, 0.0)
        seen_row = tf.where(self._is_purchase, 0, self._request["history_row"])
        seen = (seen_row[:, None] == row[:, :, None]) & (row > 0)[:, :, None]
        seen_age = self._request[F.HISTORY_AGE_DAYS]
        return {
            "occasions": occasions,
            "intervals": intervals,
            "interval": mean,
            "spread": tf.sqrt(variance),
            "last": tf.reduce_min(tf.where(hit, purchases["age"][:, None], _FAR), -1),
            "seen": tf.reduce_min(tf.where(seen, seen_age[:, None], _FAR), -1),
        }

    @functools.cached_property
    def _is_purchase(self) -> tf.Tensor:
        """bool [B, L]."""
        return tf.gather(self._bought, self._request[F.HISTORY_EVENT_TYPE]) & self.is_event
