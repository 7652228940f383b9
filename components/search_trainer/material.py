"""Reads the artifacts that a search learns from, in a shop with or without events."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from components.common import artifacts, personal_queries, search_inputs
from components.common import catalogue as item_tables
from components.common.queries import SETS, Queries
from components.common.retriever_inputs import RetrieverInputs
from components.common.search_lists import Describer
from components.common.searches import Searches
from components.common.windows import Windows
from components.search_trainer.executor import Material, logged_queries
from components.search_trainer.settings import Settings
from models.data import example_io
from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from models.data.requests import RequestParser, Vocabularies
from models.funnel.personal import PersonalFeatures
from models.funnel.scorer import Scorer
from models.funnel.search import SearchPairs
from models.search.catalogue import QueryLog, SearchCatalogue
from models.search.index import SearchIndex
from models.search.searcher import Searcher
from schema import names as F
from schema.config import EventKinds

_RETRIEVER = [field.name for field in dataclasses.fields(RetrieverInputs)]


@dataclasses.dataclass(frozen=True)
class Gathered:
    """What SearchTrainer works with.

    Attributes:
      catalogue: the searched items.
      searcher: finds and describes candidates.
      pairs: the same of whole requests.
      describer: the same of many.
      material: queries with what is right.
      log: what people chose who searched; None without a column for it.
      encoder: of queries; TensorFlow forgets its weights when nobody holds it.
    """

    catalogue: SearchCatalogue
    searcher: Searcher
    pairs: SearchPairs
    describer: Describer
    material: Material
    log: QueryLog | None
    encoder: Any


@dataclasses.dataclass(frozen=True)
class _Shop:
    """Catalogue and, with events, what the last label window knows: nothing after its start is a feature."""

    items: ItemTable
    catalogue: SearchCatalogue
    parser: RequestParser
    personal: PersonalFeatures | None = None
    log: EventLog | None = None
    start: int = 0
    end: int = 0
    searches: QueryLog | None = None
    earlier: QueryLog | None = None
    chosen: QueryLog | None = None


def gather(given: Mapping[str, Any], settings: Settings) -> Gathered:
    """Reads everything.

    Args:
      given: artifacts by the name of SearchTrainer's input; None where the shop has none.
      settings: what the component obeys.
    """
    raw = search_inputs.raw_items(given["catalog"].uri)
    shop = _with_events(given, settings, raw) if given["raw_sessions"] else _catalogue(given, settings, raw)
    encoder = tf.saved_model.load(artifacts.model_folder(given["query_encoder"].uri))
    vectors = search_inputs.text_vectors(given["text_encoder"].uri)
    # only the log before the window is a feature: what was chosen in the window is to be learned
    index = SearchIndex.build(shop.catalogue, settings.search, log=shop.earlier)
    searcher = Searcher(index, encoder.encode, vectors, settings.search)
    pairs = SearchPairs(searcher, shop.catalogue, shop.items, shop.parser, shop.personal, settings)
    judged = {name: Queries.none() for name in SETS}
    if given["judgements"]:
        ids = shop.catalogue.item_id
        judged = {name: search_inputs.read_judgements(given["judgements"].uri, name, ids) for name in SETS}
    material = Material(judged, logged_queries(shop.chosen), *_personal(shop, settings))
    contexts = list(settings.events.context) if settings.events else []
    describer = Describer(pairs, contexts)
    return Gathered(shop.catalogue, searcher, pairs, describer, material, shop.searches, encoder)


def _catalogue(given: Mapping[str, Any], settings: Settings, raw: Any) -> _Shop:
    items = item_tables.load_items(given["items"].uri, given["item_graph"].uri, settings.items, [])
    nothing = Vocabularies([], EventKinds.of(settings).purchases, {}, [], {}, {})
    parser = RequestParser(items, nothing, settings.candidates.history_length)
    return _Shop(items, search_inputs.catalogue(raw, items, settings.items), parser)


def _with_events(given: Mapping[str, Any], settings: Settings, raw: Any) -> _Shop:
    sessions, events = given["raw_sessions"], settings.events
    windows = Windows.of(sessions, settings.split)
    start = windows.label_starts(settings.ranking)[-1]
    inputs = RetrieverInputs.of({name: given[name] for name in _RETRIEVER})
    factory = inputs.factory(settings.retriever())
    retriever = factory.at(start)
    ranker = tf.saved_model.load(artifacts.model_folder(given["ranking_model"].uri))
    folders = [example_io.split_folder(sessions.uri, split) for split in windows.past]
    catalogue = search_inputs.catalogue(raw, factory.items, settings.items, retriever.snapshot)
    logs: dict[str, QueryLog] = {}
    if events is not None and events.columns.query:
        searches = Searches.read(folders)
        spans = {"searches": (0, windows.cutoff), "earlier": (0, start), "chosen": (start, windows.cutoff)}
        logs = {name: chosen_items(searches, catalogue, *span) for name, span in spans.items()}
    return _Shop(
        items=factory.items,
        catalogue=catalogue,
        parser=retriever.parser,
        personal=PersonalFeatures(retriever, factory.items, Scorer(retriever, ranker)),
        log=EventLog.read(folders, EventKinds.of(settings), list(events.context) if events else []),
        start=start,
        end=windows.cutoff,
        **logs,
    )


def chosen_items(searches: Searches, catalogue: SearchCatalogue, start: int, end: int) -> QueryLog:
    """What was chosen from `start` until before `end`, each (query, item) once with how often."""
    position = pd.Index(catalogue.item_id).get_indexer(searches.item_id)
    keep = (position >= 0) & (searches.timestamp >= start) & (searches.timestamp < end)
    frame = pd.DataFrame({"query": searches.query[keep], "position": position[keep]})
    counts = frame.value_counts(sort=False).reset_index(name="weight")
    return QueryLog(
        counts["query"].to_numpy(object),
        counts["position"].to_numpy(np.int32),
        counts["weight"].to_numpy(np.float32),
    )


def _personal(shop: _Shop, settings: Settings) -> tuple[Any, ...]:
    """The queries in users' names, and their states at the start of the window; nothing without events."""
    if shop.log is None:
        return ()
    training = settings.search_training
    title = settings.search.title or settings.items.text[0]
    window = (shop.start, shop.end)
    asked = personal_queries.of_purchases(
        shop.catalogue, title, shop.log, *window, training.personal_queries // 2, training.seed
    )

    def states(users: np.ndarray) -> dict[str, np.ndarray]:
        inputs = shop.log.histories(users, shop.start, settings.candidates.history_length)
        return inputs | {F.CONTEXT_TIMESTAMP: np.full(len(users), shop.start, np.int64)}

    return asked, states
