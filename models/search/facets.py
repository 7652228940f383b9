"""Counts of the matching items by category, brand and price, and the price filter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from models.data.frozen import frozen_table

CATEGORY, BRAND, PRICE = "category", "brand", "price"  # names of facets


def coded(values: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(int32 [C + 1] codes, 0 for "" and for position C; object (str) names by code, the first "").

    Args:
      values: object (str) [C], or None: nothing has one.
      count: C.
    """
    if values is None:
        return np.zeros(count + 1, np.int32), np.asarray([""], object)
    code, names = pd.factorize(np.concatenate([[""], values.astype(object)]))
    return np.append(code[1:], 0).astype(np.int32), np.asarray(names, object)


def price_bands(price: np.ndarray, borders: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Codes and names, as :func:`coded`, of prices: "0-5" is from 0 to less than 5, "200-" from 200 on."""
    edges = [f"{border:g}" for border in (0, *borders)] + [""]
    names = np.asarray(["", *(f"{low}-{high}" for low, high in zip(edges, edges[1:], strict=False))], object)
    code = np.where(np.isnan(price), 0, 1 + np.searchsorted(np.asarray(borders), price, "right"))
    return np.append(code, 0).astype(np.int32), names


class Facets(tf.Module):
    """Counts values of the matching items.

    Args:
      facets: name -> (codes int32 [C + 1], names by code).
      most: values of a facet.

    Attributes:
      size: F, values of all facets together.
    """

    def __init__(self, facets: dict[str, tuple[np.ndarray, np.ndarray]], most: int) -> None:
        super().__init__(name="facets")
        self._codes = {name: frozen_table(codes, tf.int32) for name, (codes, _) in facets.items()}
        self._values = {
            name: frozen_table(names, tf.string, f"{name}_values") for name, (_, names) in facets.items()
        }
        self._most = most
        self.size = most * len(facets)

    def __call__(self, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(string [F] facets, string [F] values, int32 [F] counts) of items (int32 [M]); a facet's values
        by descending count, "" and 0 where there are fewer.
        """
        parts = [self._counted(name, position) for name in self._codes]
        if not parts or not self._most:
            return tf.zeros([0], tf.string), tf.zeros([0], tf.string), tf.zeros([0], tf.int32)
        return tuple(tf.concat(columns, 0) for columns in zip(*parts, strict=True))

    def _counted(self, name: str, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        values = self._values[name]
        size = max(int(values.shape[0]), self._most + 1)
        count = tf.math.unsorted_segment_sum(
            tf.ones_like(position), tf.gather(self._codes[name], position), size
        )[1:]
        count, code = tf.math.top_k(count, self._most)
        real = count > 0
        value = tf.where(real, tf.gather(values, tf.where(real, code + 1, 0)), "")
        return tf.where(real, name, ""), value, count


class Prices(tf.Module):
    """Which items cost how much.

    Args:
      price: float32 [C], NaN unknown.
    """

    def __init__(self, price: np.ndarray) -> None:
        super().__init__(name="prices")
        self._price = frozen_table(np.append(price, np.nan), tf.float32)

    def __call__(self, position: tf.Tensor) -> tf.Tensor:
        """float32, prices at positions (int32); NaN unknown and for position C."""
        return tf.gather(self._price, position)

    def within(self, least: tf.Tensor, most: tf.Tensor, unknown: bool) -> tf.Tensor:
        """bool [B, C], items that cost from `least` to `most` (float32 [B], no bound where negative or NaN).

        Args:
          least, most: in the shop's currency.
          unknown: whether items without a price are within any bounds.
        """
        price = self._price[None, :-1]
        least, most = least[:, None], most[:, None]
        inside = ((price >= least) | ~(least >= 0)) & ((price <= most) | ~(most >= 0))
        free = ~(least >= 0) & ~(most >= 0)
        return free | (inside & ~tf.math.is_nan(price)) | (tf.math.is_nan(price) & unknown)
