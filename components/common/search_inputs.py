"""Builds the search from artifacts: the searched items, their vectors, what a servable searches with."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from components.common import artifacts
from components.common.queries import Queries
from models.data import arrays, example_io
from models.data.item_table import ItemTable
from models.funnel.search import SearchParts
from models.retrieval.snapshot import Snapshot
from models.search.catalogue import QueryLog, SearchCatalogue
from models.search.index import SearchIndex
from models.search.ranker import SearchRanker
from models.search.searcher import Searcher
from models.search.suggester import Suggester
from schema import names as F
from schema.config import Items, Search

BRAND, CATEGORY = "brand", "category"  # names of the fields that hold those roles


def raw_items(items_uri: str) -> pa.Table:
    """CatalogExampleGen's items, list columns."""
    return example_io.read_table(example_io.split_folder(items_uri, artifacts.ITEMS_SPLIT))


def catalogue(
    raw: pa.Table, items: ItemTable, settings: Items, snapshot: Snapshot | None = None
) -> SearchCatalogue:
    """Every item of the catalogue, as the search reads it.

    Args:
      raw: from :func:`raw_items`; what it lacks of `items` (a refreshed catalogue has lost it) has no text.
      items: the catalogue; the position of row r is r - 1.
      settings: which columns are the text, the brand, the category and the numbers.
      snapshot: prices, first events and popularity where the table has no columns for them; None in a
        shop without events.
    """
    place = pd.Index(example_io.first(raw, F.ITEM_ID, "")).get_indexer(items.item_id[1:])

    def column(name: str, default: object) -> np.ndarray:
        values = example_io.first(raw, name, default)
        return np.append(values, np.asarray([default], values.dtype))[place]  # -1: not there

    fields = {name: column(F.text_column(name), "") for name in settings.text}
    roles = {}
    for role, name in ((BRAND, settings.brand), (CATEGORY, settings.category)):
        roles[role] = column(name, "") if name else None
        if name:
            fields[role] = roles[role]
    numbers = _numbers(snapshot, len(items))
    if settings.price:
        numbers[F.ITEM_PRICE] = column(F.ITEM_PRICE, np.float32(np.nan))
    if settings.added:
        numbers[F.ITEM_ADDED] = column(F.ITEM_ADDED, 0)
    if settings.popularity:
        numbers[F.ITEM_POPULARITY] = np.maximum(column(F.ITEM_POPULARITY, np.float32(0)), 0)
    price = np.asarray(numbers[F.ITEM_PRICE], np.float32)
    return SearchCatalogue(
        item_id=items.item_id[1:],
        fields=fields,
        category=roles[CATEGORY],
        brand=roles[BRAND],
        price=np.where(price >= 0, price, np.nan).astype(np.float32),
        newest=np.asarray(numbers[F.ITEM_ADDED], np.int64),
        popularity=np.asarray(numbers[F.ITEM_POPULARITY], np.float32),
    )


def _numbers(snapshot: Snapshot | None, size: int) -> dict[str, np.ndarray]:
    """What events say of every item, [V - 1] each; unknown without them."""
    if snapshot is None:
        unknown = np.zeros(size - 1)
        return {F.ITEM_PRICE: unknown - 1, F.ITEM_ADDED: unknown, F.ITEM_POPULARITY: unknown}

    def statistic(name: str) -> np.ndarray:
        return np.expm1(snapshot.stats[1:, snapshot.stat_names.index(name)].astype(np.float64))

    price, lines, age = (statistic(name) for name in ("log_price", "log_lines", "log_first_age"))
    added = np.where(lines > 0, snapshot.as_of - age * F.SECONDS_PER_DAY, 0)
    return {F.ITEM_PRICE: np.where(price > 0, price, -1), F.ITEM_ADDED: added, F.ITEM_POPULARITY: lines}


def text_vectors(encoder_uri: str) -> np.ndarray:
    """float32 [V - 1, E], the text vector of every item, by position.

    Args:
      encoder_uri: TextEncoderTrainer's Model artifact.
    """
    found = arrays.load(os.path.join(encoder_uri, artifacts.TEXT_VECTORS))
    return found["vectors"][found["index"][1:]]


def read_judgements(uri: str, split: str, item_ids: np.ndarray) -> Queries:
    """A split of JudgementExampleGen's artifact; items that `item_ids` (object [C]) lacks are left out."""
    table = example_io.read_table(example_io.split_folder(uri, split))
    if not table.num_rows:
        return Queries.none()
    size = example_io.lengths(table, F.ITEM_ID)
    query = np.repeat(np.arange(table.num_rows), size)
    position = pd.Index(item_ids).get_indexer(example_io.flat(table, F.ITEM_ID))
    keep = position >= 0
    gain = example_io.flat(table, F.GAIN)[keep]
    return Queries.of(example_io.first(table, F.QUERY, ""), query[keep], position[keep], gain)


def read_log(search_uri: str, item_ids: np.ndarray) -> QueryLog | None:
    """What people chose who searched, of SearchTrainer's artifact; None where there is no log."""
    path = os.path.join(search_uri, artifacts.SEARCH_LOG)
    if not tf.io.gfile.exists(path):
        return None
    log = arrays.load_parquet(path).to_pandas()
    position = pd.Index(item_ids).get_indexer(log[F.ITEM_ID])
    log, position = log[position >= 0], position[position >= 0]
    weight = log["weight"].to_numpy(np.float32)
    return QueryLog(log[F.QUERY].to_numpy(object), position.astype(np.int32), weight)


def parts(
    items: SearchCatalogue,
    vectors: np.ndarray,
    query_encoder: Any,
    search_uri: str,
    settings: Search,
) -> SearchParts:
    """What the servable searches with.

    Args:
      items: the searched items.
      vectors: float32 [C, E], their text vectors.
      query_encoder: QueryEncoderTrainer's SavedModel, loaded.
      search_uri: SearchTrainer's artifact.
      settings: the configuration's section.
    """
    index = SearchIndex.build(items, settings, log=read_log(search_uri, items.item_id))
    return SearchParts(
        catalogue=items,
        searcher=Searcher(index, query_encoder.encode, vectors, settings),
        ranker=SearchRanker.load(os.path.join(search_uri, artifacts.SEARCH_RANKER)),
        suggester=Suggester(index, settings),
        query_encoder=query_encoder,
    )
