"""How the vectors of a shop are searched: what CandidateIndex decides and the servable follows."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models.data import arrays


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the vectors are searched.

    Attributes:
      kind: a name of `models.retrieval.index.kinds.INDEXES`.
      centroids: float32 [P, D], unit length, one a list; no rows where a query reads all vectors.
      list_of_row: int32 [V], the list of every row of the item table; empty without lists.
      probes: lists that a query reads; 0 without lists.
    """

    kind: str
    centroids: np.ndarray
    list_of_row: np.ndarray
    probes: int

    @property
    def partitioned(self) -> bool:
        """Whether a query reads a part of the vectors only."""
        return len(self.centroids) > 0

    @classmethod
    def whole(cls, kind: str) -> Plan:
        """A plan of a kind that reads all vectors."""
        return cls(kind, np.zeros((0, 0), np.float32), np.zeros(0, np.int32), 0)

    def save(self, path: str) -> None:
        """Writes the plan as one .npz file."""
        arrays.save(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str) -> Plan:
        """Reads what :meth:`save` wrote."""
        fields = arrays.load(path)
        return cls(**fields | {"kind": str(fields["kind"]), "probes": int(fields["probes"])})


def exact_neighbours(
    vectors: np.ndarray, queries: np.ndarray, k: int, block: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """The true nearest vectors, which indexes are tuned and measured against.

    Args:
      vectors: float32 [N, D].
      queries: float32 [Q, D].
      k: at most N.
      block: queries at a time.

    Returns:
      (dot products float32 [Q, k], indices int32 [Q, k]), best first.
    """
    all_vectors = tf.constant(vectors)
    parts = [
        tf.math.top_k(
            tf.matmul(tf.constant(queries[start : start + block]), all_vectors, transpose_b=True), k
        )
        for start in range(0, len(queries), block)
    ]
    return tuple(np.concatenate([part[which].numpy() for part in parts]) for which in (0, 1))
