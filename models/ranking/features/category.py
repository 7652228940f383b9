"""What the user buys of the candidate's categories: its department, its brand, and so on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.ranking.features.block import OFFER, TASTE, Column, FeatureBlock
from models.ranking.features.context import PairContext, once, recent, rows, totals, weights
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.segments import segment_sum


class CategoryCodes(tf.Module):
    """The items' category codes, 0 = none.

    Args:
      items: the catalogue.

    Attributes:
      sizes: category -> number of codes.
      table: int32 [V, categories].
      first: int32 [categories], where each category's codes begin if they lie behind each other.
    """

    def __init__(self, items: ItemTable) -> None:
        super().__init__(name="category_codes")
        self.sizes = {name: len(items.vocabularies[name]) for name in items.categorical}
        # one table for all categories: the number of ops dominates the cost, not their sizes
        codes = np.stack([*items.categorical.values(), np.zeros(len(items))], -1)[:, :-1]
        self.table = frozen_table(codes, tf.int32)
        self.first = np.cumsum([0, *self.sizes.values()])[:-1].astype(np.int32)
        self.of_candidates = once(lambda pairs: self.of(rows(pairs)))  # int32 [B, N, categories]
        self._summed: list[Callable[[PairContext], tf.Tensor]] = []
        self._sums = once(self._sum_all)
        self._places = once(lambda pairs: self.of_candidates(pairs) + self.first)

    def of(self, row: tf.Tensor) -> tf.Tensor:
        """int32 [..., categories], the codes of rows (int32 [...])."""
        return tf.gather(self.table, row)

    def summed(
        self, of_event: Callable[[PairContext], tf.Tensor]
    ) -> Callable[[PairContext], list[tf.Tensor]]:
        """Numbers of events, to be summed by category code.

        All that is to be summed goes through one sum: the number of ops dominates the cost.

        Args:
          of_event: gives float32 [B, L, n], of each event of a request.

        Returns:
          What gives the sums, float32 [B, S] n times, by the codes of all categories behind each other as
          `first` says; the last place is of events without a code.
        """
        place = len(self._summed)
        self._summed.append(of_event)
        return lambda pairs: self._sums(pairs)[place]

    def _sum_all(self, pairs: PairContext) -> list[list[tf.Tensor]]:
        size, kinds = sum(self.sizes.values()), len(self.sizes)
        mine = self.of(pairs.history_row)
        mine = tf.where(mine > 0, mine + self.first, size)  # [B, L, categories]
        parts = [of_event(pairs) for of_event in self._summed]
        widths = [part.shape[-1] for part in parts]
        values = tf.tile(tf.concat(parts, -1)[:, :, None], [1, 1, kinds, 1])
        batch, entries = tf.shape(mine)[0], tf.shape(mine)[1] * kinds
        total = segment_sum(
            tf.reshape(values, [batch, entries, sum(widths)]), tf.reshape(mine, [batch, entries]), size + 1
        )
        # one table a number: of rows of several numbers every later op would be a strided one
        tables = iter(tf.unstack(total, axis=-1))
        return [list(itertools.islice(tables, width)) for width in widths]

    def look_up(self, table: tf.Tensor, pairs: PairContext) -> tf.Tensor:
        """float32 [B, N, categories]: the places of candidates in a table as :meth:`summed` gives it."""
        return tf.gather(table, self._places(pairs), batch_dims=1)

    def by_name(self, code: tf.Tensor) -> dict[str, tf.Tensor]:
        """category -> int32 [...], of codes int32 [..., categories]."""
        return dict(zip(self.sizes, tf.unstack(code, axis=-1), strict=True))


@dataclasses.dataclass(frozen=True)
class CategoryHistory:
    """What a request's history says of its candidates' categories.

    Attributes:
      known: float32 [B, N, categories], log1p of the events.
      recent: float32 [B, N, categories], events decayed by 45 days.
      mean: float32 [B, N, categories], mean log price of what the user buys of the category.
    """

    known: tf.Tensor
    recent: tf.Tensor
    mean: tf.Tensor


def of_categories(snapshot: Snapshot, codes: CategoryCodes) -> list[FeatureBlock]:
    """How much of each category the user buys, and at what price; nothing without categories.

    Args:
      snapshot: item tables; `log_price` of its statistics is read by name.
      codes: the items' categories.
    """
    if not codes.sizes:
        return []
    log_price = frozen_table(snapshot.stats[:, snapshot.stat_names.index("log_price")], tf.float32)

    def of_event(pairs: PairContext) -> tf.Tensor:
        late = recent(pairs.sources)
        every, decayed = weights(pairs)[..., 0], weights(pairs)[..., late]
        return tf.stack([every, decayed, every * tf.gather(log_price, pairs.history_row)], -1)

    sums = codes.summed(of_event)

    @once
    def history(pairs: PairContext) -> CategoryHistory:
        count, late_count, price = sums(pairs)
        mean = price / tf.maximum(count, 1.0)
        tables = tf.math.log1p(count), late_count, mean
        return CategoryHistory(*(codes.look_up(table, pairs) for table in tables))

    def share(pairs: PairContext) -> tf.Tensor:
        which = recent(pairs.sources)
        total = totals(pairs)[:, None, which : which + 1]
        return history(pairs).recent / tf.maximum(total, 1e-3)

    def price_gap(pairs: PairContext) -> tf.Tensor:
        # above 0: dearer than what the user buys of the category
        of = history(pairs)
        own = tf.gather(log_price, rows(pairs))[..., None]
        return (own - of.mean) * tf.cast(of.known > 0, tf.float32)

    def columns(kind: str, group: str) -> list[Column]:
        return [Column(f"{name}_{kind}", group) for name in codes.sizes]

    return [
        FeatureBlock(columns("all", TASTE), lambda pairs: history(pairs).known),
        FeatureBlock(columns("decay_45", TASTE), lambda pairs: tf.math.log1p(history(pairs).recent)),
        FeatureBlock(columns("share", TASTE), share),
        FeatureBlock(columns("price_gap", OFFER), price_gap, [log_price]),
    ]
