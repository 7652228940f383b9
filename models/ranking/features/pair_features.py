"""Features of (request, candidate) pairs, computed in the graph from the request alone and the
snapshot's tables: the same code when the ranker learns and when it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from models.data.item_table import ItemTable
from models.ranking.features.block import FeatureBlock
from models.ranking.features.category import CategoryCodes, of_categories
from models.ranking.features.context import PairContext
from models.ranking.features.interest import interest
from models.ranking.features.item import item_statistics
from models.ranking.features.own import own_purchases
from models.ranking.features.promotion import promotions
from models.ranking.features.ranks import source_ranks
from models.ranking.features.scores import co_purchases, scores
from models.ranking.features.user import user_activity
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.base import FoundCandidates
from models.retrieval.sources.candidate_sources import CandidateSources


def blocks_of_pairs(
    snapshot: Snapshot, sources: CandidateSources, codes: CategoryCodes, text: np.ndarray, learned: int
) -> list[FeatureBlock]:
    """The blocks of all features but the item's own, in the order in which the ranker reads them."""
    return [
        *own_purchases(snapshot, sources),
        *of_categories(snapshot, codes),
        scores(text, learned),
        source_ranks(sources),
        co_purchases(),
        user_activity(),
        *promotions(snapshot, sources, codes),
        *interest(sources, codes),
    ]


class PairFeatures(tf.Module):
    """Dense features and category codes of candidates.

    Args:
      snapshot: item tables.
      items: the catalogue.
      sources: the candidate sources that found the candidates.
      text: float32 [V, T], see `models.ranking.features.scores.text_space`.
      learned: D, how many of a query's dimensions are the towers' (the others are collaborative).
      blocks: makes the blocks of pairs; see :func:`blocks_of_pairs`.

    Attributes:
      names: of the features, in order.
      groups: which group of an explanation each feature belongs to.
      item_width: S, how many of the features, the first ones, are the item's alone.
      code_names: of the category codes.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        items: ItemTable,
        sources: CandidateSources,
        text: np.ndarray,
        learned: int,
        blocks: Callable[..., Sequence[FeatureBlock]] = blocks_of_pairs,
    ) -> None:
        super().__init__(name="pair_features")
        self._sources = sources
        self._codes = CategoryCodes(items)
        self._item = item_statistics(snapshot, items.exposure)
        self._blocks = list(blocks(snapshot, sources, self._codes, text, learned))
        columns = [column for block in (self._item, *self._blocks) for column in block.columns]
        self.names: tuple[str, ...] = tuple(column.name for column in columns)
        self.groups: tuple[str, ...] = tuple(column.group for column in columns)
        self.item_width = len(self._item.columns)
        self.code_names = tuple(self._codes.sizes)

    @property
    def code_sizes(self) -> dict[str, int]:
        """Vocabulary size of each category code."""
        return dict(self._codes.sizes)

    @tf.Module.with_name_scope
    def of_candidates(self) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """What is known of every candidate alone: the first `item_width` features, float32
        [C + 1, item_width], and category codes name -> int32 [C + 1]; the last row is of none.
        """
        codes = self._codes.by_name(self._codes.of(self._sources.candidate_row))
        return self._item.tables[0].read_value(), codes

    @tf.Module.with_name_scope
    def __call__(
        self, request: Mapping[str, tf.Tensor], found: FoundCandidates
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Features of every candidate.

        Args:
          request: from `RequestParser`.
          found: from `CandidateSources`.

        Returns:
          (float32 [B, N, len(names)], category codes name -> int32 [B, N]).
        """
        pairs = PairContext(request, found, self._sources)
        return tf.concat([*self._item(pairs), self._of_pair(pairs)], -1), self._codes_of(pairs)

    @tf.Module.with_name_scope
    def of_pair(
        self, request: Mapping[str, tf.Tensor], found: FoundCandidates
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """`__call__` without the first `item_width` features, which are the item's alone."""
        pairs = PairContext(request, found, self._sources)
        return self._of_pair(pairs), self._codes_of(pairs)

    def _of_pair(self, pairs: PairContext) -> tf.Tensor:
        """float32 [B, N, len(names) - item_width]."""
        return tf.concat([part for block in self._blocks for part in block(pairs)], -1)

    def _codes_of(self, pairs: PairContext) -> dict[str, tf.Tensor]:
        return self._codes.by_name(self._codes.of_candidates(pairs))
