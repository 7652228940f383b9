"""What the user buys of the candidate's categories: its department, its brand, and so on."""

from __future__ import annotations

import dataclasses

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
        self.of_history = once(self._of_history)

    def of(self, row: tf.Tensor) -> tf.Tensor:
        """int32 [..., categories], the codes of rows (int32 [...])."""
        return tf.gather(self.table, row)

    def _of_history(self, pairs: PairContext) -> tf.Tensor:
        """int32 [B, L categories], each event's codes, behind each other as `first` says.

        An event without a code counts after all of them.
        """
        mine = self.of(pairs.history_row)
        mine = tf.where(mine > 0, mine + self.first, sum(self.sizes.values()))
        return tf.reshape(mine, [tf.shape(mine)[0], -1])

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

    @once
    def history(pairs: PairContext) -> CategoryHistory:
        return _history(pairs, codes, tf.gather(log_price, pairs.history_row))

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


def _history(pairs: PairContext, codes: CategoryCodes, log_price: tf.Tensor) -> CategoryHistory:
    """Sums over the events of each candidate's categories.

    Args:
      pairs: the pairs.
      codes: the items' categories.
      log_price: float32 [B, L], of the events' items.
    """
    late = recent(pairs.sources)
    every, decayed = weights(pairs)[..., 0], weights(pairs)[..., late]
    shape, kinds = tf.shape(pairs.history_row), len(codes.sizes)
    batch, length = shape[0], shape[1]
    size = sum(codes.sizes.values())
    mine = codes.of_history(pairs)

    def of_category(of_event: tf.Tensor) -> tf.Tensor:
        """float32 [B, size + 1]: sums of events' values (float32 [B, L])."""
        values = tf.reshape(tf.repeat(of_event[:, :, None], kinds, 2), [batch, length * kinds, 1])
        return segment_sum(values, mine, size + 1)[..., 0]

    count, late_count = of_category(every), of_category(decayed)
    mean = of_category(every * log_price) / tf.maximum(count, 1.0)
    # one table after another: of rows of several numbers every later op would be a strided one
    at = codes.of_candidates(pairs) + codes.first
    known, late_count, mean = (
        tf.gather(values, at, batch_dims=1) for values in (tf.math.log1p(count), late_count, mean)
    )
    return CategoryHistory(known, late_count, mean)
