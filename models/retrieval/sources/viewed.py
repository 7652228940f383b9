"""What the user viewed or put in the cart and has not bought since, the most and latest first."""

from __future__ import annotations

import tensorflow as tf

from models.retrieval.sources.base import Asked, FoundCandidates, Source, SourceTables
from models.retrieval.sources.own_events import LOOKED, OPEN


class Viewed(Source):
    """Own candidates by the decayed, weighted count of open events; arguments as :class:`Source`.

    Off in a shop whose every event is a purchase.
    """

    def __init__(self, tables: SourceTables, size: int) -> None:
        super().__init__(tables, size if tables.types.others else 0)

    @property
    def own_slots(self) -> int:
        """As many as are wanted; see the base class."""
        return self.size

    def find(self, asked: Asked) -> tf.Tensor:
        """The own candidates that the user is most after; see the base class."""
        assert asked.open_weight is not None
        free = tf.gather(asked.free, asked.own, batch_dims=1)
        return self.best(asked.own, asked.open_weight * free, self.size)

    def dense_scores(self, found: FoundCandidates) -> tf.Tensor:
        """Decayed, weighted counts of open events; see the base class."""
        assert found.looked is not None
        return found.looked.of(found.every_position())[..., LOOKED.index(OPEN)]
