"""From a request's strings to candidates and their features: what training and serving share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from models import features as F
from models.index import Plan
from models.item_table import ItemTable
from models.pair_features import PairFeatures
from models.requests import RequestParser, Vocabularies
from models.snapshot import Snapshot
from models.sources import CandidateSources, Found
from models.tables import table
from pipeline.config import Config


class Retriever(tf.Module):
    """Parsing, towers, sources and pair features, the same for CandidateSampler and the servable.

    Args:
      config: the shop.
      items: the catalogue.
      vocabularies: of users, event types and contexts.
      snapshot: item tables as of the moment of the request.
      item_vectors: float32 [V, D], the item tower's vector of every row.
      plan: how they are searched.
      towers: the RetrievalTrainer's SavedModel; its `query` maps parsed requests to vectors.
    """

    def __init__(
        self,
        config: Config,
        items: ItemTable,
        vocabularies: Vocabularies,
        snapshot: Snapshot,
        item_vectors: np.ndarray,
        plan: Plan,
        towers: Any,
    ) -> None:
        super().__init__(name="retriever")
        self.contexts = tuple(vocabularies.contexts)
        self._tower_length = config.retrieval.history_length
        self.parser = RequestParser(items, vocabularies, config.candidates.history_length)
        self.item_vectors = table(item_vectors, tf.float32)
        self.sources = CandidateSources(snapshot, self.item_vectors, plan, config.candidates)
        self.pair_features = PairFeatures(snapshot, items, self.sources)
        self._towers = towers

    @tf.Module.with_name_scope
    def query(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The query tower's vectors, float32 [B, D], of parsed requests."""
        last = {
            name: request[name][:, -self._tower_length :]
            for name in ("history_row", F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE)
        }
        return self._towers.query(dict(request) | last)

    @tf.Module.with_name_scope
    def not_excluded(self, exclude: tf.Tensor) -> tf.Tensor:
        """bool [B, C]: candidates that are not among `exclude` (string [B, E])."""
        position = tf.gather(self.sources.row_candidate, self.parser.rows(exclude))
        batch = tf.shape(position)[0]
        index = tf.stack([tf.repeat(tf.range(batch), tf.shape(position)[1]), tf.reshape(position, [-1])], 1)
        allowed = tf.ones([batch, self.sources.count + 1], tf.bool)
        allowed = tf.tensor_scatter_nd_update(allowed, index, tf.zeros(tf.shape(index)[:1], tf.bool))
        return allowed[:, : self.sources.count]

    @tf.Module.with_name_scope
    def find(
        self, inputs: Mapping[str, tf.Tensor], allowed: tf.Tensor, fixed: tf.Tensor | None = None
    ) -> Found:
        """Candidates of raw requests without their features; arguments as :meth:`describe`."""
        request = self.parser(inputs)
        return self.sources(request, self.query(request), allowed, fixed)

    @tf.Module.with_name_scope
    def describe(
        self, inputs: Mapping[str, tf.Tensor], allowed: tf.Tensor, fixed: tf.Tensor | None = None
    ) -> tuple[Found, tf.Tensor, dict[str, tf.Tensor]]:
        """Candidates of raw requests and their features.

        Args:
          inputs: as `request_spec`.
          allowed: bool [B, C] or [1, C].
          fixed: int32 [B, N], positions to describe instead of searching.

        Returns:
          (what was found, features float32 [B, N, F], category codes int32 [B, N]).
        """
        request = self.parser(inputs)
        found = self.sources(request, self.query(request), allowed, fixed)
        features, codes = self.pair_features(request, found)
        return found, features, codes

    def positions(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Positions among the candidates, int32, of ids (string, any shape); C where none."""
        return tf.gather(self.sources.row_candidate, self.parser.rows(item_ids))
