"""The servable of a shop without events: search, completions and similar items from the catalogue alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.data.requests import RequestParser, Vocabularies, absent
from models.funnel.limits import Limits
from models.funnel.lists import Lists, largest
from models.funnel.reasons import SIMILAR, title_of
from models.funnel.search import ProductSearch, SearchPairs, SearchParts
from models.funnel.signatures import concrete, signature_specs
from models.funnel.templates import Templates
from schema import names as F
from schema.config import Config, EventKinds


class CatalogueServable(tf.Module):
    """The signatures that need no events; inputs and outputs are those of `models.funnel.servable.Funnel`.

    A request's history is read, though nothing was learned of users: what was bought lately can be left
    out, and reasons name it.

    Args:
      items: the catalogue.
      encode_text: texts (string [B]) to unit vectors.
      text_encoder: the SavedModel that `encode_text` belongs to; kept, so that its weights are exported.
      search: what was built and learned for the search.
      config: the shop.
    """

    def __init__(
        self,
        items: ItemTable,
        encode_text: Callable[[tf.Tensor], tf.Tensor],
        text_encoder: Any,
        search: SearchParts,
        config: Config,
    ) -> None:
        super().__init__(name="catalogue_servable")
        self._encode_text, self._text_encoder = encode_text, text_encoder
        nothing = Vocabularies([], EventKinds.of(config).purchases, {}, [], {}, {})
        self.parser = RequestParser(items, nothing, config.candidates.history_length)
        self.lists = Lists(items, self.parser.item_ids, config.serving)
        self._limits = Limits(config.serving, len(search.catalogue), self.lists.max_k)
        self._searcher = search.searcher
        self._pairs = SearchPairs(search.searcher, search.catalogue, items, self.parser, None, config)
        self.search = ProductSearch(self._pairs, search, items, self.parser, self.lists, config)
        popularity = np.nan_to_num(search.catalogue.popularity)
        order = np.argsort(-popularity, kind="stable")[: self.lists.max_k]
        # what nobody is known to have wanted is not popular
        order = order[popularity[order] > 0]
        self._popular = frozen_table(np.append(order, self._pairs.count), tf.int32)
        share = np.append(popularity[order] / max(popularity.max(initial=0), 1e-9), 0)
        self._share = frozen_table(share, tf.float32)
        words = {key: getattr(config.serving.reasons, key) for key in (SIMILAR, F.TRENDING)}
        self._reasons = Templates(words, ("item",), {})

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The concrete functions to export, by signature name."""
        functions = {
            "similar": self.similar,
            "embed_text": self.embed_text,
            "embed_item": self.embed_item,
        } | self.search.functions()
        specs = signature_specs(())
        return {name: concrete(function, specs[name], name) for name, function in functions.items()}

    @tf.Module.with_name_scope
    def similar(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The items with the nearest texts; the most popular ones for an unknown item."""
        inputs = self._limits.scored(inputs, F.ITEM_ID)
        row = self.parser.rows(inputs[F.ITEM_ID])
        position = tf.gather(self._pairs.position, row)
        known = (row > 0)[:, None]
        k = self.lists.k(inputs[F.K], row)
        most = min(self.lists.max_k, self._pairs.count)
        own = absent(position[:, None], self._pairs.count)
        near = self._searcher.index.search(self._vectors(position), most, own)
        missing = most - tf.size(self._popular)
        popular = tf.pad(self._popular, [[0, tf.maximum(missing, 0)]], constant_values=self._pairs.count)
        share = tf.pad(self._share, [[0, tf.maximum(missing, 0)]])
        score, position = (
            tf.where(known, of_item, of_shop[None, :most])[:, : largest(k)]
            for of_item, of_shop in zip(near, (share, popular), strict=True)
        )
        shape = tf.shape(position)
        number = self._reasons.number
        reason = self._reasons.fill(
            tf.where(known, number[SIMILAR], number[F.TRENDING]),
            {"item": title_of(tf.gather(self.lists.item_text, row))[:, None]},
        )
        return self.lists.outputs(
            tf.gather(self._pairs.row, position),
            score,
            tf.broadcast_to(tf.where(known, F.SIMILAR, F.TRENDING), shape),
            tf.broadcast_to(reason, shape),
            k,
        )

    @tf.Module.with_name_scope
    def embed_text(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Unit vectors of texts."""
        return {F.EMBEDDING: self._encode_text(self._limits.texts(inputs)[F.TEXT])}

    @tf.Module.with_name_scope
    def embed_item(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Unit vectors of items' texts; zeros for an unknown one."""
        inputs = self._limits.rows(inputs, F.ITEM_ID)
        position = tf.gather(self._pairs.position, self.parser.rows(inputs[F.ITEM_ID]))
        known = (position < self._pairs.count)[:, None]
        return {F.EMBEDDING: tf.where(known, self._vectors(position), 0.0)}

    def _vectors(self, position: tf.Tensor) -> tf.Tensor:
        """float32 [B, D]: text vectors at search positions (int32 [B]; any vector at C)."""
        return tf.gather(self._searcher.item_vectors, tf.minimum(position, self._pairs.count - 1))
