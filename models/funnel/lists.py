"""The answer of every signature that lists items: ids, texts, scores, sources, reasons."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from schema import names as F
from schema.config import Serving


class Lists(tf.Module):
    """Turns rows of items into what a client reads.

    Args:
      items: the catalogue.
      item_ids: string [V] variable, their ids.
      config: `default_k` and `max_k`.

    Attributes:
      item_text: string [V] variable.
    """

    def __init__(self, items: ItemTable, item_ids: tf.Variable, config: Serving) -> None:
        super().__init__(name="lists")
        self._item_ids = item_ids
        self.item_text = frozen_table(items.text, tf.string, "item_text")
        self._default_k, self.max_k = config.default_k, config.max_k

    def k(self, k: tf.Tensor, requests: tf.Tensor) -> tf.Tensor:
        """int32 [B]: how many items each of the `requests` [B] gets."""
        tf.debugging.assert_equal(tf.size(k), tf.size(requests), "k: give one value for each request")
        return tf.minimum(tf.where(k > 0, k, self._default_k), self.max_k)

    def outputs(
        self,
        row: tf.Tensor,
        score: tf.Tensor,
        source: tf.Tensor,
        reason: tf.Tensor,
        k: tf.Tensor,
        more: Mapping[str, tf.Tensor] | None = None,
    ) -> dict[str, tf.Tensor]:
        """The outputs by name, [B, the largest k]; a request's places beyond its own k (int32 [B])
        and those without an item (row 0) are empty: "" or 0.

        Args:
          row: int32 [B, K].
          score, source, reason: of the items, [B, K].
          k: see :meth:`k`.
          more: further outputs of the items by name, [B, K] each.
        """
        real = (row > 0) & (tf.range(tf.shape(row)[1]) < k[:, None])
        row = tf.where(real, row, 0)
        outputs = {
            F.ITEM_ID: tf.gather(self._item_ids, row),
            F.ITEM_TEXT: tf.gather(self.item_text, row),
            F.SCORE: tf.where(real, score, 0.0),
            F.SOURCE: tf.where(real, source, ""),
            F.REASON: tf.where(real, reason, ""),
        }
        for name, values in (more or {}).items():
            outputs[name] = tf.where(real, values, tf.zeros([], values.dtype))
        missing = [[0, 0], [0, largest(k) - tf.shape(row)[1]]]
        return {
            name: tf.pad(value, missing, constant_values=0.0 if value.dtype.is_floating else "")
            for name, value in outputs.items()
        }


def largest(k: tf.Tensor) -> tf.Tensor:
    """int32 []: the largest of `k` (int32 [B]); 0 of none."""
    return tf.maximum(tf.reduce_max(k), 0)  # a batch of none has no largest
