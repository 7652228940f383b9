"""What sells most now: the same for everybody."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.sources.base import Asked, FoundCandidates, Source, SourceTables


class Trending(Source):
    """Candidates by recent events; arguments as :class:`Source`.

    The signature `similar` falls back to its list, so it is there even where it is off.

    Attributes:
      score: float32 [C] variable, events in the last `trending_days`, and a fraction of one for
        all-time popularity.
      order: int32 [C] variable, positions by descending score.
    """

    def __init__(self, tables: SourceTables, size: int) -> None:
        super().__init__(tables, size)
        snapshot = tables.snapshot
        # all-time popularity breaks ties, so that the list is full on a quiet day
        score = snapshot.trending + snapshot.popularity / (snapshot.popularity.max() + 1)
        self.score = frozen_table(score, tf.float32)
        # a tie goes to the first candidate, as `top_k` does it
        self.order = frozen_table(np.argsort(-self.score.numpy(), kind="stable"), tf.int32)

    def find(self, asked: Asked) -> tf.Tensor:
        """What trends most of the allowed candidates; see the base class."""
        # as far down the list as the request with the most exclusions has to look
        free = tf.reduce_sum(tf.cast(asked.allowed, tf.int32), 1)
        reach = tf.clip_by_value(self.count - tf.reduce_min(free) + self.size, self.size, self.count)
        order = self.order[:reach]
        turn = tf.where(tf.gather(asked.allowed, order, axis=1), tf.range(reach, 0, -1), 0)
        turn, slot = tf.math.top_k(turn, self.size)
        return tf.where(turn > 0, tf.gather(order, slot), self.count)

    def dense_scores(self, found: FoundCandidates) -> tf.Tensor:
        """:attr:`score`, for every request; see the base class."""
        return tf.repeat(self.score[None], tf.shape(found.query)[0], 0)
