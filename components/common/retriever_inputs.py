"""Rebuilds the retriever (sources and features) from artifacts, the same in every component."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import tensorflow as tf

from components.common import artifacts, catalogue
from components.common.sections import RetrieverSettings
from models.data import arrays
from models.data.item_table import ItemTable
from models.data.requests import Vocabularies
from models.funnel.retriever import Retriever
from models.ranking.features.scores import text_space
from models.retrieval.index.plan import Plan
from models.retrieval.snapshot import Snapshot
from models.retrieval.towers import set_item_tables


@dataclasses.dataclass(frozen=True)
class RetrieverInputs:
    """Folders of the artifacts that a retriever is built from, named as the inputs of a component.

    `components.common.retriever_spec` makes the folders the inputs of every component that takes
    a retriever; a folder that may be None is an optional input.

    Attributes:
      session_graph: EventTransform's graph.
      items: ItemTransform's examples.
      item_graph: ItemTransform's graph.
      retrieval_model: RetrievalTrainer's model.
      index: CandidateIndex's artifact.
      users, user_graph: UserTransform's examples and graph; None in a shop without a users table.
    """

    session_graph: str
    items: str
    item_graph: str
    retrieval_model: str
    index: str
    users: str | None = None
    user_graph: str | None = None

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> Self:
        """From artifacts by the name of the input; None stands for an optional one that is missing."""
        return cls(**{name: artifact.uri if artifact else None for name, artifact in inputs.items()})

    def factory(self, settings: RetrieverSettings) -> RetrieverFactory:
        """Reads the artifacts.

        The catalogue is the index's own, if it has one: it may have been rebuilt since the models
        learned from ItemTransform's.

        Args:
          settings: what the retriever obeys.
        """
        items, tables = catalogue.index_catalogue(self.index) or (
            catalogue.load_items(
                self.items, self.item_graph, settings.items, catalogue.channels(settings.exposures)
            ),
            None,
        )
        vocabularies = catalogue.load_vocabularies(
            self.session_graph, list(settings.events.context), settings.users, self.users, self.user_graph
        )
        return RetrieverFactory(settings, items, vocabularies, self.retrieval_model, self.index, tables)


class RetrieverFactory:
    """Builds retrievers for several moments from the same models.

    Args:
      settings: what the retriever obeys.
      items: the catalogue.
      vocabularies: of users, event types and contexts.
      retrieval_uri: RetrievalTrainer's Model artifact.
      index_uri: the CandidateIndex artifact.
      tables: the towers' tables of a catalogue that they did not learn from (see
        `models.retrieval.towers.item_tables`).
    """

    def __init__(
        self,
        settings: RetrieverSettings,
        items: ItemTable,
        vocabularies: Vocabularies,
        retrieval_uri: str,
        index_uri: str,
        tables: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.items = items
        self.vocabularies = vocabularies
        self.item_vectors = arrays.load(os.path.join(index_uri, artifacts.ITEM_VECTORS))["vectors"]
        self._settings = settings
        self._index_uri = index_uri
        self._towers = tf.saved_model.load(artifacts.model_folder(retrieval_uri))
        if tables is not None:
            set_item_tables(self._towers, tables)
        texts = {name: self._towers.item_tables[name].numpy() for name in ("text_vectors", "text_index")}
        self._texts = texts["text_vectors"], texts["text_index"]
        self._text = text_space(*self._texts)

    @property
    def text_vectors(self) -> np.ndarray:
        """float32 [V, E], the text encoder's vector of every item row; of the index's own catalogue."""
        vectors, index = self._texts
        return vectors[index]

    def at(self, as_of: int, known_ahead: float | None = None) -> Retriever:
        """The retriever of one of the index's moments.

        Args:
          as_of: unix seconds.
          known_ahead: replaces `exposures.known_ahead`, to measure what a horizon is worth.
        """
        snapshot = Snapshot.load(artifacts.snapshot_path(self._index_uri, as_of))
        if known_ahead is not None:
            planned = snapshot.promotions.known_ahead(known_ahead)
            snapshot = dataclasses.replace(snapshot, promotions=planned)
        return Retriever(
            self._settings,
            self.items,
            self.vocabularies,
            snapshot,
            self.item_vectors,
            self._text,
            Plan.load(artifacts.plan_path(self._index_uri, as_of)),
            self._towers,
        )
