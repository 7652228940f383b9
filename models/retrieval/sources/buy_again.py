"""What the user already had, the most and latest events first."""

from __future__ import annotations

import tensorflow as tf

from models.retrieval.sources.base import Asked, FoundCandidates, Source
from models.retrieval.sources.own_events import STRENGTH


class BuyAgain(Source):
    """Own candidates by decayed count of events; arguments as :class:`Source`."""

    @property
    def own_slots(self) -> int:
        """As many as are wanted; see the base class."""
        return self.size

    def find(self, asked: Asked) -> tf.Tensor:
        """The strongest own candidates; see the base class."""
        free = tf.gather(asked.free, asked.own, batch_dims=1)
        return self.best(asked.own, asked.own_weight * free, self.size)

    def dense_scores(self, found: FoundCandidates) -> tf.Tensor:
        """Decayed counts of events; see the base class."""
        return found.own.of(found.every_position())[..., STRENGTH]
