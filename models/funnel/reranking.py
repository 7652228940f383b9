"""The order in which ranked candidates are shown: boosts, diversity, category caps.

Everything but the boosts looks at the best-ranked candidates only, so its cost does not grow with
the number of candidates. Maximal marginal relevance: Carbonell and Goldstein, "The use of MMR,
diversity-based reranking for reordering documents and producing summaries", SIGIR 1998.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from schema import names as F
from schema.config import Boost, Serving
from schema.errors import DataError

PAGE = 10  # places that are filled by diversity, then put in the ranker's order
_LAST = -1e9  # below every worth: empty places; taken items are lower still
# What a full category costs: more than two worths can differ by, so all others come first, and
# little enough that float32 still tells those within it apart.
_CAPPED = 64.0


def boosts_of(
    items: ItemTable, boosts: Sequence[Boost], candidate_row: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """What the configured boosts do to each candidate.

    Args:
      items: the catalogue.
      boosts: the configuration's; an item that several name gets the sum and the product.
      candidate_row: int32 [C].

    Returns:
      (float32 [C] added to the log-odds, float32 [C] factor of the probability), or None
      without boosts.

    Raises:
      DataError: a boost names something that no item of the catalogue has.
    """
    if not boosts:
        return None
    added, factor = np.zeros(len(items), np.float32), np.ones(len(items), np.float32)
    for place, boost in enumerate(boosts):
        if boost.attribute == F.ITEM_ID:
            named = items.item_id
        else:
            named = items.vocabularies[boost.attribute][items.categorical[boost.attribute]]
        unknown = sorted(set(boost.values) - set(named))
        if unknown:
            raise DataError(
                f"serving.boosts.{place}: no item has the {boost.attribute} {unknown[0]!r}; "
                "remove it or correct its spelling"
            )
        hit = np.isin(named, boost.values)
        added[hit] += boost.log_odds
        factor[hit] *= boost.factor
    return added[candidate_row], factor[candidate_row]


class Reranker(tf.Module):
    """Reorders the best of the ranked candidates.

    Boosts change a candidate's probability, and so its rank. Then the places of one page after
    another are filled: with strength d, the next is the candidate with the largest
    (1 - d) * -log2(1 + rank) - d * max s, over the items placed before; rank counts from 1, and s
    is the cosine of two items' vectors, at least 0. Ranks in place of probabilities make d mean
    the same for everybody, whether their probabilities are large or small. Within a page the
    items stand by rank. A candidate whose category has had its places comes after all others.

    Args:
      item_vectors: float32 [V, D], unit vectors of all rows of the item table.
      candidate_row: int32 [C + 1], the candidates' rows; row 0 for an empty place.
      category: int32 [C], the candidates' category codes, 0 = none; None without categories.
      boosts: of the candidates, see :func:`boosts_of`.
      config: the configuration's section.
    """

    def __init__(
        self,
        item_vectors: tf.Variable,
        candidate_row: tf.Variable,
        category: np.ndarray | None,
        boosts: tuple[np.ndarray, np.ndarray] | None,
        config: Serving,
    ) -> None:
        super().__init__(name="reranker")
        self._vectors, self._row = item_vectors, candidate_row
        self._category = None if category is None else frozen_table(np.append(category, 0), tf.int32)
        # an empty place has a row of its own
        self._added, self._factor = (
            (None, None)
            if boosts is None
            else (frozen_table(np.append(values, 0), tf.float32) for values in boosts)
        )
        self._diversity, self._cap, self._depth = config.diversity, config.category_cap, config.rerank_depth

    @tf.Module.with_name_scope
    def __call__(
        self, position: tf.Tensor, probability: tf.Tensor, diversity: tf.Tensor, places: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The first places of ranked candidates.

        Args:
          position: int32 [B, N], candidates; C where empty.
          probability: float32 [B, N], the ranker's; negative where empty.
          diversity: float32 [B], d; negative for the configured one.
          places: int32 [], K.

        Returns:
          (position int32 [B, K'], probability float32 [B, K']), K' = min(K, N).
        """
        at = self.order(position, self._boosted(position, probability), diversity, places)
        return tf.gather(position, at, batch_dims=1), tf.gather(probability, at, batch_dims=1)

    def order(
        self, position: tf.Tensor, value: tf.Tensor, diversity: tf.Tensor, places: tf.Tensor
    ) -> tf.Tensor:
        """int32 [B, K']: the slots of the first places, by values (float32 [B, N], negative where empty)
        that no boost changes; other arguments as `__call__`.
        """
        size = tf.shape(position)[1]
        places = tf.minimum(places, size)
        head = tf.minimum(self._depth, size)
        value, at = tf.math.top_k(value, tf.maximum(places, head))
        order = self._order(
            tf.gather(position, at[:, :head], batch_dims=1), value[:, :head] >= 0, diversity, places
        )
        return tf.concat([tf.gather(at, order, batch_dims=1), at[:, head:]], 1)[:, :places]

    def _boosted(self, position: tf.Tensor, probability: tf.Tensor) -> tf.Tensor:
        if self._added is None:
            return probability
        odds = probability / tf.maximum(1.0 - probability, 1e-7) * tf.exp(tf.gather(self._added, position))
        return tf.where(
            probability >= 0, odds / (1.0 + odds) * tf.gather(self._factor, position), probability
        )

    def _order(
        self, position: tf.Tensor, real: tf.Tensor, diversity: tf.Tensor, places: tf.Tensor
    ) -> tf.Tensor:
        """int32 [B, H]: the ranks of the head in the order in which they are shown."""
        size = tf.shape(position)[1]
        index = tf.range(size, dtype=tf.float32)
        # NaN also falls back to the shop's setting
        d = tf.where(diversity >= 0, tf.minimum(diversity, 1.0), self._diversity)[:, None]
        wanted = tf.reduce_any(d > 0)
        relevance = -tf.math.log(index + 2.0) / np.log(2.0)
        relevance = tf.where(real, (1.0 - d) * relevance, _LAST)
        vectors = tf.gather(self._vectors, tf.gather(self._row, position))
        near = tf.maximum(tf.matmul(vectors, vectors, transpose_b=True), 0.0) * d[:, :, None]
        # by rank after all places that are given
        key = tf.zeros_like(relevance) + index + tf.cast(size * size, tf.float32)
        state = [tf.constant(0), key, relevance, tf.zeros_like(relevance)]
        same: tf.Tensor | None = None
        if self._cap and self._category is not None:
            code = tf.gather(self._category, position)
            same = tf.cast((code[:, :, None] == code[:, None]) & (code > 0)[:, None], tf.float32)
            state.append(tf.zeros_like(relevance))
            wanted = tf.constant(True)

        def fill(
            page: tf.Tensor, key: tf.Tensor, left: tf.Tensor, nearest: tf.Tensor, *full: tf.Tensor
        ) -> list[tf.Tensor]:
            before, counts = left, full
            for _ in range(PAGE):  # written out: a loop's own work costs as much as the step's
                worth = left - nearest
                if counts:
                    worth -= tf.where(counts[0] >= self._cap, _CAPPED, 0.0)
                chosen = tf.argmax(worth, 1, output_type=tf.int32)
                left += tf.one_hot(chosen, size, 2 * _LAST, 0.0)
                nearest = tf.maximum(nearest, tf.gather(near, chosen, batch_dims=1))
                if counts:
                    counts = (counts[0] + tf.gather(same, chosen, batch_dims=1),)
            # a head shorter than its pages has its items taken again: the first place counts
            placed = tf.where(left < before, tf.cast(page * size, tf.float32) + index, key)
            return [page + 1, tf.minimum(key, placed), left, nearest, *counts]

        # to the end of the last page, so that a shorter list is the beginning of a longer one
        pages = tf.where(wanted, (tf.minimum(places, size) + PAGE - 1) // PAGE, 0)
        _, key, *_ = tf.while_loop(
            lambda page, *_: page < pages, fill, state, parallel_iterations=1, maximum_iterations=pages
        )
        return tf.argsort(key, 1)
