"""Rebuilds the retriever (sources and features) from artifacts, the same in every component."""

from __future__ import annotations

import os
import types
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from components.candidate_index import executor as index_executor
from components.common import artifacts, catalogue
from models.data import arrays
from models.data.item_table import ItemTable
from models.data.requests import Vocabularies
from models.funnel.retriever import Retriever
from models.ranking.features import text_space
from models.retrieval.index import Plan
from models.retrieval.snapshot import Snapshot
from models.retrieval.towers import set_item_tables

# Sections that a retriever is built from.
SECTIONS = ("items", "users", "exposures", "events", "split", "retrieval", "candidates", "ranking")


class RetrieverFactory:
    """Builds retrievers for several moments from the same models.

    Args:
      settings: the sections `SECTIONS` (see `schema.config.load_sections`).
      items: the catalogue.
      vocabularies: of users, event types and contexts.
      retrieval_uri: RetrievalTrainer's Model artifact.
      index_uri: the CandidateIndex artifact.
      tables: the towers' tables of a catalogue that they did not learn from (see
        `models.retrieval.towers.item_tables`).
    """

    def __init__(
        self,
        settings: types.SimpleNamespace,
        items: ItemTable,
        vocabularies: Vocabularies,
        retrieval_uri: str,
        index_uri: str,
        tables: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.items = items
        self.vocabularies = vocabularies
        self.item_vectors = arrays.load(os.path.join(index_uri, index_executor.VECTORS))["vectors"]
        self._settings = settings
        self._index_uri = index_uri
        self._towers = tf.saved_model.load(artifacts.model_folder(retrieval_uri))
        if tables is not None:
            set_item_tables(self._towers, tables)
        texts = self._towers.item_tables
        self._text = text_space(texts["text_vectors"].numpy(), texts["text_index"].numpy())

    def at(self, as_of: int) -> Retriever:
        """The retriever of one of the index's moments (unix seconds)."""
        snapshot = Snapshot.load(index_executor.snapshot_path(self._index_uri, as_of))
        return Retriever(
            self._settings,
            self.items,
            self.vocabularies,
            snapshot,
            self.item_vectors,
            self._text,
            Plan.load(index_executor.plan_path(self._index_uri, as_of)),
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
    """A factory from the artifacts' folders (arguments as the components name them).

    The catalogue is the index's own, if it has one: it may have been rebuilt since the models
    learned from ItemTransform's.
    """
    items, tables = index_executor.load_catalogue(index_uri) or (
        catalogue.load_items(
            items_uri, item_graph_uri, settings.items, catalogue.channels(settings.exposures)
        ),
        None,
    )
    vocabularies = catalogue.load_vocabularies(
        session_graph_uri, list(settings.events.context), settings.users, users_uri, user_graph_uri
    )
    return RetrieverFactory(settings, items, vocabularies, retrieval_uri, index_uri, tables)
