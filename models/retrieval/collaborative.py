"""Collaborative vectors in closed form: which items go with which, from who bought what.

EASE (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019) is the item-item
matrix B that predicts every item from a user's other items by ridge regression:
B = I - P / diag(P) with P = (G + lambda I)^-1 and G the items' co-occurrence. On a shop with
little data it beats most of what is trained by gradient, but it is items x items. Here it is
cut to a low rank, B ~ inputs @ outputs^T, in the metric of the users' own histories. That is a
two-tower model: a query is the weighted sum of its history's input vectors, a candidate is its
output vector. A shop for which the dense matrices are too large gets the same from `low_rank_ease`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import scipy.sparse as sp
import tensorflow as tf
from sklearn.utils.extmath import randomized_svd

from models.data.event_types import ALIKE, EventTypes
from models.data.frozen import frozen_table
from models.retrieval import low_rank_ease
from schema import names as F
from schema.config import Collaborative

_ITERATIONS = 3  # of the randomised decomposition
_Project = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Events:
    """What users did with candidates, sorted by user, then time.

    Attributes:
      user: int32 [N].
      item: int32 [N], position among the C candidates.
      age_days: float32 [N], before the moment of the fit.
      weight: float32 [N], how much each counts (`EventLog.weight`).
    """

    user: np.ndarray
    item: np.ndarray
    age_days: np.ndarray
    weight: np.ndarray


def weights(events: Events, config: Collaborative) -> np.ndarray:
    """Weight of each event in its user's history, float64 [N]; :class:`CollaborativeQuery` does the same."""
    out = np.exp2(-events.age_days.astype(np.float64) / config.half_life_days)
    if config.half_life_events:
        end = np.searchsorted(events.user, events.user, "right")
        out *= np.exp2(-(end - 1 - np.arange(len(end))) / config.half_life_events)
    return (out + config.least_weight) * events.weight


def histories(events: Events, users: int, count: int, config: Collaborative) -> sp.csr_matrix:
    """What users had, float64 [users, count]: an item's weights are summed, then the power is taken."""
    out = sp.csr_matrix((weights(events, config), (events.user, events.item)), shape=(users, count))
    out.data **= config.power
    return out


def fit(events: Events, count: int, config: Collaborative) -> tuple[np.ndarray, np.ndarray]:
    """Input and output vectors of the candidates.

    Args:
      events: at least one.
      count: C.
      config: regularisation, half-lives, rank, trend.

    Returns:
      (float32 [C, R], float32 [C, R]); R is `config.rank`, or less on a tiny shop.
    """
    if not config.rank:
        return np.zeros((count, 0), np.float32), np.zeros((count, 0), np.float32)
    user = np.unique(events.user, return_inverse=True)[1]
    history = histories(dataclasses.replace(events, user=user), user.max() + 1, count, config)
    # who bought what is not enough where order matters: only events near in the sequence co-occur
    gram = _windowed(dataclasses.replace(events, user=user), count, config) if config.window_events else None
    trend = _trend(events, count, config)
    rank = min(config.rank, *history.shape)
    # right singular vectors V: the rank-R map nearest to the scores of the users' own histories is
    # B V V^T, so the inputs are B V (V is computed with the trend in it, and so holds it)
    if cells(history.shape[0], count, config) > config.exact_cells:
        ridge, spectrum = config.regularization, config.spectrum
        if gram is None:
            ease = low_rank_ease.LowRankEase.of_histories(history, ridge, spectrum)
        else:
            ease = low_rank_ease.LowRankEase.of_gram(gram, ridge, spectrum)
        right = low_rank_ease.right_singular_vectors(history, ease, trend, rank, _ITERATIONS)
        project: _Project = ease.project
    else:
        if gram is not None:
            scores, project = _scores_of_items(gram.toarray(), history, config)
        elif history.shape[0] < count:
            scores, project = _scores_of_users(history, config)
        else:
            scores, project = _scores_of_items((history.T @ history).toarray(), history, config)
        scores = (scores * trend).astype(np.float32)
        right = randomized_svd(scores, rank, n_iter=_ITERATIONS, random_state=0)[2].T.astype(np.float64)
    return project(right * trend[:, None]).astype(np.float32), right.astype(np.float32)


def cells(users: int, count: int, config: Collaborative) -> int:
    """Numbers in the largest dense matrix of exact EASE, for which `exact_cells` is the bound."""
    by_items = config.window_events or users >= count
    return count * max(users, count) if by_items else count * users


