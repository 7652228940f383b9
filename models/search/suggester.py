"""Completions of what a shopper types."""

from __future__ import annotations

import tensorflow as tf

from models.search.index import SearchIndex
from schema.config import Search


class Suggester(tf.Module):
    """Completes prefixes with phrases of the catalogue and of the log.

    Args:
      index: the tables.
      settings: the configuration's section.

    Attributes:
      categories: the names that `affinity` is aligned with ([""] without categories).
    """

    categories: tuple[str, ...]

    def __init__(self, index: SearchIndex, settings: Search) -> None:
        super().__init__(name="suggester")

    def affinity(self, position: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """float32 [B, categories], shares of each category in what a user has had.

        Args:
          position: int32 [B, M], candidate positions, C for empty.
          weight: float32 [B, M].
        """
        raise NotImplementedError

    def __call__(
        self, prefix: tf.Tensor, k: tf.Tensor, affinity: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The likeliest completions.

        Args:
          prefix: string [B], any bytes whatsoever.
          k: int32 [B], how many; 0 or less is the shop's default.
          affinity: float32 [B, categories], or None.

        Returns:
          (completion string [B, K], score float32 [B, K]), best first; "" and 0 beyond a request's k.
        """
        raise NotImplementedError
