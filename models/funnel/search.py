"""A shopper's words and who they are, together: the signatures `search` and `suggest`.

`models.search` finds what the words mean; the funnel says what this user would choose of it.
:class:`SearchPairs` describes (request, item) pairs, the same for SearchTrainer and the servable;
:class:`ProductSearch` ranks and shows them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.data.requests import RequestParser
from models.funnel.filters import Categories, RequestFilters
from models.funnel.limits import Limits
from models.funnel.lists import Lists, largest
from models.funnel.notices import Notices
from models.funnel.personal import HALF_LIFE_DAYS, PersonalFeatures
from models.funnel.reranking import Reranker, boosts_of
from models.funnel.search_reasons import SearchReasons
from models.search.catalogue import SearchCatalogue
from models.search.ranker import SearchRanker
from models.search.searcher import Found, Searcher
from models.search.suggester import Suggester
from schema import names as F
from schema.config import Config, EventKinds
from schema.errors import ConfigError

_BYTES_OF_A_CHARACTER = 4  # of UTF-8 at most
_UNSORTED = -3.0e38  # below every sort key


@dataclasses.dataclass(frozen=True)
class SearchParts:
    """What SearchTrainer learned and what was built for it.

    Attributes:
      catalogue: the searched items; any items of the catalogue in any order. A *search position* is an
        index into it.
      searcher: finds and describes.
      ranker: orders.
      suggester: completes.
      query_encoder: the SavedModel that the searcher calls; kept, so that its weights are exported.
    """

    catalogue: SearchCatalogue
    searcher: Searcher
    ranker: SearchRanker
    suggester: Suggester
    query_encoder: Any = None


@dataclasses.dataclass(frozen=True)
class Described:
    """The candidates of a batch of searches. N candidates, P personal features.

    Attributes:
      request: from `RequestParser`.
      found: from `Searcher`.
      row: int32 [B, N], their item rows; 0 where the slot is empty.
      personal: float32 [B, N, P].
    """

    request: Mapping[str, tf.Tensor]
    found: Found
    row: tf.Tensor
    personal: tf.Tensor


class SearchPairs(tf.Module):
    """From a request's strings to candidates and their features.

    Args:
      searcher: finds and describes.
      catalogue: what it searches.
      items: all items, by row.
      parser: turns ids into rows.
      personal: what is known of the user; None in a shop without events.
      config: the shop.

    Attributes:
      count: C, the searched items.
      row: int32 [C + 1] variable, item row of each search position; 0 of position C.
      position: int32 [V] variable, search position of each item row; C where it is not searched.
      bought: bool [event types], which event type codes mean "bought".
      codes: int32 [V], category codes; None without categories.
      names: of the personal features.
    """

    def __init__(
        self,
        searcher: Searcher,
        catalogue: SearchCatalogue,
        items: ItemTable,
        parser: RequestParser,
        personal: PersonalFeatures | None,
        config: Config,
    ) -> None:
        super().__init__(name="search_pairs")
        self.searcher, self._parser, self._personal = searcher, parser, personal
        self.names = () if personal is None else personal.names
        self.count = len(catalogue)
        row = _rows_of(catalogue, items)
        position = np.full(len(items), self.count, np.int32)
        position[row] = np.arange(self.count, dtype=np.int32)
        position[0] = self.count
        self.row = frozen_table(np.append(row, 0), tf.int32)
        self.position = frozen_table(position)
        types = EventKinds.of(config).purchases
        self.bought = tf.constant([False, *(name in types for name in parser.event_types)])
        self.codes, categories = None, None
        if config.items.category:
            self.codes = items.categorical[config.items.category]
            names = items.vocabularies[config.items.category].tolist()
            categories = Categories(self.codes, names, row)
        self._filters = RequestFilters(
            parser, self.position, self.count, categories, self.bought, config.serving.drop_bought_days
        )
        self._most = config.serving.max_query_length

    @tf.Module.with_name_scope
    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> Described:
        """Candidates of raw requests (the inputs of `search`) and their features."""
        request = self._parser(inputs)
        allowed = self._filters(inputs, request)
        allowed &= self.searcher.allowed(inputs[F.MIN_PRICE], inputs[F.MAX_PRICE], inputs[F.BRAND])
        query = shortened(inputs[F.QUERY], self._most)
        if self._personal is None:
            own = tf.gather(self.position, tf.reverse(request["history_row"], [1]))
            found = self.searcher(query, allowed, own, inputs[F.SORT])
            row = tf.gather(self.row, found.position)
            return Described(request, found, row, tf.zeros([*_shape(row), 0]))
        # exclusions only, as in `rank`: with the same ones an item has the same log-odds
        mine = self._personal.find(request, self._personal.not_excluded(inputs[F.EXCLUDE_ITEM_ID]))
        own = tf.gather(self.position, self._personal.best_rows(request, mine))
        empty = tf.cast(own == self.count, tf.int32)
        own = tf.gather(own, tf.argsort(empty, 1, stable=True), batch_dims=1)
        found = self.searcher(query, allowed, own, inputs[F.SORT])
        row = tf.gather(self.row, found.position)
        return Described(request, found, row, self._personal.of(request, mine, row))

    @tf.Module.with_name_scope
    def history(self, request: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Search positions of the history's items, int32 [B, L], C for padding, and their decayed weights,
        float32 [B, L], 0 for padding.
        """
        row = request["history_row"]
        decay = tf.exp(-np.log(2.0) / HALF_LIFE_DAYS * request[F.HISTORY_AGE_DAYS])
        return tf.gather(self.position, row), tf.where(row > 0, decay, 0.0)