def _scores_of_users(history: sp.csr_matrix, config: Collaborative) -> tuple[np.ndarray, _Project]:
    """EASE with fewer users than items: the inverse is users x users (Woodbury's identity).

    With K = (X X^T + lambda I)^-1: P = (I - X^T K X) / lambda and X P = K X.

    Returns:
      (scores float64 [U, C] of the histories, the map from a float64 [C, R] to B times it).
    """
    inverse = np.linalg.inv(
        (history @ history.T).toarray() + config.regularization * np.eye(history.shape[0])
    )
    kernel = np.ascontiguousarray((history.T @ inverse).T)  # K X, float64 [U, C]
    diagonal = (1 - np.asarray(history.multiply(kernel).sum(0)).ravel()) / config.regularization
    scores = history.toarray() - kernel / diagonal

    def project(right: np.ndarray) -> np.ndarray:
        """B @ right, [C, R]."""
        scaled = right / diagonal[:, None]
        return right - (scaled - history.T @ (kernel @ scaled)) / config.regularization

    return scores, project


def _scores_of_items(
    gram: np.ndarray, history: sp.csr_matrix, config: Collaborative
) -> tuple[np.ndarray, _Project]:
    """EASE from the items' co-occurrence [C, C]; returns what :func:`_scores_of_users` does."""
    precision = np.linalg.inv(gram + config.regularization * np.eye(len(gram)))
    weight = -precision / np.diag(precision)
    np.fill_diagonal(weight, 0)
    return history @ weight, lambda right: weight @ right


def _windowed(events: Events, count: int, config: Collaborative) -> sp.csr_matrix:
    """Co-occurrence within each user's sequence, halved every `window_events` places, [C, C]; a pair weighs
    the product of its events.
    """
    user, item, weight = events.user, events.item, events.weight.astype(np.float64)
    gram = sp.csr_matrix((count, count))
    reach = int(np.ceil(8 * config.window_events))  # beyond, a pair weighs less than 1/256
    for distance in range(min(reach, len(item) - 1) + 1):
        same = user[distance:] == user[: len(user) - distance]
        first, second = item[: len(item) - distance][same], item[distance:][same]
        value = weight[: len(item) - distance][same] * weight[distance:][same]
        pairs = sp.coo_matrix((value, (first, second)), shape=(count, count)).tocsr()
        pairs = pairs * np.exp2(-distance / config.window_events)
        gram = gram + (pairs + pairs.T if distance else pairs)
    return gram


def _trend(events: Events, count: int, config: Collaborative) -> np.ndarray:
    """How much more an item sells now than over the history that was fitted, float64 [C].

    EASE's scores are proportional to an item's share in the histories; a season moves it.
    """
    if not config.trend_power:
        return np.ones(count)
    late = events.age_days <= config.trend_days
    recent = np.bincount(events.item[late], events.weight[late], minlength=count)
    fitted = np.bincount(events.item, weights(events, config), minlength=count)
    # smoothed by one recent event, and by as much of the fitted weight
    ratio = (recent + 1) / (fitted + max(fitted.sum(), 1e-9) / max(recent.sum(), 1.0))
    return ratio**config.trend_power


class CollaborativeQuery(tf.Module):
    """The query side in the graph: the weighted sum of the history's input vectors.

    Args:
      inputs: float32 [C, R].
      row_candidate: int32 [V], position of each row among the candidates, C where none.
      config: half-lives and power, as in :func:`fit`.
      types: what the events' types weigh.
    """

    def __init__(
        self, inputs: np.ndarray, row_candidate: np.ndarray, config: Collaborative, types: EventTypes = ALIKE
    ) -> None:
        super().__init__(name="collaborative_query")
        self._count = len(inputs)
        self._inputs = frozen_table(np.concatenate([inputs, np.zeros_like(inputs[:1])]), tf.float32)
        self._row_candidate = frozen_table(row_candidate, tf.int32)
        self._config, self._types = config, types

    @tf.Module.with_name_scope
    def __call__(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Vectors of parsed requests.

        Args:
          request: `history_row` int32 [B, L] (0 = padding), `history_age_days` float32 [B, L];
            `history_event_type` int32 [B, L], unless all types weigh the same.

        Returns:
          float32 [B, R]; zeros where no event is of a candidate.
        """
        position = tf.gather(self._row_candidate, request["history_row"])
        real = tf.cast(position < self._count, tf.float32)
        weight = tf.pow(2.0, -request[F.HISTORY_AGE_DAYS] / self._config.half_life_days)
        if self._config.half_life_events:
            later = tf.cumsum(real, axis=1, exclusive=True, reverse=True)  # events
            weight *= tf.pow(2.0, -later / self._config.half_life_events)
        weight = (weight + self._config.least_weight) * real
        of_type = self._types.weights(request)
        if of_type is not None:
            weight *= of_type
        # the power is taken of the sum of an item's events, and each event carries its part of that
        size = self._count + 1
        batch = tf.shape(position)[0]
        flat = tf.reshape(position + (tf.range(batch) * size)[:, None], [-1])
        total = tf.gather(tf.math.unsorted_segment_sum(tf.reshape(weight, [-1]), flat, batch * size), flat)
        total = tf.reshape(tf.maximum(total, 1e-30), tf.shape(weight))
        part = weight * tf.pow(total, self._config.power - 1.0)
        return tf.einsum("bl,blr->br", part, tf.gather(self._inputs, position))
