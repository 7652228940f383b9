"""The whole funnel as one graph: sources, ranking, the best k, and why.

Everything is TensorFlow's own ops from raw strings to raw strings, so that stock TensorFlow
Serving runs it. :class:`models.funnel.retriever.Retriever` is the part that CandidateSampler shares;
:class:`Funnel` adds the ranker and the signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from models.data.item_table import ItemTable
from models.data.requests import request_spec
from models.funnel.exploration import Explorer, with_new
from models.funnel.filters import Categories, RequestFilters
from models.funnel.limits import Limits, in_parts
from models.funnel.lists import Lists, largest
from models.funnel.personal import PersonalFeatures
from models.funnel.reasons import Reasons
from models.funnel.reranking import Reranker, boosts_of
from models.funnel.retriever import Retriever
from models.funnel.scorer import Scorer
from models.funnel.search import ProductSearch, SearchPairs, SearchParts
from models.funnel.signatures import concrete, parse_examples, signature_specs
from models.ranking.explanations import Explainer
from models.retrieval.sources.base import FoundCandidates
from schema import names as F
from schema.config import Config, EventKinds


class Funnel(tf.Module):
    """The servable: every signature of the public contract (see `docs/serving.md`).

    Args:
      retriever: sources and features.
      ranker: the RankingTrainer's SavedModel; its `score` gives calibrated logits (`score_with`
        the same from its `item_parts` of the candidates), its `heads` what every head says.
      encode_text: texts (string [B]) to unit vectors.
      items: the catalogue.
      config: the shop.
      search: what `search` and `suggest` are built from; None leaves them out.
    """

    def __init__(
        self,
        retriever: Retriever,
        ranker: Any,
        encode_text: Callable[[tf.Tensor], tf.Tensor],
        text_encoder: Any,
        items: ItemTable,
        config: Config,
        search: SearchParts | None = None,
    ) -> None:
        super().__init__(name="funnel")
        self.retriever = retriever
        self._ranker = ranker
        self._scorer = Scorer(retriever, ranker)
        self._text_encoder = text_encoder
        self._encode_text = encode_text
        self.lists = Lists(items, retriever.parser.item_ids, config.serving)
        serving, snapshot = config.serving, retriever.snapshot
        sources = retriever.sources
        self._limits = Limits(serving, sources.count, sum(sources.sizes.values()))
        types = EventKinds.of(config).purchases
        bought = tf.constant([False, *(name in types for name in retriever.parser.event_types)])
        self._categories, codes = None, None
        if config.items.category:
            codes = items.categorical[config.items.category]
            names = items.vocabularies[config.items.category].tolist()
            self._categories = Categories(codes, names, snapshot.candidate_row)
        self.allowed = RequestFilters(
            retriever.parser,
            retriever.sources.row_candidate,
            retriever.sources.count,
            self._categories,
            bought,
            serving.drop_bought_days,
        )
        self.reranker = Reranker(
            retriever.item_vectors,
            retriever.sources.candidate_row,
            None if codes is None else codes[snapshot.candidate_row],
            boosts_of(items, serving.boosts, snapshot.candidate_row),
            serving,
        )
        self.explorer = Explorer.of(items, snapshot, retriever.search_vectors.numpy(), codes, serving)
        self.explainer = Explainer(ranker.score, retriever.pair_features.groups, self._average_features())
        self.reasons = Reasons(
            self.lists.item_text,
            snapshot,
            retriever.sources,
            self._categories,
            bought,
            config.candidates.history_length,
            serving,
        )
        self.search: ProductSearch | None = None
        if search is not None:
            personal = PersonalFeatures(retriever, items, self._scorer)
            pairs = SearchPairs(search.searcher, search.catalogue, items, retriever.parser, personal, config)
            self.search = ProductSearch(pairs, search, items, retriever.parser, self.lists, config)

    # --- signatures ------------------------------------------------------------------

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The concrete functions to export, by signature name."""
        functions = {
            "recommend": self.recommend,
            "similar": self.similar,
            "rank": self.rank,
            "explain": self.explain,
            "embed_text": self.embed_text,
            "embed_user": self.embed_user,
            "embed_item": self.embed_item,
            "serving_default": self.rank_examples,
        }
        if self.search is not None:
            functions |= self.search.functions()
        specs = signature_specs(self.retriever.contexts)
        return {name: concrete(function, specs[name], name) for name, function in functions.items()}

    @tf.Module.with_name_scope
    def recommend(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The best items of each request, as many as it asks for."""
        inputs = self._limits.recommended(inputs)
        request = self.retriever.parser(inputs)
        query = self.retriever.query(request)
        allowed = self.allowed(inputs, request)
        found = self.retriever.sources(request, query, allowed).without_empty_places()
        of_pair, _ = self.retriever.pair_features.of_pair(request, found)
        probability = tf.where(found.valid, self.probability(of_pair, found.position), -1.0)
        row, position, score, explored = self.arrange(inputs, request, found, probability)
        source, reason = self.reasons(request, inputs[F.CONTEXT_TIMESTAMP], found, row, position, explored)
        return self.lists.outputs(row, score, source, reason, self.lists.k(inputs[F.K], inputs[F.USER_ID]))

    @tf.Module.with_name_scope
    def similar(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The items with the nearest vectors; what trends now for an unknown item."""
        inputs = self._limits.scored(inputs, F.ITEM_ID)
        sources = self.retriever.sources
        row = self.retriever.parser.rows(inputs[F.ITEM_ID])
        known = (row > 0)[:, None]
        own = tf.one_hot(tf.gather(sources.row_candidate, row), sources.count, True, False, dtype=tf.bool)
        most = min(self.lists.max_k, sources.count)
        near = sources.index.search(self.retriever.item_query(row), most, ~own)
        first = sources.by_trend[:most]
        share = tf.gather(sources.trending, first) / tf.maximum(sources.trending[sources.by_trend[0]], 1.0)
        k = self.lists.k(inputs[F.K], row)
        score, position = (
            tf.where(known, of_item, of_shop[None])[:, : largest(k)]
            for of_item, of_shop in zip(near, (share, first), strict=True)
        )
        shape = tf.shape(position)
        source = tf.broadcast_to(tf.where(known, F.SIMILAR, F.TRENDING), shape)
        reason = tf.broadcast_to(self.reasons.similar_to(row[:, None], known), shape)
        return self.lists.outputs(tf.gather(sources.candidate_row, position), score, source, reason, k)

    @tf.Module.with_name_scope
    def rank(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Every head's answer for given items in the order given; 0 where an item is no candidate.

        What is excluded is what `recommend` would be asked to leave out: the sources rank the rest as
        they do there, and so the ranker sees what it was taught with.
        """
        inputs = self._limits.scored(inputs, F.USER_ID)
        return self._rank(self._limits.pairs(self._limits.candidates(inputs)))

    def _rank(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        position = self.retriever.positions(inputs[F.CANDIDATE_ITEM_ID])
        allowed = self.retriever.not_excluded(inputs[F.EXCLUDE_ITEM_ID])
        found, features, codes = self.retriever.describe(inputs, allowed, fixed=position)
        heads = {
            name: tf.where(found.valid, values, 0.0)
            for name, values in self._ranker.heads(features, codes).items()
        }
        return {F.SCORE: heads[F.P_PURCHASE]} | heads

    @tf.Module.with_name_scope
    def explain(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """What speaks for and against given items; all 0 for items that are not candidates."""
        inputs = self._limits.explained(self._limits.scored(inputs, F.USER_ID))
        position = self.retriever.positions(inputs[F.CANDIDATE_ITEM_ID])
        allowed = self.retriever.not_excluded(inputs[F.EXCLUDE_ITEM_ID])
        found, features, codes = self.retriever.describe(inputs, allowed, fixed=position)
        log_odds, baseline, attribution = self.explainer(features, codes)
        every = tf.concat([features, *(tf.cast(code, tf.float32)[..., None] for code in codes.values())], -1)
        batch = tf.shape(position)[0]
        # names in every row, so that a server can batch
        groups = tf.repeat(tf.constant([self.explainer.groups]), batch, 0)
        names = tf.repeat(tf.constant([[*self.retriever.pair_features.names, *codes]]), batch, 0)
        return {
            F.LOG_ODDS: tf.where(found.valid, log_odds, 0.0),
            F.BASELINE: tf.where(found.valid, baseline, 0.0),
            F.ATTRIBUTION: tf.where(found.valid[..., None], attribution, 0.0),
            F.GROUP: groups,
            F.FEATURE: tf.where(found.valid[..., None], every, 0.0),
            F.FEATURE_NAME: names,
        }

    @tf.Module.with_name_scope
    def rank_examples(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """`rank` of serialized tf.Examples, for TFMA and BulkInferrer, which decide how many rows there are.

        Rows are ranked some at a time: the scores of all candidates for each of a thousand rows
        would take gigabytes.
        """
        parsed = parse_examples(inputs["examples"], self.retriever.contexts)
        parsed = self._limits.pairs(self._limits.candidates(parsed))
        names = (F.P_PURCHASE, F.P_REPEAT, F.EXPECTED_VALUE)

        def rank(rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
            answer = self._rank(rows)
            return tf.stack([answer[name] for name in names])

        answers = in_parts(rank, parsed, self._limits.scored_at_once, len(names))
        return dict(zip(names, tf.unstack(answers, len(names)), strict=True))

    @tf.Module.with_name_scope
    def embed_text(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Unit vectors of texts."""
        return {F.EMBEDDING: self._encode_text(self._limits.texts(inputs)[F.TEXT])}

    @tf.Module.with_name_scope
    def embed_user(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The query tower's vectors of requests."""
        inputs = self._limits.rows(inputs, F.USER_ID)
        return {F.EMBEDDING: self.retriever.query(self.retriever.parser(inputs))}

    @tf.Module.with_name_scope
    def embed_item(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The item tower's vectors of items; zeros for an unknown one."""
        row = self.retriever.parser.rows(self._limits.rows(inputs, F.ITEM_ID)[F.ITEM_ID])
        vectors = tf.gather(self.retriever.search_vectors, row)
        return {F.EMBEDDING: tf.where((row > 0)[:, None], vectors, 0.0)}

    # --- parts -----------------------------------------------------------------------

    @tf.Module.with_name_scope
    def probability(self, of_pair: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """float32 [B, N]: the ranker's probability that a candidate (int32 [B, N]) is bought, from
        what `PairFeatures.of_pair` says of it.
        """
        return tf.sigmoid(self._scorer(of_pair, position))

    def _average_features(self) -> np.ndarray:
        """float32 [F]: the mean over all candidates, for somebody unknown without a history."""
        request = {
            name: tf.zeros([1] * spec.shape.rank, spec.dtype)
            for name, spec in request_spec(self.retriever.contexts).items()
        }
        count = self.retriever.sources.count
        everything = tf.ones([1, count], tf.bool)
        _, features, _ = self.retriever.describe(request, everything, fixed=tf.range(count)[None])
        return features[0].numpy().mean(0)

    @tf.Module.with_name_scope
    def arrange(
        self,
        inputs: Mapping[str, tf.Tensor],
        request: Mapping[str, tf.Tensor],
        found: FoundCandidates,
        probability: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Puts ranked candidates into the order in which they are shown, new items among them.

        Args:
          inputs: the request's strings.
          request: from `RequestParser`.
          found: from `CandidateSources`.
          probability: float32 [B, N], the ranker's; negative where the place is empty.

        Returns:
          Each [B, K], K the largest `k` or fewer: row int32, 0 where the place is empty;
          position int32, C where the item is no candidate; probability float32, 0 for new
          items; whether it is a new item, bool.
        """
        sources = self.retriever.sources
        places = largest(self.lists.k(inputs[F.K], inputs[F.USER_ID]))
        position, score = self.reranker(found.position, probability, inputs[F.DIVERSITY], places)
        row = tf.gather(sources.candidate_row, position)
        if self.explorer is None:
            return row, position, score, tf.zeros_like(position, tf.bool)
        new = self.explorer(
            inputs,
            request,
            found.query,
            self.retriever.parser.rows(inputs[F.EXCLUDE_ITEM_ID]),
            None if self._categories is None else self._categories.wanted(inputs[F.CATEGORY]),
            places,
        )
        return with_new(row, position, score, new, sources.count)
