"""Rebuilds the retriever (sources and features) from artifacts, the same in every component."""

from __future__ import annotations

import os
import types

import tensorflow as tf

from components import shop
from components.candidate_index import executor as index_executor
from models import arrays
from models.item_table import ItemTable
from models.requests import Vocabularies
from models.retriever import Retriever
from models.snapshot import Snapshot

# Sections that a retriever is built from.
SECTIONS = ("items", "users", "exposures", "events", "split", "retrieval", "candidates", "ranking")


class RetrieverFactory:
    """Builds retrievers for several moments from the same models.

    Args:
      settings: the sections `SECTIONS` (see `pipeline.config.load_sections`).
      items: the catalogue.
      vocabularies: of users, event types and contexts.
      retrieval_uri: RetrievalTrainer's Model artifact.
      index_uri: the CandidateIndex artifact.
    """

    def __init__(
        self,
        settings: types.SimpleNamespace,
        items: ItemTable,
        vocabularies: Vocabularies,
        retrieval_uri: str,
        index_uri: str,
    ) -> None:
        self.items = items
        self.vocabularies = vocabularies
        self.item_vectors = arrays.load(os.path.join(index_uri, index_executor.VECTORS))["vectors"]
        self._plan = index_executor.load_plan(index_uri)
        self._settings = settings
        self._index_uri = index_uri
        self._towers = tf.saved_model.load(shop.model_folder(retrieval_uri))

    def at(self, as_of: int) -> Retriever:
        """The retriever of one of the index's moments (unix seconds)."""
        snapshot = Snapshot.load(index_executor.snapshot_path(self._index_uri, as_of))
        return Retriever(
            self._settings,
            self.items,
            self.vocabularies,
            snapshot,
            self.item_vectors,
            self._plan,
            self._towers,
        )


def factory(
    settings: types.SimpleNamespace,
    items_uri: str,
    item_graph_uri: str,
    session_graph_uri: str,
    users_uri: str | None,
    user_graph_uri: str | None,
    retrieval_uri: str,
    index_uri: str,
) -> RetrieverFactory:
    """A factory from the artifacts' folders (arguments as the components name them)."""
    items = shop.load_items(items_uri, item_graph_uri, settings.items, shop.channels(settings.exposures))
    vocabularies = shop.load_vocabularies(
        session_graph_uri, list(settings.events.context), settings.users, users_uri, user_graph_uri
    )
    return RetrieverFactory(settings, items, vocabularies, retrieval_uri, index_uri)
