"""The search as one graph: a query's words, its candidates and what is known of each pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from models.retrieval.index.plan import Plan
from models.search.index import SearchIndex
from schema.config import Search

SORTS = ("", "relevance", "price", "price_desc", "newest", "popularity")  # "" is relevance


@dataclasses.dataclass(frozen=True)
class Found:
    """What a batch of queries found. N is at most `settings.candidates`; I is `settings.intents`.

    Attributes:
      position: int32 [B, N], candidate positions, C where the slot is empty.
      valid: bool [B, N].
      features: float32 [B, N, Q], named by `Searcher.feature_names`; 0 in empty slots.
      exact: bool [B, N], the item's title or id is the query: it comes first whoever asks.
      matching: bool [B, N], the item has all words of `relaxed_query`.
      source: string [B, N], the source that ranks the item highest: lexical, semantic, behaviour, own.
      by_relevance: bool [B], whether the ranker orders; otherwise `order` does.
      order: float32 [B, N], what is sorted by, descending, where `by_relevance` is False.
      total: int32 [B], items of the shop that match (lower bound for very common words).
      relaxed: bool [B], whether words or the price bound of the query had to be dropped.
      relaxed_query: string [B], the words that all matching items have; the query where not relaxed.
      corrected_query: string [B], the query with misspelt words replaced; "" where nothing was.
      intent_category, intent_brand: string [B, I], "" where there are fewer.
      intent_category_score, intent_brand_score: float32 [B, I], probabilities, descending.
      facet_name, facet_value: string [B, F] ("category", "brand", "price"); facet_count int32 [B, F].
      price_range: float32 [B, 2], what price words said; -1 where they said nothing.
      query_vector: float32 [B, D].
    """

    position: tf.Tensor
    valid: tf.Tensor
    features: tf.Tensor
    exact: tf.Tensor
    matching: tf.Tensor
    source: tf.Tensor
    by_relevance: tf.Tensor
    order: tf.Tensor
    total: tf.Tensor
    relaxed: tf.Tensor
    relaxed_query: tf.Tensor
    corrected_query: tf.Tensor
    intent_category: tf.Tensor
    intent_category_score: tf.Tensor
    intent_brand: tf.Tensor
    intent_brand_score: tf.Tensor
    facet_name: tf.Tensor
    facet_value: tf.Tensor
    facet_count: tf.Tensor
    price_range: tf.Tensor
    query_vector: tf.Tensor


class Searcher(tf.Module):
    """Finds candidates for queries and describes each (query, candidate) pair.

    Args:
      index: the tables.
      encode_query: queries (string [B]) to unit vectors (float32 [B, D]).
      item_vectors: float32 [C, D], unit vectors of the items' texts.
      settings: the configuration's section.
      plan: how vectors are searched (rows are candidate positions); made from `settings` if None.

    Attributes:
      feature_names: the Q names of `Found.features`.
    """

    feature_names: tuple[str, ...]

    def __init__(
        self,
        index: SearchIndex,
        encode_query: Callable[[tf.Tensor], tf.Tensor],
        item_vectors: np.ndarray,
        settings: Search,
        plan: Plan | None = None,
    ) -> None:
        super().__init__(name="searcher")

    def allowed(self, min_price: tf.Tensor, max_price: tf.Tensor, brand: tf.Tensor) -> tf.Tensor:
        """bool [B, C]: candidates that the filters of a request let through.

        Args:
          min_price, max_price: float32 [B], negative or NaN for none; items without a price are left
            out where one is given.
          brand: string [B, n], "" for padding; all where a request names none.
        """
        raise NotImplementedError

    def __call__(
        self,
        query: tf.Tensor,
        allowed: tf.Tensor,
        own: tf.Tensor | None = None,
        sort: tf.Tensor | None = None,
    ) -> Found:
        """Candidates of queries.

        Args:
          query: string [B], any bytes whatsoever.
          allowed: bool [B, C] or [1, C] (or [1, 1]), candidates that filters let through.
          own: int32 [B, M], candidate positions that speak for the user (history, recommendations),
            best first, C for empty; those that match the query become candidates.
          sort: string [B], one of `SORTS`; anything else is relevance.
        """
        raise NotImplementedError
