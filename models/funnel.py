"""The whole funnel as one graph: sources, ranking, the best k, and why.

Everything is TensorFlow's own ops from raw strings to raw strings, so that stock TensorFlow
Serving runs it. :class:`models.retriever.Retriever` is the part that CandidateSampler shares;
:class:`Funnel` adds the ranker and the signatures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from models import features as F
from models.item_table import ItemTable
from models.requests import request_spec
from models.retriever import Retriever
from models.sources import Found
from models.tables import table
from pipeline.config import Config


class Funnel(tf.Module):
    """The servable: every signature of the public contract (see `docs/serving.md`).

    Args:
      retriever: sources and features.
      ranker: the RankingTrainer's SavedModel; its `score` maps features to logits.
      encode_text: texts (string [B]) to unit vectors.
      items: the catalogue.
      config: the shop.
    """

    def __init__(
        self,
        retriever: Retriever,
        ranker: Any,
        encode_text: Callable[[tf.Tensor], tf.Tensor],
        text_encoder: Any,
        items: ItemTable,
        config: Config,
    ) -> None:
        super().__init__(name="funnel")
        self.retriever = retriever
        self._ranker = ranker
        self._text_encoder = text_encoder
        self._encode_text = encode_text
        self._item_text = tf.constant(items.text.tolist())
        category = config.items.category
        self._category = table(items.categorical[category], tf.int32) if category else None
        self._category_names = tf.constant(items.vocabularies[category].tolist()) if category else None
        self._reasons = dict(config.serving.reasons)
        self._default_k, self._max_k = config.serving.default_k, config.serving.max_k

    # --- signatures ------------------------------------------------------------------

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The concrete functions to export, by signature name."""
        request = request_spec(self.retriever.contexts)
        ids = tf.TensorSpec([None], tf.string, F.ITEM_ID)
        k = tf.TensorSpec([None], tf.int32, F.K)
        listed = {
            F.EXCLUDE_ITEM_ID: tf.TensorSpec([None, None], tf.string, F.EXCLUDE_ITEM_ID),
            F.CATEGORY: tf.TensorSpec([None, None], tf.string, F.CATEGORY),
            F.K: k,
        }
        candidates = {F.CANDIDATE_ITEM_ID: tf.TensorSpec([None, None], tf.string, F.CANDIDATE_ITEM_ID)}
        takes = {
            "recommend": (self.recommend, request | listed),
            "similar": (self.similar, {F.ITEM_ID: ids, F.K: k}),
            "rank": (self.rank, request | candidates),
            "embed_text": (self.embed_text, {F.TEXT: tf.TensorSpec([None], tf.string, F.TEXT)}),
            "embed_user": (self.embed_user, request),
            "embed_item": (self.embed_item, {F.ITEM_ID: ids}),
            "serving_default": (
                self.rank_examples,
                {"examples": tf.TensorSpec([None], tf.string, "examples")},
            ),
        }
        return {name: _by_name(function, spec, name) for name, (function, spec) in takes.items()}

    @tf.Module.with_name_scope
    def recommend(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The best items of each request, as many as it asks for."""
        found, features, codes = self.retriever.describe(inputs, self.allowed(inputs))
        score = tf.where(found.valid, self.probability(features, codes), -1.0)
        k = self._k(inputs[F.K], inputs[F.USER_ID])
        score, place = tf.math.top_k(score, tf.minimum(_largest(k), tf.shape(score)[1]))
        position = tf.gather(found.position, place, batch_dims=1)
        source, reason = self._explain(found, position)
        return self._listed(position, score, source, reason, k)

    @tf.Module.with_name_scope
    def similar(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The items with the nearest vectors; what trends now for an unknown item."""
        sources = self.retriever.sources
        row = self.retriever.parser.rows(inputs[F.ITEM_ID])
        known = (row > 0)[:, None]
        own = tf.one_hot(tf.gather(sources.row_candidate, row), sources.count, True, False, dtype=tf.bool)
        most = min(self._max_k, sources.count)
        near = sources.index.search(self.retriever.item_query(row), most, ~own)
        trending = sources.trending / tf.maximum(tf.reduce_max(sources.trending), 1.0)
        k = self._k(inputs[F.K], row)
        score, position = (
            tf.where(known, of_item, of_shop[None])[:, : _largest(k)]
            for of_item, of_shop in zip(near, tf.math.top_k(trending, most), strict=True)
        )
        text = tf.gather(self._item_text, row)
        name = tf.where(known, F.SIMILAR, F.TRENDING)
        shape = tf.shape(position)
        reason = tf.where(
            known,
            _fill(self._reasons.get(F.SIMILAR, ""), {"item": text[:, None]}),
            _fill(self._reasons.get(F.TRENDING, ""), {}),
        )
        return self._listed(position, score, tf.broadcast_to(name, shape), tf.broadcast_to(reason, shape), k)

    @tf.Module.with_name_scope
    def rank(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Scores of given items in the order given; 0 for items that are not candidates."""
        position = self.retriever.positions(inputs[F.CANDIDATE_ITEM_ID])
        everything = tf.ones([1, self.retriever.sources.count], tf.bool)
        found, features, codes = self.retriever.describe(inputs, everything, fixed=position)
        probability = tf.where(found.valid, self.probability(features, codes), 0.0)
        return {F.SCORE: probability, F.P_PURCHASE: probability}

    @tf.Module.with_name_scope
    def rank_examples(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """`rank` of serialized tf.Examples, for TFMA and BulkInferrer."""
        scalars = [F.USER_ID, *(F.context(name) for name in self.retriever.contexts)]
        lists = [F.HISTORY_ITEM_ID, F.HISTORY_EVENT_TYPE, F.CANDIDATE_ITEM_ID]
        spec: dict[str, Any] = {name: tf.io.FixedLenFeature([], tf.string, "") for name in scalars}
        spec |= {name: tf.io.RaggedFeature(tf.string) for name in lists}
        spec[F.HISTORY_AGE_DAYS] = tf.io.RaggedFeature(tf.float32)
        spec[F.CONTEXT_TIMESTAMP] = tf.io.FixedLenFeature([], tf.int64, 0)
        parsed = tf.io.parse_example(inputs["examples"], spec)
        dense = {
            name: value.to_tensor() if isinstance(value, tf.RaggedTensor) else value
            for name, value in parsed.items()
        }
        return {F.P_PURCHASE: self.rank(dense)[F.P_PURCHASE]}

    @tf.Module.with_name_scope
    def embed_text(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Unit vectors of texts."""
        return {F.EMBEDDING: self._encode_text(inputs[F.TEXT])}

    @tf.Module.with_name_scope
    def embed_user(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The query tower's vectors of requests."""
        return {F.EMBEDDING: self.retriever.query(self.retriever.parser(inputs))}

    @tf.Module.with_name_scope
    def embed_item(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The item tower's vectors of items; zeros for an unknown one."""
        row = self.retriever.parser.rows(inputs[F.ITEM_ID])
        vectors = tf.gather(self.retriever.search_vectors, row)
        return {F.EMBEDDING: tf.where((row > 0)[:, None], vectors, 0.0)}

    # --- parts -----------------------------------------------------------------------

    @tf.Module.with_name_scope
    def allowed(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """bool [B, C] (or [1, C]): candidates that a request's filters and exclusions let through."""
        return self.retriever.not_excluded(inputs[F.EXCLUDE_ITEM_ID]) & self._in_category(inputs[F.CATEGORY])

    @tf.Module.with_name_scope
    def probability(self, features: tf.Tensor, codes: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """float32 [B, N]: the ranker's probability that a candidate is bought."""
        return tf.sigmoid(self._ranker.score(features, codes))

    def _k(self, k: tf.Tensor, requests: tf.Tensor) -> tf.Tensor:
        """int32 [B]: how many items each of the `requests` [B] gets."""
        tf.debugging.assert_equal(tf.size(k), tf.size(requests), "k: give one value for each request")
        return tf.minimum(tf.where(k > 0, k, self._default_k), self._max_k)

    def _in_category(self, wanted: tf.Tensor) -> tf.Tensor:
        """bool [B, C]: candidates in one of the wanted categories; all where none is named."""
        count = self.retriever.sources.count
        if self._category is None:
            return tf.ones([1, count], tf.bool)
        code = tf.gather(self._category, self.retriever.sources.candidate_row[:count])
        name = tf.gather(self._category_names, code)
        named = wanted != ""
        hit = tf.reduce_any((wanted[:, :, None] == name) & named[:, :, None], 1)
        return hit | ~tf.reduce_any(named, 1, keepdims=True)

    def _explain(self, found: Found, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(source, reason), string [B, k], that the request's own data bear out."""
        sources = self.retriever.sources
        count = tf.gather(found.own[..., 0], position, batch_dims=1)
        days = tf.gather(found.last_age, position, batch_dims=1)
        link, linked = sources.strongest_link(found, position)
        link_text = tf.gather(self._item_text, tf.gather(sources.candidate_row, link))
        share = {
            name: tf.gather(found.ranks[name], position, batch_dims=1) / size
            for name, size in sources.sizes.items()
        }
        facts = {
            "count": tf.strings.as_string(tf.cast(count, tf.int32)),
            "days": tf.strings.as_string(tf.cast(tf.where(count > 0, tf.floor(days), 0.0), tf.int32)),
            "item": link_text,
        }
        # the source in which the item stands highest speaks for it; what was bought before
        # is always "buy again"
        names = [name for name in sources.ranks_of if name != F.BUY_AGAIN]
        never = tf.fill(tf.shape(position), 2.0)
        standing = [
            tf.where(linked, share[name], 2.0) if name == F.CO_PURCHASED else share[name] for name in names
        ]
        best = tf.argmin(tf.stack([*standing, never], -1), -1)
        source = tf.gather(tf.constant([*names, F.BUY_AGAIN]), best)
        source = tf.where(count > 0, F.BUY_AGAIN, source)
        reason = tf.fill(tf.shape(position), "")
        for name in sources.ranks_of:
            reason = tf.where(source == name, _fill(self._reasons.get(name, ""), facts), reason)
        return source, reason

    def _listed(
        self, position: tf.Tensor, score: tf.Tensor, source: tf.Tensor, reason: tf.Tensor, k: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The five outputs, [B, the largest k]; a request's places beyond its own k (int32 [B])
        and those without an item are empty, at the end.
        """
        own = tf.range(tf.shape(position)[1]) < k[:, None]
        position = tf.where(own, position, self.retriever.sources.count)
        row = tf.gather(self.retriever.sources.candidate_row, position)
        real = position < self.retriever.sources.count
        outputs = {
            F.ITEM_ID: tf.gather(self.retriever.parser.item_ids, row),
            F.ITEM_TEXT: tf.gather(self._item_text, row),
            F.SCORE: tf.where(real, score, 0.0),
            F.SOURCE: tf.where(real, source, ""),
            F.REASON: tf.where(real, reason, ""),
        }
        missing = [[0, 0], [0, _largest(k) - tf.shape(position)[1]]]
        return {
            name: tf.pad(value, missing, constant_values=0.0 if value.dtype.is_floating else "")
            for name, value in outputs.items()
        }


def _largest(k: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.reduce_max(k), 0)  # a batch of none has no largest


def _fill(template: str, facts: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """A reason from its template: "{name}" is replaced by a fact; unknown names stay as text."""
    parts = re.split(r"(\{\w+\})", template)
    filled = [
        facts.get(part[1:-1], tf.constant(part)) if part.startswith("{") else tf.constant(part)
        for part in parts
    ]
    return tf.strings.join(filled) if filled else tf.constant("")


def _by_name(
    function: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]],
    spec: Mapping[str, tf.TensorSpec],
    name: str,
) -> tf.types.experimental.ConcreteFunction:
    """A concrete function with one keyword argument an input, as signatures need."""

    def call(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(inputs)

    call.__name__ = name
    return tf.function(call, autograph=False).get_concrete_function(**spec)
