"""What is known of a (query, candidate) pair: the numbers that the ranker reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.search.index import SearchIndex
from models.search.lexical import WORDS, Details
from models.search.matching import SOURCES
from models.search.query import ReadQuery
from schema.config import Search

_BRAND = "brand"
_SHARPNESS = 8.0  # of the relevance that intents are counted with: half as relevant counts e^-4


class PairFeatures(tf.Module):
    """Computes the features.

    Args:
      index: the tables.
      popularity: float32 [C + 1], from 0 to 1.
      settings: the constant of reciprocal rank fusion.

    Attributes:
      names: the Q names.
    """

    def __init__(self, index: SearchIndex, popularity: np.ndarray, settings: Search) -> None:
        super().__init__(name="pair_features")
        self._popularity = frozen_table(popularity, tf.float32)
        self._fields = index.field_names
        self._title = self._fields.index(index.title)
        self._first = settings.rank_constant + 1
        self.names = (
            *("lexical", "lexical_share", "coverage", "coverage_title", "matching", "exact"),
            *(f"lexical_{name}" for name in self._fields),
            *(f"share_{name}" for name in self._fields),
            *("semantic", "semantic_gap", "intent_category", "intent_brand", "brand_named"),
            *("log_share", "popularity", "popularity_gap"),
            *(f"rank_{name}" for name in SOURCES[:-1]),
            *("fused", "words", "corrected"),
        )

    def relevance(
        self, details: Details, similarity: tf.Tensor, read: ReadQuery, valid: tf.Tensor
    ) -> tf.Tensor:
        """float32 [B, N], from 0 to 1: how much a candidate speaks for what the query means."""
        share = _share(details.total, valid)
        near = _share(tf.maximum(similarity, 0.0), valid)
        mean = tf.where(tf.reduce_any(share > 0, 1, keepdims=True), (share + near) / 2, near)
        weight = tf.exp(_SHARPNESS * (mean - 1)) * (0.1 + self._coverage(details.covered, read))
        # a query without words means nothing
        return tf.where(valid & ~read.blank[:, None], weight, 0.0)

    def _coverage(self, covered: tf.Tensor, read: ReadQuery) -> tf.Tensor:
        """float32 [B, N], the share of the query's informativeness that items have (bool [B, S, N])."""
        have = tf.reduce_sum(tf.cast(covered, tf.float32) * read.idf[..., None], 1)
        return tf.math.divide_no_nan(have, tf.reduce_sum(read.idf, 1, keepdims=True))

    def __call__(self, read: ReadQuery, details: Details, pair: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """float32 [B, N, Q], 0 in empty slots.

        Args:
          read: the queries.
          details: what the words say of the pairs.
          pair: position int32; valid, exact, matching bool; similarity, category, brand (probabilities
            of the intents), log_share float32; [B, N] each. rank_score float32 [B, N, sources].
        """
        valid = pair["valid"]
        popularity = tf.gather(self._popularity, pair["position"])
        ranks = pair["rank_score"]
        share = tf.unstack(details.field_share, axis=-1)
        title = details.covered_by_field[..., self._title]
        columns = [
            details.total,
            _share(details.total, valid),
            self._coverage(details.covered, read),
            self._coverage(title, read),
            tf.cast(pair["matching"], tf.float32),
            tf.cast(pair["exact"], tf.float32),
            *tf.unstack(details.by_field, axis=-1),
            *share,
            pair["similarity"],
            pair["similarity"] - _largest(pair["similarity"], valid),
            pair["category"],
            pair["brand"],
            tf.cast(share[self._fields.index(_BRAND)] >= 1, tf.float32)
            if _BRAND in self._fields
            else tf.zeros_like(popularity),
            pair["log_share"],
            popularity,
            popularity - _largest(popularity, valid),
            *tf.unstack(ranks[..., :-1] * self._first, axis=-1),
            tf.reduce_sum(ranks[..., :-1], -1) * self._first,
            _wide(tf.cast(read.count, tf.float32) / WORDS, valid),
            _wide(tf.cast(read.corrected, tf.float32), valid),
        ]
        return tf.where(valid[..., None], tf.stack(columns, -1), 0.0)


def _largest(values: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """float32 [B, 1], the largest valid one of float32 [B, N]; 0 where there is none."""
    largest = tf.reduce_max(tf.where(valid, values, values.dtype.min), 1, keepdims=True)
    return tf.where(tf.reduce_any(valid, 1, keepdims=True), largest, 0.0)


def _share(values: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """float32 [B, N], values (float32 [B, N], at least 0) as shares of the largest valid one."""
    return tf.math.divide_no_nan(values, _largest(values, valid))


def _wide(values: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """float32 [B, N], one value (float32 [B]) for all slots."""
    return tf.broadcast_to(values[:, None], tf.shape(valid))
