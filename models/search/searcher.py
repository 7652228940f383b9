"""The search as one graph: a query's words, its candidates and what is known of each pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.index.plan import Plan
from models.search import facets as facet_tables
from models.search import text
from models.search.compounds import Splitter
from models.search.facets import Facets, Prices
from models.search.features import PairFeatures
from models.search.hashing import keys
from models.search.index import SearchIndex, id_key
from models.search.intent import Intent
from models.search.lexical import Lexical
from models.search.lookups import ItemLookup
from models.search.matching import SOURCES, Matcher, Sizes
from models.search.query import QueryReader, ReadQuery
from models.search.semantic import TextVectors
from models.search.spelling import Speller
from models.search.synonyms import SynonymLookup
from schema.config import Search

SORTS = ("", "relevance", "price", "price_desc", "newest", "popularity")  # "" is relevance
_ORDERS = ("popularity", "price", "price_desc", "newest")  # rows of the matcher's `orders`


@dataclasses.dataclass(frozen=True)
class Found:
    """What a batch of queries found. N is at most `settings.candidates`; I is `settings.intents`.

    Attributes:
      position: int32 [B, N], candidate positions, C where the slot is empty.
      valid: bool [B, N].
      features: float32 [B, N, Q], named by `Searcher.feature_names`; 0 in empty slots.
      exact: bool [B, N], the item's title or id is the query: it comes first whoever asks.
      matching: bool [B, N], the item has all words of `relaxed_query`.
      source: string [B, N], the source that ranks the item highest: lexical, semantic, behaviour, own,
        exact.
      by_relevance: bool [B], whether the ranker orders; otherwise `order` does.
      order: float32 [B, N], what is sorted by, descending, where `by_relevance` is False.
      total: int32 [B], items of the shop that match (lower bound for very common words).
      relaxed: bool [B], whether words or the price bound of the query had to be dropped.
      relaxed_query: string [B], the words that all matching items have; all words where not relaxed.
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


def query_reader(index: SearchIndex, lexical: Lexical, settings: Search) -> QueryReader:
    """What reads queries with the words of the index."""
    return QueryReader(
        lexical,
        Speller(index.spellings) if settings.spelling else None,
        Splitter(index.compounds),
        SynonymLookup(index.synonyms, lexical.terms),
        settings.ignored_words,
        settings.price_words,
    )


