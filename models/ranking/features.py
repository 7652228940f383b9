"""Features of a (request, candidate) pair, computed in the graph from the request alone and
the snapshot's tables: the same code when the ranker learns and when it serves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.base import FoundCandidates
from models.retrieval.sources.candidate_sources import CandidateSources
from models.retrieval.sources.segments import segment_sum
from schema import names as F

_NEVER_DAYS = 720.0  # age given to "never bought"
_MOST_DUE = 5.0  # intervals since the last purchase
_TEXT_DIM = 32


def text_space(vectors: np.ndarray, index: np.ndarray, dim: int = _TEXT_DIM) -> np.ndarray:
    """Texts of items in few dimensions, in which unlike texts are about orthogonal.

    The principal components of the distinct texts, of which the mean is taken off: sentence
    encoders give all texts of one shop much in common.

    Args:
      vectors: float32 [T, E], of the distinct texts.
      index: int32 [V], which text each item has.
      dim: D, at most E.

    Returns:
      float32 [V, D], of length 1; zeros where a text is just the mean one.
    """
    centred = (vectors - vectors.mean(0)).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    reduced = centred @ axes[:, ::-1][:, :dim]
    length = np.linalg.norm(reduced, axis=1, keepdims=True)
    return np.where(length > 1e-6, reduced / np.maximum(length, 1e-6), 0).astype(np.float32)[index]


class PairFeatures(tf.Module):
    """Dense features and category codes of candidates.

    Args:
      snapshot: item tables; `log_price` and `log_cycle` of its statistics are read by name.
      items: the catalogue.
      sources: the candidate sources that found the candidates.
      text: float32 [V, T], see :func:`text_space`.
      learned: D, how many of a query's dimensions are the towers' (the others are collaborative).
    """

    def __init__(
        self,
        snapshot: Snapshot,
        items: ItemTable,
        sources: CandidateSources,
        text: np.ndarray,
        learned: int,
    ) -> None:
        super().__init__(name="pair_features")
        self._sources = sources
        self._learned = learned
        self._text = frozen_table(text, tf.float32)
        prices = snapshot.stats[:, snapshot.stat_names.index("log_price")]
        self._log_price = frozen_table(prices, tf.float32)
        self._cycle = frozen_table(
            np.expm1(snapshot.stats[:, snapshot.stat_names.index("log_cycle")]), tf.float32
        )
        stats = snapshot.stats[snapshot.candidate_row]
        self._stats = frozen_table(np.concatenate([stats, np.zeros_like(stats[:1])]), tf.float32)
        self._sizes = {name: len(items.vocabularies[name]) for name in items.categorical}
        # all categories at once: the price is in the number of ops, not in their sizes
        codes = np.stack([*items.categorical.values(), np.zeros(len(items))], -1)[:, :-1]
        self._codes = frozen_table(codes, tf.int32)  # [V, categories]
        self._first = np.cumsum([0, *self._sizes.values()])[:-1].astype(np.int32)
        self.item_width = len(snapshot.stat_names)
        own = sources.own_names
        self.names: tuple[str, ...] = (
            *snapshot.stat_names,
            *(f"own_{name}" for name in own),
            "own_log_last_age",
            "own_log_first_age",
            "own_log_gap",
            "own_due",
            "own_due_of_item",
            "own_share",
            "own_share_of_sessions",
            *(f"{name}_{kind}" for kind in ("all", "decay_45", "share", "price_gap") for name in self._sizes),
            "learned_score",
            "collaborative_score",
            "text_similarity",
            *(f"{name}_log_rank" for name in sources.ranks_of),
            "co_purchased_score",
            "user_log_events",
            "user_log_events_45",
            "user_log_sessions",
            "user_log_sessions_45",
            "user_log_last_age",
            "user_log_span",
        )
        self.code_names = tuple(self._sizes)

    @property
    def code_sizes(self) -> dict[str, int]:
        """Vocabulary size of each category code."""
        return dict(self._sizes)

    @tf.Module.with_name_scope
    def of_candidates(self) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """What is known of every candidate alone: the first `item_width` features, float32
        [C + 1, item_width], and category codes name -> int32 [C + 1]; the last row is of none.
        """
        code = tf.unstack(tf.gather(self._codes, self._sources.candidate_row), axis=-1)
        return self._stats.read_value(), dict(zip(self._sizes, code, strict=True))

    @tf.Module.with_name_scope
    def __call__(
        self, request: Mapping[str, tf.Tensor], found: FoundCandidates
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Features of every candidate.

        Args:
          request: from `RequestParser`.
          found: from `CandidateSources`.

        Returns:
          (float32 [B, N, len(names)], category codes name -> int32 [B, N]).
        """
        of_pair, codes = self.of_pair(request, found)
        return tf.concat([tf.gather(self._stats, found.position), of_pair], -1), codes

    @tf.Module.with_name_scope
    def of_pair(
        self, request: Mapping[str, tf.Tensor], found: FoundCandidates
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """`__call__` without the first `item_width` features, which are the item's alone."""
        at = found.position
        row = tf.gather(self._sources.candidate_row, at)
        events = self._sources.history(request)
        weights = events["weights"]
        total = tf.reduce_sum(weights, 1)  # [B, 1 + decays]
        history_row = request["history_row"]
        sessions = self._sessions(request)

        own, first, last = tf.split(found.own.of(at), [len(self._sources.own_names), 1, 1], -1)
        count = own[..., 0]
        bought = count > 0
        first, last = (tf.where(bought, age[..., 0], _NEVER_DAYS) for age in (first, last))
        gap = tf.where(count > 1, (first - last) / tf.maximum(count - 1, 1.0), _NEVER_DAYS)
        cycle = tf.gather(self._cycle, row)
        ages = tf.math.log1p(tf.stack([last, first, gap], -1))
        shares = [
            # 1 = as long ago as the item's usual interval: for this user, and for all who repeat it
            tf.where(count > 1, tf.minimum(last / tf.maximum(gap, 0.5), _MOST_DUE), 0.0),
            tf.where(bought, tf.minimum(last / tf.maximum(cycle, 0.5), _MOST_DUE), 0.0),
            count / tf.maximum(total[:, :1], 1.0),
            count / tf.maximum(sessions[:, :1], 1.0),
        ]
        parts = [tf.math.log1p(own), ages, tf.stack(shares, -1)]
        code = tf.gather(self._codes, row)  # [B, N, categories]
        codes = dict(zip(self._sizes, tf.unstack(code, axis=-1), strict=True))
        if codes:
            parts += self._by_category(request, weights, total, code, tf.gather(self._log_price, row))
        # products and not matrix products: those round differently by shape
        product = self._sources.index.vectors(at) * found.query[:, None]
        profile = tf.reduce_sum(weights[..., 2:3] * tf.gather(self._text, history_row), 1)
        profile = tf.math.l2_normalize(profile, -1)
        # summed in pieces that both halves are made of: a slice of the product would copy it
        piece = math.gcd(self._learned, product.shape[-1])
        pieces = tf.reshape(product, [tf.shape(at)[0], -1, product.shape[-1] // piece, piece])
        pieces = tf.reduce_sum(pieces, -1)
        first = self._learned // piece
        scores = [
            tf.reduce_sum(pieces[..., :first], -1),
            tf.reduce_sum(pieces[..., first:], -1),
            tf.reduce_sum(tf.gather(self._text, row) * profile[:, None], -1),
        ]
        parts.append(tf.stack(scores, -1))
        parts.append(tf.math.log1p(found.rank.of(at)))
        together = tf.gather(found.scores[F.CO_PURCHASED], at, batch_dims=1)
        parts.append(tf.math.log1p(together)[..., None])

        age = request[F.HISTORY_AGE_DAYS]
        real = history_row > 0
        # bounded, so that padding (or a request with no place for events at all) changes nothing
        newest = tf.minimum(tf.reduce_min(tf.where(real, age, _NEVER_DAYS), 1), _NEVER_DAYS)
        oldest = tf.maximum(tf.reduce_max(tf.where(real, age, 0.0), 1), 0.0)
        of_user = tf.stack([total[:, 0], total[:, 2], sessions[:, 0], sessions[:, 1], newest, oldest], 1)
        of_user = tf.math.log1p(of_user)
        parts.append(tf.repeat(of_user[:, None], tf.shape(at)[1], 1))
        return tf.concat(parts, -1), codes

    def _by_category(
        self,
        request: Mapping[str, tf.Tensor],
        weights: tf.Tensor,
        total: tf.Tensor,
        code: tf.Tensor,
        log_price: tf.Tensor,
    ) -> list[tf.Tensor]:
        """What the history says of candidates' categories, four of float32 [B, N, categories].

        Args:
          request: from `RequestParser`.
          weights: float32 [B, L, 1 + decays], the events'.
          total: float32 [B, 1 + decays], their sums.
          code: int32 [B, N, categories], the candidates'.
          log_price: float32 [B, N], the candidates'.
        """
        row = request["history_row"]
        every, late = weights[..., 0], weights[..., 2]  # all events and those of the last weeks
        batch, length, kinds = tf.shape(row)[0], tf.shape(row)[1], len(self._sizes)
        size = sum(self._sizes.values())
        mine = tf.gather(self._codes, row)
        # categories lie behind each other; what has no code is counted after all of them
        mine = tf.reshape(tf.where(mine > 0, mine + self._first, size), [batch, length * kinds])

        def of_category(of_event: tf.Tensor) -> tf.Tensor:
            """float32 [B, size + 1]: sums of events' values (float32 [B, L])."""
            values = tf.reshape(tf.repeat(of_event[:, :, None], kinds, 2), [batch, length * kinds, 1])
            return segment_sum(values, mine, size + 1)[..., 0]

        count, recent = of_category(every), of_category(late)
        mean = of_category(every * tf.gather(self._log_price, row)) / tf.maximum(count, 1.0)
        # one table after another: of rows of several numbers every later op would be a strided one
        at = code + self._first
        known, recent, mean = (
            tf.gather(values, at, batch_dims=1) for values in (tf.math.log1p(count), recent, mean)
        )
        # above 0: dearer than what the user buys of the category
        gap = (log_price[..., None] - mean) * tf.cast(known > 0, tf.float32)
        return [known, tf.math.log1p(recent), recent / tf.maximum(total[:, None, 2:3], 1e-3), gap]

    def _sessions(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """float32 [B, 2]: moments at which something happened, all and decayed by 45 days.

        Events of one session are of one age.
        """
        age = tf.sort(tf.where(request["history_row"] > 0, request[F.HISTORY_AGE_DAYS], -1.0), axis=1)
        first = tf.concat([tf.ones_like(age[:, :1], tf.bool), age[:, 1:] != age[:, :-1]], 1) & (age >= 0)
        new = tf.cast(first, tf.float32)
        return tf.stack([tf.reduce_sum(new, 1), tf.reduce_sum(new * tf.pow(2.0, -age / 45.0), 1)], 1)

    def describe(self) -> dict[str, np.ndarray]:
        """Index of each feature by name (for explanations and tests)."""
        return {name: np.int32(index) for index, name in enumerate(self.names)}
