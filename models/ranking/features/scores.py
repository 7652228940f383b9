"""How well the candidate fits the request: what the towers say, texts, and co-purchases."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.ranking.features.block import GOES_WITH, MATCH, TASTE, Column, Feature, FeatureBlock
from models.ranking.features.context import PairContext, affinity, once, rows
from schema import names as F

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


def scores(text: np.ndarray, learned: int) -> FeatureBlock:
    """Dot products of the candidate's vectors with the query's, and with the texts of the history.

    Args:
      text: float32 [V, T], see :func:`text_space`.
      learned: D, how many of a query's dimensions are the towers' (the others are collaborative).
    """
    vectors = frozen_table(text, tf.float32)

    @once
    def pieces(pairs: PairContext) -> tuple[tf.Tensor, int]:
        """float32 [B, N, pieces], sums of the products of query and candidate; the first ones, by
        number, are the towers'.
        """
        # products and not matrix products: those round differently by shape
        product = pairs.sources.index.vectors(pairs.position) * pairs.found.query[:, None]
        # summed in pieces that both halves are made of: a slice of the product would copy it
        piece = math.gcd(learned, product.shape[-1])
        shape = [tf.shape(pairs.position)[0], -1, product.shape[-1] // piece, piece]
        return tf.reduce_sum(tf.reshape(product, shape), -1), learned // piece

    def learned_score(pairs: PairContext) -> tf.Tensor:
        values, first = pieces(pairs)
        return tf.reduce_sum(values[..., :first], -1)

    def collaborative_score(pairs: PairContext) -> tf.Tensor:
        values, first = pieces(pairs)
        return tf.reduce_sum(values[..., first:], -1)

    def text_similarity(pairs: PairContext) -> tf.Tensor:
        of_event = affinity(pairs)[..., None] * tf.gather(vectors, pairs.history_row)
        profile = tf.math.l2_normalize(tf.reduce_sum(of_event, 1), -1)
        return tf.reduce_sum(tf.gather(vectors, rows(pairs)) * profile[:, None], -1)

    return FeatureBlock.stacked(
        [
            Feature("learned_score", MATCH, learned_score),
            Feature("collaborative_score", MATCH, collaborative_score),
            Feature("text_similarity", TASTE, text_similarity),
        ],
        tables=[vectors],
    )


def co_purchases() -> FeatureBlock:
    """How strongly the request's own items call for the candidate."""

    def compute(pairs: PairContext) -> tf.Tensor:
        together = tf.gather(pairs.found.scores[F.CO_PURCHASED], pairs.position, batch_dims=1)
        return tf.math.log1p(together)[..., None]

    return FeatureBlock([Column("co_purchased_score", GOES_WITH)], compute)
