"""Which items have which words of a query, what is relaxed where none has all, and the candidates.

The words of a query stand in the order of their informativeness. An item's *depth* is how many of them it
has without a gap, from the most informative one on, and then whether it has the price that the query names.
The items of the greatest depth match: where no item has everything, the bound of the price is dropped first,
then the least informative word, and so on.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.search.facets import Facets, Prices
from models.search.lexical import WORD_BITS, WORDS, Lexical

_ONES = sum(1 << (WORD_BITS * word) for word in range(WORDS))  # one bit for each word
_END = 1 << (WORD_BITS * WORDS)  # what is missing first in an item that has all words
_NO_WORD = 2 * 1 + 1  # the greatest depth of an item without the first word
SOURCES = ("lexical", "semantic", "behaviour", "own", "exact")
_EXACT = SOURCES.index("exact")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How many candidates there are: of two of the sources, and of all together.

    `constant` and `weights` (float32 [sources]) are those of reciprocal rank fusion, after Cormack, Clarke
    and Buettcher, SIGIR 2009. `popularity` is how much the most popular item's lexical score is raised.
    """

    lexical: int
    own: int
    candidates: int
    constant: float
    weights: np.ndarray
    popularity: float


class Matcher(tf.Module):
    """Candidates of one query at a time: what it reads grows with C, and a batch would fill the memory.

    Args:
      lexical: scores items.
      prices: the items' prices.
      facets: counts matching items.
      orders: float32 [sorts, C + 1], what each sort order sorts by, descending; the first is popularity,
        from 0 to 1.
      sizes: how many candidates.
    """

    def __init__(
        self, lexical: Lexical, prices: Prices, facets: Facets, orders: np.ndarray, sizes: Sizes
    ) -> None:
        super().__init__(name="matcher")
        self._lexical, self._prices, self._facets = lexical, prices, facets
        self._orders = frozen_table(orders, tf.float32, "orders")
        self._popularity = frozen_table(orders[0], tf.float32, "popularity")
        self._sizes, self._count = sizes, lexical.count

    def output_spec(self) -> dict[str, tf.TensorSpec]:
        """What :meth:`__call__` gives."""
        size, facets = self._sizes.candidates, self._facets.size
        shapes = {
            "position": ([size], tf.int32),
            "rank_score": ([size, len(SOURCES)], tf.float32),
            "matching": ([size], tf.bool),
            "order": ([size], tf.float32),
            "kept": ([], tf.int32),
            "price_kept": ([], tf.bool),
            "total": ([], tf.int32),
            "facet_name": ([facets], tf.string),
            "facet_value": ([facets], tf.string),
            "facet_count": ([facets], tf.int32),
        }
        return {name: tf.TensorSpec(shape, dtype) for name, (shape, dtype) in shapes.items()}

    def __call__(self, one: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Candidates of one query.

        Args:
          one: term int32 [S, E], weight float32 [S, E], count int32 [] (words), blank bool [], price
            float32 [2], allowed bool [C], sort int32 [] (0 is relevance, others a row of `orders` + 1),
            and of each source but the lexical one its positions, int32 [any], best first, C for none.

        Returns:
          position int32 [N], C for none; rank_score float32 [N, sources], each source's part of the
          fused score; matching bool [N]; order float32 [N]; kept int32 [], words that matching items
          have; price_kept bool []; total int32 []; facet_name, facet_value, facet_count [F].
        """
        score, bits = self._lexical.scores(one["term"], one["weight"])
        has = tf.cond(one["blank"], lambda: one["allowed"], lambda: one["allowed"] & (score > 0))
        hit = tf.cast(tf.where(has)[:, 0], tf.int32)
        depth = self._depth(hit, bits, one)
        best = tf.reduce_max(tf.concat([depth, [0]], 0))
        some = (best > _NO_WORD) | one["blank"]
        matching = tf.boolean_mask(hit, (depth == best) & some)
        others = [self._allowed(one[name], one) for name in ("semantic", "behaviour")]
        # the price binds unless none of what matches has it
        priced = [self._priced(position, one) for position in others]
        price_kept = tf.where(some, best % 2 == 1, tf.reduce_any(tf.concat(priced, 0)))
        hit = tf.boolean_mask(hit, (depth % 2 == 1) | ~price_kept)
        others = [
            tf.boolean_mask(each, kept | ~price_kept) for each, kept in zip(others, priced, strict=True)
        ]
        lists = self._lists(hit, score, bits, best, one, others)
        # where no word is known, what the other sources found stands for what matches
        matching = tf.cond(some, lambda: matching, lambda: _distinct(tf.concat(lists[1:], 0), self._count))
        position, rank_score = tf.cond(
            one["sort"] > 0, lambda: self._sorted(matching, one["sort"]), lambda: self._fused(lists)
        )
        kept = tf.cast(tf.raw_ops.PopulationCount(x=best // 2 - 1), tf.int32) // WORD_BITS
        row = tf.gather(self._orders, tf.maximum(one["sort"] - 1, 0))
        name, value, number = self._facets(matching)
        return {
            "position": position,
            "rank_score": rank_score,
            "matching": some & self._member(position, matching),
            "order": tf.gather(row, position),
            "kept": tf.where(some, tf.minimum(kept, one["count"]), 0),
            "price_kept": price_kept,
            "total": tf.size(matching),
            "facet_name": name,
            "facet_value": value,
            "facet_count": number,
        }

    def _depth(self, position: tf.Tensor, bits: tf.Tensor, one: dict[str, tf.Tensor]) -> tf.Tensor:
        """int64 [M], growing with the depth of items (int32 [M]): twice the bit of the first word that
        is missing, and one more where the price is right or unknown.
        """
        found = tf.gather(bits, position)
        for shift in (1, 2):
            found |= tf.bitwise.right_shift(found, tf.constant(shift, tf.int64))
        asked = tf.bitwise.left_shift(tf.constant(1, tf.int64), WORD_BITS * tf.cast(one["count"], tf.int64))
        missing = (found & _ONES | -asked) & _ONES ^ _ONES | _END
        return 2 * (missing & -missing) + tf.cast(self._priced(position, one), tf.int64)

    def _priced(self, position: tf.Tensor, one: dict[str, tf.Tensor]) -> tf.Tensor:
        """bool, whether the price of items (int32, any shape) is in the query's bounds or unknown."""
        price, (least, most) = self._prices(position), tf.unstack(one["price"])
        within = ((price >= least) | (least < 0)) & ((price <= most) | (most < 0))
        return within | tf.math.is_nan(price)

    def _lists(
        self,
        hit: tf.Tensor,
        score: tf.Tensor,
        bits: tf.Tensor,
        best: tf.Tensor,
        one: dict[str, tf.Tensor],
        others: list[tf.Tensor],
    ) -> list[tf.Tensor]:
        """The sources' positions, int32 [any] each, in the order of `SOURCES`."""
        value = tf.gather(score, hit)
        value *= 1 + self._sizes.popularity * tf.gather(self._popularity, hit)
        value = tf.where(one["blank"], tf.gather(self._popularity, hit), value)
        wanted = tf.minimum(self._sizes.lexical, tf.size(hit))
        lexical = tf.gather(hit, tf.math.top_k(value, wanted).indices)
        own = one["own"]
        real = own < self._count
        own = tf.boolean_mask(own, real)
        deep = (self._depth(own, bits, one) == best) & ((best > _NO_WORD) | one["blank"])
        own = tf.boolean_mask(own, deep & tf.gather(one["allowed"], own))[: self._sizes.own]
        return [
            lexical,
            *others,
            own,
            self._allowed(one["exact"], one),
        ]

    def _allowed(self, position: tf.Tensor, one: dict[str, tf.Tensor]) -> tf.Tensor:
        position = tf.boolean_mask(position, position < self._count)
        return tf.boolean_mask(position, tf.gather(one["allowed"], position))

    def _fused(self, lists: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The best of all sources, int32 [N], and their parts of the fused score, float32 [N, sources]."""
        distinct, which = tf.unique(tf.concat(lists, 0))
        size, parts, start = tf.size(distinct), [], 0
        for position, weight in zip(lists, self._sizes.weights, strict=True):
            end = start + tf.size(position)
            part = weight / (self._sizes.constant + 1 + tf.cast(tf.range(tf.size(position)), tf.float32))
            parts.append(tf.math.unsorted_segment_max(part, which[start:end], size))
            start = end
        rank_score = tf.maximum(tf.stack(parts, 1), 0.0)
        wanted = self._sizes.candidates
        fused = tf.reduce_sum(rank_score, 1) + tf.cast(rank_score[:, _EXACT] > 0, tf.float32)
        slot = tf.math.top_k(fused, tf.minimum(wanted, size)).indices
        missing = wanted - tf.size(slot)
        position = tf.pad(tf.gather(distinct, slot), [[0, missing]], constant_values=self._count)
        rank_score = tf.pad(tf.gather(rank_score, slot), [[0, missing], [0, 0]])
        return tf.ensure_shape(position, [wanted]), tf.ensure_shape(rank_score, [wanted, len(SOURCES)])

    def _sorted(self, matching: tf.Tensor, sort: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The first of the matching items (int32 [M]) in a sort order, as :meth:`_fused` gives them."""
        wanted = self._sizes.candidates
        key = tf.gather(tf.gather(self._orders, sort - 1), matching)
        slot = tf.math.top_k(key, tf.minimum(wanted, tf.size(matching))).indices
        position = tf.gather(matching, slot)
        position = tf.pad(position, [[0, wanted - tf.size(slot)]], constant_values=self._count)
        return tf.ensure_shape(position, [wanted]), tf.zeros([wanted, len(SOURCES)])

    def _member(self, position: tf.Tensor, ascending: tf.Tensor) -> tf.Tensor:
        """bool [N], which positions are among ascending ones."""
        padded = tf.concat([ascending, [self._count + 1]], 0)
        entry = tf.raw_ops.LowerBound(sorted_inputs=padded[None], values=position[None])[0]
        return tf.gather(padded, entry) == position


def _distinct(position: tf.Tensor, nothing: int) -> tf.Tensor:
    """int32 [any], ascending positions without repeats and without `nothing`."""
    ascending = tf.sort(tf.unique(position).y)
    return tf.boolean_mask(ascending, ascending < nothing)
