"""What a request's own history says of any items of the catalogue: the personal part of a search's ranking.

The same code describes the lists that SearchTrainer learns from and those that the servable ranks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.funnel.retriever import Retriever
from models.funnel.scorer import Scorer
from models.retrieval.sources.base import FoundCandidates
from schema import names as F

# Log-odds given to what is no candidate: below those of almost every candidate, because it has hardly
# any events. The ranker's own are kept within the bounds, so that no single one decides a search.
NOT_A_CANDIDATE, LEAST_LOGIT, MOST_LOGIT = -8.0, -12.0, 6.0
HALF_LIFE_DAYS = 45.0  # of the decayed counts


class PersonalFeatures(tf.Module):
    """Numbers of (request, item) pairs that come from who asks, not from what is asked for.

    Args:
      retriever: parses requests and finds what the ranker looks at.
      items: the catalogue.
      scorer: the funnel's ranker.

    Attributes:
      names: of the features, in order: `logit` (of the funnel's ranker), `is_candidate` (1 or 0; only
        candidates have a logit), `own_events` (log1p of the item's purchases in the history),
        `own_decayed` (log1p of the same with a half-life of `HALF_LIFE_DAYS`), `own_recency` (half-lives
        since the last one, as 2^-age), and for each attribute of `items.categorical` the share, between
        0 and 1, of the decayed history that has the item's value: `own_share_<attribute>`, each event by
        the weight of its type. In a shop with events that are no purchases, `own_views_decayed` and
        `own_views_recency` say the same of those.
    """

    def __init__(self, retriever: Retriever, items: ItemTable, scorer: Scorer) -> None:
        super().__init__(name="personal_features")
        self._retriever, self._scorer = retriever, scorer
        attributes = sorted(items.categorical)
        self._codes = [frozen_table(items.categorical[name], tf.int32) for name in attributes]
        self._sizes = [len(items.vocabularies[name]) for name in attributes]
        own = ("own_events", "own_decayed", "own_recency")
        self.names = ("logit", "is_candidate", *own, *(f"own_share_{name}" for name in attributes))
        if retriever.types.others:
            self.names += ("own_views_decayed", "own_views_recency")

    @tf.Module.with_name_scope
    def __call__(self, request: Mapping[str, tf.Tensor], row: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
        """Features of items.

        Args:
          request: from `RequestParser`.
          row: int32 [B, N], item rows; 0 for an empty slot.
          allowed: bool [B, C] or [1, C], the candidates that exclusions and filters let through: the
            sources rank those, as they do for `recommend`.

        Returns:
          float32 [B, N, len(names)].
        """
        return self.of(request, self.find(request, allowed), row)

    @tf.Module.with_name_scope
    def find(self, request: Mapping[str, tf.Tensor], allowed: tf.Tensor) -> FoundCandidates:
        """What the sources find for parsed requests; arguments as `__call__`."""
        return self._retriever.sources(request, self._retriever.query(request), allowed)

    @tf.Module.with_name_scope
    def of(self, request: Mapping[str, tf.Tensor], found: FoundCandidates, row: tf.Tensor) -> tf.Tensor:
        """`__call__` of requests for which the sources have found candidates (from :meth:`find`)."""
        retriever = self._retriever
        position = tf.gather(retriever.sources.row_candidate, row)
        pairs = dataclasses.replace(found, position=position, valid=position < retriever.sources.count)
        of_pair, _ = retriever.pair_features.of_pair(request, pairs)
        logit = tf.clip_by_value(self._scorer(of_pair, position), LEAST_LOGIT, MOST_LOGIT)
        logit = tf.where(pairs.valid, logit, NOT_A_CANDIDATE)
        columns = [logit, tf.cast(pairs.valid, tf.float32), *self._own(request, row)]
        return tf.stack(columns, -1)

    @tf.Module.with_name_scope
    def not_excluded(self, exclude: tf.Tensor) -> tf.Tensor:
        """bool [B, C]: candidates that are not among `exclude` (string [B, E])."""
        return self._retriever.not_excluded(exclude)

    @tf.Module.with_name_scope
    def best_rows(self, request: Mapping[str, tf.Tensor], found: FoundCandidates) -> tf.Tensor:
        """int32 [B, M]: rows of items that speak for the user, best first, some of them twice, 0 between.

        First the own candidates that were bought (or viewed, by weight) most, then the rest of the history,
        the latest first, then what the sources found, each by the best rank that a source gives it.
        """
        sources = self._retriever.sources
        sizes = tf.constant([*sources.sizes.values()], tf.float32)
        rank = tf.reduce_min(found.rank.of(found.position) / sizes, -1)
        order = tf.argsort(rank, 1, stable=True)
        found_row = tf.gather(sources.candidate_row, tf.gather(found.position, order, batch_dims=1))
        own = tf.gather(sources.candidate_row, found.seed)
        return tf.concat([own, tf.reverse(request["history_row"], [1]), found_row], 1)

    def _own(self, request: Mapping[str, tf.Tensor], row: tf.Tensor) -> list[tf.Tensor]:
        """float32 [B, N] each: what the history holds of the items and of their attributes."""
        history, types = request["history_row"], self._retriever.types
        bought = tf.cast(types.purchases(request), tf.float32)
        real = tf.cast(history > 0, tf.float32)
        late = tf.exp(-np.log(2.0) / HALF_LIFE_DAYS * request[F.HISTORY_AGE_DAYS])
        decay = bought * late
        hit = tf.cast((row[:, :, None] == history[:, None]) & (row > 0)[:, :, None], tf.float32)
        counts = tf.math.log1p(tf.matmul(hit, tf.stack([bought, decay], -1)))
        recency = tf.reduce_max(hit * decay[:, None], -1)
        of_type = types.weights(request)
        liked = decay if of_type is None else real * late * of_type
        total = tf.maximum(tf.reduce_sum(liked, 1, keepdims=True), 1e-6)
        shares = [
            _of_code(tf.gather(codes, history), liked / total, tf.gather(codes, row), size)
            for codes, size in zip(self._codes, self._sizes, strict=True)
        ]
        columns = [counts[..., 0], counts[..., 1], recency, *shares]
        if types.others:
            viewed = (real - bought) * late
            columns.append(tf.math.log1p(tf.linalg.matvec(hit, viewed)))
            columns.append(tf.reduce_max(hit * viewed[:, None], -1))
        return columns


def _of_code(code: tf.Tensor, weight: tf.Tensor, wanted: tf.Tensor, size: int) -> tf.Tensor:
    """float32 [B, N]: the sums of `weight` (float32 [B, L]) over the events with each of the wanted codes.

    Args:
      code: int32 [B, L], of the events; 0 is no value.
      weight: float32 [B, L].
      wanted: int32 [B, N]; 0 gets 0.
      size: codes are below it.
    """
    batch = tf.shape(code)[0]
    offset = (tf.range(batch) * size)[:, None]
    sums = tf.math.unsorted_segment_sum(weight, code + offset, batch * size)
    return tf.where(wanted > 0, tf.gather(sums, wanted + offset), 0.0)
