"""Cards of the items: titles from the text columns, ids where there are none, unknown prices as null."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from components.common import cards
from models.data.item_table import ItemTable
from models.search.catalogue import SearchCatalogue
from schema import names as F
from schema.config import Items, Search, SearchField
from serving.gateway.catalogue import Catalogue


def texts(*values):
    return np.asarray(values, object)


def items(**more):
    return Items(
        path="i",
        item_id="i",
        text=["kind", "group", "size"],
        categorical={"group": "group", "maker": "maker"},
        category="group",
        **more,
    )


def searched():
    return SearchCatalogue(
        item_id=texts("1", "2", "3"),
        fields={
            "kind": texts("MILK WHITE", "Oat drink", ""),
            "group": texts("DAIRY", "DAIRY", ""),
            "size": texts("1 GA", "", ""),
        },
        category=texts("DAIRY", "DAIRY", ""),
        brand=None,
        price=np.asarray([2.5, np.nan, 1], np.float32),
        newest=np.zeros(3, np.int64),
        popularity=np.asarray([1, 5, 0], np.float32),
    )


def test_a_title_is_the_first_column_and_what_no_category_says():
    assert cards.title_fields(items(), Search()) == ["kind", "size"]
    named = Search(fields={"kind": SearchField(), "size": SearchField()}, title="size")
    assert cards.title_fields(items(), named) == ["size"]


def test_the_file_is_what_the_gateway_reads(tmp_path):
    cards.write(cards.of_search(searched(), ["kind", "size"]), str(tmp_path))
    path = tmp_path / F.CARDS_FILE
    table = pq.read_table(path)
    assert tuple(table.column_names) == F.CARDS
    assert table[F.CARD_TITLE].to_pylist() == ["Milk white, 1 ga", "Oat drink", "3"]
    assert table[F.CATEGORY].to_pylist() == ["DAIRY", "DAIRY", ""]  # as requests give it
    assert table[F.PRICE].to_pylist() == [2.5, None, 1.0]
    read = Catalogue.read(path)
    assert [card.item_id for card in read.popular(9)] == ["2", "1", "3"]
    assert read.card("2").price is None
    assert read.card("1").brand == ""


def test_a_shop_without_search_has_cards_too():
    table = ItemTable(
        item_id=texts("", "1", "2"),
        text=texts("", "milk. dairy.", ""),
        categorical={"group": np.asarray([0, 1, 0], np.int32)},
        vocabularies={"group": texts("", "dairy")},
        exposure_row=np.zeros(0, np.int32),
        exposure_week=np.zeros(0, np.int64),
        exposure={},
    )
    found = cards.of_items(table, items(), np.asarray([0, 3.0, 4.0]))
    assert found.select([F.ITEM_ID, F.CARD_TITLE, F.CATEGORY, F.PRICE, F.CARD_POPULARITY]).to_pylist() == [
        {"item_id": "1", "title": "milk. dairy.", "category": "dairy", "price": None, "popularity": 3.0},
        {"item_id": "2", "title": "2", "category": "", "price": None, "popularity": 4.0},
    ]
