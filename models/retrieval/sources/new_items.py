"""What lately came to the shop, the best by the towers first."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.index.base import NO_SCORE, best_allowed
from models.retrieval.sources.base import Asked, FoundCandidates, Source, SourceTables


class NewItems(Source):
    """Candidates without an event older than `new_days`; arguments as :class:`Source`."""

    def __init__(self, tables: SourceTables, size: int) -> None:
        super().__init__(tables, size)
        snapshot = tables.snapshot
        self._index = tables.index
        new = np.flatnonzero(snapshot.new_within(tables.config.new_days)[snapshot.candidate_row])
        number = np.full(self.count, len(new), np.int32)
        number[new] = np.arange(len(new))
        self._new = frozen_table(new, tf.int32)  # their positions
        self._number = frozen_table(number)  # of each candidate among them; their count where it is not new

    def _scores(self, query: tf.Tensor) -> tf.Tensor:
        """float32 [B, C], dot products of the new candidates; `NO_SCORE` of all others."""
        score = self._index.score(query, self._new[None])
        return tf.gather(tf.pad(score, [[0, 0], [0, 1]], constant_values=NO_SCORE), self._number, axis=1)

    def find(self, asked: Asked) -> tf.Tensor:
        """The new candidates nearest to the request; see the base class."""
        return best_allowed(self._scores(asked.query), asked.allowed, self.size)

    def dense_scores(self, found: FoundCandidates) -> tf.Tensor:
        """Dot products of the new candidates, far below them for all others; see the base class."""
        return self._scores(found.query)
