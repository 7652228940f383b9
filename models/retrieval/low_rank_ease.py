"""EASE without a dense matrix of items x items or users x items: its cost is linear in the events.

EASE (Steck, WWW 2019) needs P = (G + lambda I)^-1 of the items' co-occurrence G. Here G is taken as its K
largest eigenvectors and a diagonal that holds what they leave of it, G ~ V S V^T + diag(e). With
D = diag(e + lambda), Woodbury's identity gives

    P = D^-1 - D^-1 V (S^-1 + V^T D^-1 V)^-1 V^T D^-1,

of which only a K x K matrix is inverted, and which is applied to a vector in O(C K). Directions that are
weaker than the ridge hardly change P, so K may be far below C. The singular vectors of the histories' scores
then come from a randomised range finder on products alone (Halko, Martinsson and Tropp, "Finding structure
with randomness", SIAM Review 2011, algorithms 4.4 and 5.1).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sp
from sklearn.utils.extmath import randomized_svd

_OVERSAMPLING = 10


@dataclasses.dataclass(frozen=True)
class LowRankEase:
    """EASE's item-item matrix B as a map.

    Attributes:
      half: float64 [C, K]; P = diag(diagonal) - half @ half^T.
      diagonal: float64 [C].
    """

    half: np.ndarray
    diagonal: np.ndarray

    @classmethod
    def of_histories(cls, history: sp.csr_matrix, regularization: float, spectrum: int) -> LowRankEase:
        """B for G = X^T X.

        Args:
          history: [U, C], X.
          regularization: lambda.
          spectrum: K.
        """
        rank = min(spectrum, *history.shape)
        _, size, right = randomized_svd(history, rank, n_iter=4, random_state=0)
        total = np.asarray(history.multiply(history).sum(0)).ravel()
        return cls._of(right.T, size**2, total, regularization)

    @classmethod
    def of_gram(cls, gram: sp.csr_matrix, regularization: float, spectrum: int) -> LowRankEase:
        """B for a positive semi-definite G, [C, C].

        Args:
          gram: G.
          regularization: lambda.
          spectrum: K.
        """
        rank = min(spectrum, gram.shape[0])
        _, size, right = randomized_svd(gram, rank, n_iter=4, random_state=0)
        return cls._of(right.T, size, gram.diagonal(), regularization)

    @classmethod
    def _of(
        cls, vectors: np.ndarray, size: np.ndarray, total: np.ndarray, regularization: float
    ) -> LowRankEase:
        kept = size > 1e-9 * max(size.max(initial=0.0), 1e-30)
        vectors, size = vectors[:, kept].astype(np.float64), size[kept].astype(np.float64)
        left = np.maximum(total - (vectors**2) @ size, 0.0)
        inverse = 1 / (left + regularization)
        scaled = vectors * inverse[:, None]
        # S^-1 + V^T D^-1 V = L L^T, and half = D^-1 V L^-T
        lower = np.linalg.cholesky(np.diag(1 / size) + vectors.T @ scaled)
        return cls(np.linalg.solve(lower, scaled.T).T, inverse)

    @property
    def _precision(self) -> np.ndarray:
        """The diagonal of P, float64 [C]."""
        return self.diagonal - np.einsum("ck,ck->c", self.half, self.half)

    def _times(self, values: np.ndarray) -> np.ndarray:
        """P @ values, float64 [C, N]."""
        return self.diagonal[:, None] * values - self.half @ (self.half.T @ values)

    def project(self, values: np.ndarray) -> np.ndarray:
        """B @ values, float64 [C, N]; B = I - P / diag(P)."""
        return values - self._times(values / self._precision[:, None])

    def transposed(self, values: np.ndarray) -> np.ndarray:
        """B^T @ values, float64 [C, N]."""
        return values - self._times(values) / self._precision[:, None]


def right_singular_vectors(
    history: sp.csr_matrix, ease: LowRankEase, trend: np.ndarray, rank: int, iterations: int
) -> np.ndarray:
    """Of the scores X B diag(trend), without building them.

    Args:
      history: [U, C], X.
      ease: B.
      trend: float64 [C].
      rank: R, at most the smaller of U and C.
      iterations: power iterations.

    Returns:
      float64 [C, R], the largest first.
    """
    width = min(rank + _OVERSAMPLING, *history.shape)

    def scores(values: np.ndarray) -> np.ndarray:
        return history @ ease.project(trend[:, None] * values)

    def transposed(values: np.ndarray) -> np.ndarray:
        return trend[:, None] * ease.transposed(history.T @ values)

    base = np.random.default_rng(0).normal(size=(history.shape[1], width))
    for _ in range(iterations):
        base = np.linalg.qr(transposed(np.linalg.qr(scores(base))[0]))[0]
    left = np.linalg.qr(scores(base))[0]
    # [C, W] = U S V^T of the transposed: its left vectors are the right ones of the scores
    return np.linalg.svd(transposed(left), full_matrices=False)[0][:, :rank]