class ProductSearch(tf.Module):
    """The signatures `search` and `suggest`.

    Args:
      pairs: candidates and their features.
      parts: what SearchTrainer learned.
      items: the catalogue.
      parser: turns ids into rows.
      lists: makes the outputs.
      config: the shop.

    Attributes:
      pairs: the argument.

    Raises:
      ConfigError: the ranker learned from other features than there are now.
    """

    def __init__(
        self,
        pairs: SearchPairs,
        parts: SearchParts,
        items: ItemTable,
        parser: RequestParser,
        lists: Lists,
        config: Config,
    ) -> None:
        super().__init__(name="product_search")
        learned = (*parts.ranker.features, *parts.ranker.personal)
        known = (*parts.searcher.feature_names, *pairs.names)
        if learned != known:
            other = sorted(set(learned) ^ set(known)) or ["their order"]
            raise ConfigError(
                f"search: the ranker of searches was trained with other features ({', '.join(other)}); "
                "run the pipeline again, so that SearchTrainer learns from those of today"
            )
        self.pairs, self._parser, self._lists = pairs, parser, lists
        self._ranker, self._suggester = parts.ranker, parts.suggester
        self._encoder = parts.query_encoder  # holds the weights that are exported
        serving = config.serving
        self._limits = Limits(serving, pairs.count, config.search.candidates)
        self._most = serving.max_query_length
        self._price = frozen_table(np.append(parts.catalogue.price, np.nan).astype(np.float32))
        row = pairs.row.numpy()[:-1]
        slots = frozen_table(np.append(np.arange(pairs.count), 0), tf.int32)
        self._reranker = Reranker(
            parts.searcher.item_vectors,
            slots,
            None,
            None,
            serving.model_copy(update={"diversity": serving.search_diversity, "category_cap": None}),
        )
        boosts = boosts_of(items, serving.boosts, row)
        self._boost = None
        if boosts is not None:
            self._boost = frozen_table(np.append(boosts[0] + np.log(boosts[1]), 0.0), tf.float32)
        self._reasons = SearchReasons(pairs.bought, config.candidates.history_length, serving)
        self._notices = Notices(serving)

    def functions(self) -> dict[str, Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]]:
        """Both signatures by name, for requests within the limits."""
        return {
            F.SEARCH: lambda inputs: self.search(self._limits.searched(inputs)),
            F.SUGGEST: lambda inputs: self.suggest(self._limits.rows(inputs, F.PREFIX)),
        }

    @tf.Module.with_name_scope
    def search(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """What the words of each request mean for who asks; see `docs/search.md`."""
        described = self.pairs(inputs)
        found = described.found
        score = self._ranker.score(found.features, described.personal)
        if self._boost is not None:
            score += tf.gather(self._boost, found.position)
        score = self._ranker.order(score, found.exact, found.valid)
        k = self._lists.k(inputs[F.K], inputs[F.QUERY])
        slot = self._places(found, score, inputs[F.DIVERSITY], largest(k))

        def shown(values: tf.Tensor) -> tf.Tensor:
            return tf.gather(values, slot, batch_dims=1)

        row = tf.where(shown(found.valid), shown(described.row), 0)
        query = plain(shortened(inputs[F.QUERY], self._most))
        reason = self._reasons(
            *(described.request, inputs[F.CONTEXT_TIMESTAMP], row),
            *(shown(found.exact), shown(found.matching), shown(found.source)),
            *(query, found),
        )
        price = tf.gather(self._price, shown(found.position))
        priced = {F.PRICE: tf.where(tf.math.is_finite(price), price, -1.0)}
        listed = self._lists.outputs(row, shown(score), shown(found.source), reason, k, priced)
        return listed | {
            F.TOTAL: found.total,
            F.RELAXED: found.relaxed,
            F.RELAXED_QUERY: found.relaxed_query,
            F.CORRECTED_QUERY: found.corrected_query,
            F.NOTICE: self._notices(query, found),
            F.PRICE_RANGE: found.price_range,
            F.FACET_NAME: found.facet_name,
            F.FACET_VALUE: found.facet_value,
            F.FACET_COUNT: found.facet_count,
            F.INTENT_CATEGORY: found.intent_category,
            F.INTENT_SCORE: found.intent_category_score,
            F.INTENT_BRAND: found.intent_brand,
            F.INTENT_BRAND_SCORE: found.intent_brand_score,
        }

    @tf.Module.with_name_scope
    def suggest(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Completions of what each request's user has typed so far."""
        tf.debugging.assert_equal(
            tf.size(inputs[F.K]), tf.size(inputs[F.PREFIX]), "k: give one value for each prefix"
        )
        affinity = self._suggester.affinity(*self.pairs.history(self._parser(inputs)))
        prefix = shortened(inputs[F.PREFIX], self._most)
        completion, score = self._suggester(prefix, inputs[F.K], affinity)
        return {F.COMPLETION: completion, F.SCORE: score}

    def _places(self, found: Found, score: tf.Tensor, diversity: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """int32 [B, K]: the slots of `found` in the order in which they are shown.

        Args:
          found: from the searcher.
          score: float32 [B, N], from the ranker.
          diversity: float32 [B], the request's; only relevance is diversified.
          places: int32 [], K.
        """
        by_relevance = found.by_relevance[:, None]
        key = tf.where(by_relevance, score, tf.maximum(found.order, _UNSORTED / 2))
        key = tf.where(found.valid, key, _UNSORTED)
        at = tf.math.top_k(key, tf.shape(key)[1]).indices
        rank = tf.range(tf.shape(key)[1], dtype=tf.float32)
        value = tf.where(tf.gather(found.valid, at, batch_dims=1), 1.0 / (1.0 + rank), -1.0)
        position = tf.gather(found.position, at, batch_dims=1)
        strength = tf.where(found.by_relevance, diversity, 0.0)
        return tf.gather(at, self._reranker.order(position, value, strength, places), batch_dims=1)


def shortened(text: tf.Tensor, most: int) -> tf.Tensor:
    """The first `most` characters of texts (string [B], any bytes), as valid UTF-8.

    Bytes are cut before characters are counted: what a request costs is bounded whatever it holds.
    """
    text = tf.strings.substr(text, 0, most * _BYTES_OF_A_CHARACTER)
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore")
    return tf.strings.substr(text, 0, most, unit="UTF8_CHAR")


def plain(text: tf.Tensor) -> tf.Tensor:
    """Texts (string [B], valid UTF-8) as an answer may repeat them: on one line, without control characters
    and without marks that turn the direction of what follows (Unicode Technical Report 36, 2.9).
    """
    text = tf.strings.regex_replace(text, r"[\x{202A}-\x{202E}\x{2066}-\x{2069}]", "")
    return tf.strings.strip(tf.strings.regex_replace(text, r"[\p{Z}\p{Cc}]+", " "))


def _rows_of(catalogue: SearchCatalogue, items: ItemTable) -> np.ndarray:
    """int32 [C]: the item rows of the searched items.

    Raises:
      ConfigError: an item is searched that the catalogue of the servable lacks.
    """
    ids = catalogue.item_id.astype(object)
    row = np.searchsorted(items.item_id[1:], ids) + 1
    known = row < len(items)
    known[known] = items.item_id[row[known]] == ids[known]
    if not known.all():
        raise ConfigError(
            f"search: item {ids[np.flatnonzero(~known)[0]]!r} is searched and not in the catalogue; "
            "both come from the same run, so run the pipeline again"
        )
    return row.astype(np.int32)


def _shape(values: tf.Tensor) -> list[Any]:
    return tf.unstack(tf.shape(values))
