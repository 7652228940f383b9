"""The ranker's logit of candidates, from what the pair features say of a request."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.data.frozen import frozen_table
from models.funnel.retriever import Retriever


class Scorer(tf.Module):
    """Scores candidates with the ranker; what it says of each item alone is computed once, here.

    Args:
      retriever: its pair features describe the candidates.
      ranker: the RankingTrainer's SavedModel.
    """

    def __init__(self, retriever: Retriever, ranker: Any) -> None:
        super().__init__(name="scorer")
        self._ranker = ranker
        parts = ranker.item_parts(*retriever.pair_features.of_candidates())
        self._item_parts = [frozen_table(part.numpy()) for part in parts]

    @tf.Module.with_name_scope
    def __call__(self, of_pair: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """float32 [B, N]: the calibrated log-odds that a candidate (int32 [B, N], at most C) is bought,
        from what `PairFeatures.of_pair` says of it.
        """
        parts = [tf.gather(part, position) for part in self._item_parts]
        return self._ranker.score_with(of_pair, *parts)
