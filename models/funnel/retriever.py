"""From a request's strings to candidates and their features: what training and serving share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from models.data.event_types import EventTypes
from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.data.requests import RequestParser, Vocabularies, absent
from models.ranking.features.pair_features import PairFeatures
from models.retrieval.collaborative import CollaborativeQuery
from models.retrieval.index.plan import Plan
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.base import FoundCandidates
from models.retrieval.sources.candidate_sources import CandidateSources
from schema import names as F
from schema.config import Config, EventKinds


def search_vectors(item_vectors: np.ndarray, snapshot: Snapshot) -> np.ndarray:
    """What the two-tower source searches: every row's learned vector, then its collaborative one.

    Args:
      item_vectors: float32 [V, D].
      snapshot: its collaborative vectors are of the C candidates; other rows get zeros.

    Returns:
      float32 [V, D + R].
    """
    collaborative = np.zeros((len(item_vectors), snapshot.collaborative_output.shape[1]), np.float32)
    collaborative[snapshot.candidate_row] = snapshot.collaborative_output
    return np.concatenate([item_vectors, collaborative], 1)


class Retriever(tf.Module):
    """Parsing, towers, sources and pair features, the same for CandidateSampler and the servable.

    Args:
      config: the shop.
      items: the catalogue.
      vocabularies: of users, event types and contexts.
      snapshot: item tables as of the moment of the request.
      item_vectors: float32 [V, D], the item tower's learned vector of every row.
      text: float32 [V, T], what every row's text is about (see `models.ranking.features.scores.text_space`).
      plan: how the search vectors (see :func:`search_vectors`) are searched.
      towers: the RetrievalTrainer's SavedModel; its `query` maps parsed requests to learned
        vectors, and `scale` weighs them against the collaborative ones.
    """

    def __init__(
        self,
        config: Config,
        items: ItemTable,
        vocabularies: Vocabularies,
        snapshot: Snapshot,
        item_vectors: np.ndarray,
        text: np.ndarray,
        plan: Plan,
        towers: Any,
    ) -> None:
        super().__init__(name="retriever")
        self.contexts = tuple(vocabularies.contexts)
        self.snapshot = snapshot
        self._tower_length = config.retrieval.history_length
        self.parser = RequestParser(items, vocabularies, config.candidates.history_length)
        self.item_vectors = frozen_table(item_vectors, tf.float32)
        self.search_vectors = frozen_table(search_vectors(item_vectors, snapshot), tf.float32)
        self.types = EventTypes.of(EventKinds.of(config), vocabularies.event_types)
        self._collaborative = CollaborativeQuery(
            snapshot.collaborative_input, snapshot.row_candidate, config.candidates.collaborative, self.types
        )
        self.sources = CandidateSources(snapshot, self.search_vectors, plan, config.candidates, self.types)
        self.pair_features = PairFeatures(snapshot, items, self.sources, text, item_vectors.shape[1])
        self._towers = towers

    @tf.Module.with_name_scope
    def query(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The query tower's vectors, float32 [B, D + R], of parsed requests: what was learned, then
        what is collaborative, so that a dot product with a search vector adds the two scores.
        """
        last = {
            name: request[name][:, -self._tower_length :]
            for name in ("history_row", F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE)
        }
        # the towers read weekday and hour of the moment
        inputs = {name: value for name, value in request.items() if name != "now"}
        learned = self._towers.query(inputs | last) * self._towers.scale
        return tf.concat([learned, self._collaborative(request)], 1)

    @tf.Module.with_name_scope
    def item_query(self, row: tf.Tensor) -> tf.Tensor:
        """float32 [B, D + R]: the learned vectors of items (int32 [B] rows) as queries for others."""
        learned = tf.gather(self.item_vectors, row)
        width = self.search_vectors.shape[1] - learned.shape[1]
        return tf.pad(learned, [[0, 0], [0, width]])

    @tf.Module.with_name_scope
    def not_excluded(self, exclude: tf.Tensor) -> tf.Tensor:
        """bool [B, C]: candidates that are not among `exclude` (string [B, E])."""
        return absent(self.positions(exclude), self.sources.count)

    @tf.Module.with_name_scope
    def find(
        self, inputs: Mapping[str, tf.Tensor], allowed: tf.Tensor, fixed: tf.Tensor | None = None
    ) -> FoundCandidates:
        """Candidates of raw requests without their features; arguments as :meth:`describe`."""
        request = self.parser(inputs)
        return self.sources(request, self.query(request), allowed, fixed)

    @tf.Module.with_name_scope
    def describe(
        self, inputs: Mapping[str, tf.Tensor], allowed: tf.Tensor, fixed: tf.Tensor | None = None
    ) -> tuple[FoundCandidates, tf.Tensor, dict[str, tf.Tensor]]:
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
