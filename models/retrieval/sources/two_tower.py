"""What the towers and the collaborative vectors find nearest to the request."""

from __future__ import annotations

import tensorflow as tf

from models.retrieval.sources.base import Asked, Source, SourceTables


class TwoTower(Source):
    """The nearest candidates by dot product; arguments as :class:`Source`.

    The index scores the candidates that it compares, so there are no dense scores.
    """

    def __init__(self, tables: SourceTables, size: int) -> None:
        super().__init__(tables, size)
        self._index = tables.index

    def find(self, asked: Asked) -> tf.Tensor:
        """The index's nearest candidates; see the base class."""
        return self._index.search(asked.query, self.size, asked.allowed)[1]
