"""What the chain promotes in the weeks that the request knows, by what the user buys of its kind."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.sources.base import Asked, Source, SourceTables
from models.retrieval.sources.segments import segment_sum

_UNKNOWN = 0.1  # what a kind counts that the user never bought of: without a history, sales decide


class Planned(Source):
    """Promoted candidates by weeks x usual lines under promotion x what the user bought of their kind.

    Arguments as :class:`Source`. Only candidates that are promoted at or after the moment of the tables are
    looked at.
    """

    def __init__(self, tables: SourceTables, size: int) -> None:
        super().__init__(tables, size)
        self._calendar, snapshot = tables.calendar, tables.snapshot
        known, row = snapshot.promotions, snapshot.candidate_row
        if not known.channels:
            self.size = 0
            return
        weeks = known.weeks[row, 0]
        position = np.flatnonzero(weeks >> max(known.current - 1, 0))
        lines = np.log1p(known.base * known.lift)[row[position]]
        kind = known.kind[row]
        # one entry at least: there is something to look into
        self._position = frozen_table(np.append(position, self.count), tf.int32)
        self._weeks = frozen_table(np.append(weeks[position], 0), tf.int64)
        self._lines = frozen_table(np.append(lines, 0), tf.float32)
        self._kind = frozen_table(np.append(kind[position], 0), tf.int32)
        self._kind_of = frozen_table(np.append(kind, 0), tf.int32)  # of every position
        self._kinds = int(known.kind.max(initial=0)) + 1

    def find(self, asked: Asked) -> tf.Tensor:
        """The promoted candidates with the largest products; see the base class."""
        span = self._calendar.span_bits(self._calendar.week(asked.now))[:, -1:]
        weeks = tf.cast(tf.raw_ops.PopulationCount(x=self._weeks[None] & span), tf.float32)
        kind = tf.gather(self._kind_of, asked.own)
        bought = segment_sum(asked.own_weight[..., None], kind, self._kinds)[..., 0]
        # code 0 is no kind
        bought *= tf.cast(tf.range(self._kinds) > 0, tf.float32)
        affinity = tf.gather(_UNKNOWN + tf.math.log1p(bought), self._kind, axis=1)
        value = weeks * self._lines * affinity * tf.gather(asked.free, self._position, axis=1)
        wanted = min(self.size, self._position.shape[0])
        value, slot = tf.math.top_k(value, wanted)
        found = tf.where(value > 0, tf.gather(self._position, slot), self.count)
        return tf.pad(found, [[0, 0], [0, self.size - wanted]], constant_values=self.count)
