"""The kinds of index, and which of them searches a shop's vectors."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.retrieval.index.base import VectorIndex
from models.retrieval.index.exact import ExactIndex
from models.retrieval.index.int8 import Int8Index
from models.retrieval.index.ivf import IvfIndex, IvfInt8Index, share_read
from models.retrieval.index.plan import Plan

# The setting `candidates.index` takes one of these names, or "auto".
INDEXES: dict[str, type[VectorIndex]] = {
    "exact": ExactIndex,
    "int8": Int8Index,
    "ivf": IvfIndex,
    "ivf_int8": IvfInt8Index,
}
KINDS = tuple(INDEXES)
# Fewer candidates than this are searched as fast by one matrix product (`make benchmark-index`).
EXACT_BELOW = 50_000
# Vectors that do not lie in clusters make a query read most lists: above this share of them,
# "auto" takes the exact search.
_MOST_READ = 0.25


def build_index(vectors: tf.Variable, candidate_row: np.ndarray, plan: Plan) -> VectorIndex:
    """The index of a plan; arguments as :class:`VectorIndex`."""
    return INDEXES[plan.kind](vectors, candidate_row, plan)


def make_plan(
    kind: str, vectors: np.ndarray, candidate_row: np.ndarray, queries: np.ndarray, k: int, recall: float
) -> Plan:
    """Chooses the index and how many lists a query reads.

    Args:
      kind: one of `KINDS`, or "auto": exact below `EXACT_BELOW` candidates and where a partition does
        not pay, else ivf.
      vectors: float32 [V, D], of all rows.
      candidate_row: int32 [C], the item rows that are searched.
      queries: float32 [Q, D], a sample of real ones.
      k, recall: a query reads the fewest lists with which this share of the k nearest vectors is found.

    Returns:
      The plan.
    """
    arguments = vectors, candidate_row, queries, k, recall
    if kind != "auto":
        return INDEXES[kind].plan(kind, *arguments)
    if len(candidate_row) >= EXACT_BELOW:
        plan = make_plan("ivf", *arguments)
        if share_read(plan, candidate_row, queries) <= _MOST_READ:
            return plan
    return Plan.whole("exact")
