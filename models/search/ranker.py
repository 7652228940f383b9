"""The order of found items: a small network on features of the pair, and of the user."""

from __future__ import annotations

import tensorflow as tf


class SearchRanker(tf.Module):
    """Scores (query, candidate) pairs; trained with `tf.GradientTape` on `trainable_variables`.

    Args:
      features: names of the Q features (`Searcher.feature_names`).
      personal: names of the P personal features; () for a shop without events.
      hidden: width of the hidden layer; 0 is a linear model.
    """

    def __init__(self, features: tuple[str, ...], personal: tuple[str, ...] = (), hidden: int = 16) -> None:
        super().__init__(name="search_ranker")

    def score(self, features: tf.Tensor, personal: tf.Tensor) -> tf.Tensor:
        """float32 [B, N], learned relevance of pairs (float32 [B, N, Q], float32 [B, N, P])."""
        raise NotImplementedError

    def order(self, score: tf.Tensor, exact: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        """float32 [B, N]: `score` squeezed into (0, 1), plus 1 where `exact`, -1 where not valid.

        So an item that the query names exactly comes first whoever asks, whatever was learned.
        """
        raise NotImplementedError

    def save(self, path: str) -> None:
        """Writes names and weights as one .npz file."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: str) -> SearchRanker:
        """Reads what :meth:`save` wrote."""
        raise NotImplementedError