class Searcher(tf.Module):
    """Finds candidates for queries and describes each (query, candidate) pair.

    Args:
      index: the tables.
      encode_query: queries (string [B]) to unit vectors (float32 [B, D]).
      item_vectors: float32 [C, D], unit vectors of the items' texts.
      settings: the configuration's section.
      plan: how vectors are searched, in `settings.semantic_dim` dimensions (rows are candidate
        positions); made from `settings` if None.

    Attributes:
      feature_names: the Q names of `Found.features`.
      count: C.
      item_vectors: float32 [C + 1, D] variable; zeros at position C.
      index: the search over them.
    """

    def __init__(
        self,
        index: SearchIndex,
        encode_query: Callable[[tf.Tensor], tf.Tensor],
        item_vectors: np.ndarray,
        settings: Search,
        plan: Plan | None = None,
    ) -> None:
        super().__init__(name="searcher")
        catalogue = index.catalogue
        self.count = index.count
        self._encode_query = encode_query
        self._lexical = Lexical(index.postings, self.count)
        self.reader = query_reader(index, self._lexical, settings)
        self._names = ItemLookup(index.names, self.count, max(settings.exact, 1))
        self._behaviour = ItemLookup(index.log, self.count, max(settings.behaviour, 1))
        self._prices = Prices(catalogue.price)
        category = facet_tables.coded(catalogue.category, self.count)
        brand = facet_tables.coded(catalogue.brand, self.count)
        counted = {facet_tables.PRICE: facet_tables.price_bands(catalogue.price, settings.price_bands)}
        if catalogue.brand is not None:
            counted = {facet_tables.BRAND: brand} | counted
        if catalogue.category is not None:
            counted = {facet_tables.CATEGORY: category} | counted
        orders = _orders(index)
        self._matcher = Matcher(
            self._lexical, self._prices, Facets(counted, settings.facets), orders, _sizes(settings)
        )
        self._category = Intent(*category, settings.intents)
        self._brand = Intent(*brand, settings.intents)
        self._brand_code = frozen_table(brand[0], tf.int32)
        self._brand_key = frozen_table(keys(tf.constant(_folded(brand[1]), tf.string)).numpy(), tf.int64)
        self.index = TextVectors(item_vectors, settings, plan)
        self.item_vectors = self.index.table
        self._semantic = min(settings.semantic, self.count)
        self._pairs = PairFeatures(index, orders[0], settings)
        self.feature_names = self._pairs.names

    @tf.Module.with_name_scope
    def allowed(self, min_price: tf.Tensor, max_price: tf.Tensor, brand: tf.Tensor) -> tf.Tensor:
        """bool [B, C], or [1, 1] where no request filters: candidates that the filters let through.

        Args:
          min_price, max_price: float32 [B], negative or NaN for none; items without a price are left
            out where one is given.
          brand: string [B, n], "" for padding; all where a request names none.
        """
        named = tf.strings.strip(brand) != ""

        def of_brand() -> tf.Tensor:
            wanted = keys(tf.reshape(_fold(tf.reshape(brand, [-1])), tf.shape(brand)))
            wanted = tf.where(named, wanted, tf.constant(-1, tf.int64))
            listed = tf.reduce_any(wanted[:, :, None] == self._brand_key[None, None], 1)  # [B, brands]
            listed |= ~tf.reduce_any(named, 1, keepdims=True)
            return tf.gather(listed, self._brand_code[:-1], axis=1)

        def of_price() -> tf.Tensor:
            return self._prices.within(min_price, max_price, unknown=False)

        # few requests filter, and looking at every item costs more than all that reads a request
        def every() -> tf.Tensor:
            return tf.ones([1, 1], tf.bool)

        priced = tf.reduce_any((min_price >= 0) | (max_price >= 0))
        return tf.cond(priced, of_price, every) & tf.cond(tf.reduce_any(named), of_brand, every)

    @tf.Module.with_name_scope
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
        batch = tf.shape(query)[0]
        read = self.reader(query)
        allowed = tf.broadcast_to(allowed, [batch, self.count])
        own = tf.zeros([batch, 0], tf.int32) if own is None else own
        sort = tf.fill([batch], 0) if sort is None else _sort_code(sort)
        vector = self._encode_query(self._encoded_text(query, read))
        lists = {"own": own} | self._lists(query, read, vector, allowed)
        one = {"term": read.term, "weight": read.weight, "count": read.count, "blank": read.blank}
        one |= lists | {"price": read.price, "allowed": allowed, "sort": sort}
        found = tf.map_fn(
            self._matcher, one, fn_output_signature=self._matcher.output_spec(), parallel_iterations=2
        )
        return self._described(query, read, vector, lists, found, sort)

    def _encoded_text(self, query: tf.Tensor, read: ReadQuery) -> tf.Tensor:
        """string [B], what the encoder reads: the query, or its words where some were replaced."""
        every = read.joined(tf.ones_like(read.display, tf.bool))
        other = read.corrected | tf.reduce_any(read.price >= 0, 1)
        return tf.where(other, every, text.valid(query))

    def _lists(
        self, query: tf.Tensor, read: ReadQuery, vector: tf.Tensor, allowed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The positions of all sources but the lexical one, int32 [B, any], best first."""
        blank = read.blank[:, None]
        _, semantic = self.index.search(vector, self._semantic, allowed)
        key = keys(read.canonical)
        behaviour, _ = self._behaviour(key)
        by_title, by_id = self._names(key)[0], self._names(id_key(query))[0]
        lists = {"semantic": semantic, "behaviour": behaviour, "exact": by_title}
        lists = {name: tf.where(blank, self.count, position) for name, position in lists.items()}
        return lists | {"exact": tf.concat([by_id, lists["exact"]], 1)}

    def _described(
        self,
        query: tf.Tensor,
        read: ReadQuery,
        vector: tf.Tensor,
        lists: dict[str, tf.Tensor],
        found: dict[str, tf.Tensor],
        sort: tf.Tensor,
    ) -> Found:
        position, rank_score = found["position"], found["rank_score"]
        valid = position < self.count
        details = self._lexical.details(read.term, read.weight, position)
        similarity = self.index.score(vector, position)
        exact = tf.reduce_any(position[..., None] == lists["exact"][:, None], 2) & valid
        weight = self._pairs.relevance(details, similarity, read, valid)
        category, categories, category_score = self._category(position, weight)
        brand, brands, brand_score = self._brand(position, weight)
        kept = read.place < found["kept"][:, None]
        relaxed = read.lost | (found["kept"] < read.count) | ~found["price_kept"]
        every = read.joined(tf.ones_like(kept))
        features = self._pairs(
            read,
            details,
            {
                "similarity": similarity,
                "position": position,
                "valid": valid,
                "exact": exact,
                "matching": found["matching"],
                "category": category,
                "brand": brand,
                "rank_score": rank_score,
                "log_share": _share_of(position, *self._behaviour(keys(read.canonical))),
            },
        )
        best = tf.argmax(rank_score, 2, output_type=tf.int32)
        return Found(
            position=position,
            valid=valid,
            features=features,
            exact=exact,
            matching=found["matching"] & valid,
            source=tf.where(valid, tf.gather(tf.constant(SOURCES), best), ""),
            by_relevance=sort == 0,
            order=found["order"],
            total=found["total"],
            relaxed=relaxed,
            relaxed_query=tf.where(relaxed, read.joined(kept), every),
            corrected_query=tf.where(read.corrected, every, ""),
            intent_category=categories,
            intent_category_score=category_score,
            intent_brand=brands,
            intent_brand_score=brand_score,
            facet_name=found["facet_name"],
            facet_value=found["facet_value"],
            facet_count=found["facet_count"],
            price_range=read.price,
            query_vector=vector,
        )


def _share_of(position: tf.Tensor, listed: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """float32 [B, N], the shares (float32 [B, K]) of positions among listed ones (int32 [B, K])."""
    same = tf.cast(position[..., None] == listed[:, None], tf.float32)
    return tf.reduce_sum(same * share[:, None], 2)


def _sizes(settings: Search) -> Sizes:
    weights = [settings.source_weights.get(name, 1.0) for name in SOURCES]
    return Sizes(
        lexical=settings.lexical,
        own=settings.own,
        candidates=settings.candidates,
        constant=settings.rank_constant,
        weights=np.asarray(weights, np.float32),
        popularity=settings.popularity,
    )


def _orders(index: SearchIndex) -> np.ndarray:
    """float32 [sorts, C + 1] of `_ORDERS`: popularity from 0 to 1, all others as ranks; what is unknown
    comes last. Ranks, since seconds do not fit into float32.
    """
    catalogue = index.catalogue
    popularity = np.log1p(np.maximum(catalogue.popularity, 0))
    popularity = popularity / max(popularity.max(initial=0), 1e-9)
    price = pd.Series(catalogue.price)
    newest = pd.Series(np.where(catalogue.newest > 0, catalogue.newest, -1))
    ranks = [
        price.rank(method="dense", ascending=False).fillna(0),
        price.rank(method="dense", ascending=True).fillna(0),
        newest.rank(method="dense", ascending=True),
    ]
    return np.pad(np.stack([popularity, *ranks]).astype(np.float32), [(0, 0), (0, 1)])


def _sort_code(sort: tf.Tensor) -> tf.Tensor:
    """int32 [B]: 0 for relevance, else 1 + the row of `_ORDERS`."""
    same = tf.strings.strip(sort)[:, None] == tf.constant(_ORDERS)
    return tf.reduce_sum(tf.cast(same, tf.int32) * tf.range(1, len(_ORDERS) + 1), 1)


def _fold(strings: tf.Tensor) -> tf.Tensor:
    return text.letters(text.fold(strings))


def _folded(names: np.ndarray) -> list[bytes]:
    return _fold(tf.constant(names, tf.string)).numpy().tolist()
