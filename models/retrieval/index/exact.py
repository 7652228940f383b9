"""Exact search: one matrix product with all vectors."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.index.base import VectorIndex, best_allowed
from models.retrieval.index.plan import Plan


class ExactIndex(VectorIndex):
    """Compares a query with every vector; arguments as :class:`VectorIndex`."""

    def __init__(self, vectors: tf.Variable, candidate_row: np.ndarray, plan: Plan) -> None:
        super().__init__(vectors, candidate_row, plan)
        # one column a vector: a query's product reads that faster than rows
        self._columns = frozen_table(vectors.numpy()[candidate_row].T)

    def nominate(self, query: tf.Tensor, k: int, allowed: tf.Tensor) -> tf.Tensor:
        """The true nearest candidates; see the base class."""
        return best_allowed(tf.matmul(query, self._columns), allowed, k)
