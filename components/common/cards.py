"""What a page shows of the items, in a file that lies with a servable."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.data import arrays
from models.data.item_table import ItemTable
from models.search.catalogue import SearchCatalogue
from schema import names as F
from schema.config import Items, Search

_BETWEEN = ", "


def title_fields(items: Items, search: Search) -> list[str]:
    """The text columns that an item is called by.

    `search.title` if there is one; else the first text column and those that say what no category says,
    such as a size.
    """
    if search.title is not None:
        return [search.title]
    categories = set(items.categorical.values())
    return [name for place, name in enumerate(items.text) if place == 0 or name not in categories]


def of_search(catalogue: SearchCatalogue, titles: Sequence[str]) -> pa.Table:
    """Cards (columns `schema.names.CARDS`) of a searched catalogue.

    Args:
      catalogue: its items.
      titles: the fields that an item is called by.
    """
    return _table(
        catalogue.item_id,
        [catalogue.fields[name] for name in titles],
        catalogue.category,
        catalogue.brand,
        catalogue.price,
        catalogue.popularity,
    )


def of_items(items: ItemTable, settings: Items, popularity: np.ndarray) -> pa.Table:
    """Cards of a shop without search: an item is called by its whole text, and no price is known.

    Args:
      items: the catalogue.
      settings: which attributes are the category and the brand.
      popularity: float [V], by item row.
    """

    def attribute(name: str | None) -> np.ndarray | None:
        return None if name is None else items.vocabularies[name][items.categorical[name][1:]]

    category, brand = attribute(settings.category), attribute(settings.brand)
    unknown = np.full(len(items) - 1, np.nan)
    return _table(items.item_id[1:], [items.text[1:]], category, brand, unknown, popularity[1:])


def write(table: pa.Table, folder: str) -> None:
    """Writes the cards of a servable into its folder."""
    arrays.save_parquet(os.path.join(folder, F.CARDS_FILE), table)


def _table(
    item_id: np.ndarray,
    titles: Sequence[np.ndarray],
    category: np.ndarray | None,
    brand: np.ndarray | None,
    price: np.ndarray,
    popularity: np.ndarray,
) -> pa.Table:
    count = len(item_id)

    def text(values: np.ndarray | None) -> pa.Array:
        return pa.nulls(count, pa.string()) if values is None else _readable(pa.array(values, pa.string()))

    title, *parts = [text(values) for values in titles]
    for part in parts:
        both = pc.binary_join_element_wise(title, part, _BETWEEN)
        title = pc.if_else(pc.equal(part, ""), title, pc.if_else(pc.equal(title, ""), part, both))
    ids = pa.array(item_id, pa.string())
    return pa.table(
        {
            F.ITEM_ID: ids,
            F.CARD_TITLE: pc.if_else(pc.equal(title, ""), ids, title),
            # as it is, since requests filter by it
            F.CATEGORY: pa.nulls(count, pa.string()) if category is None else pa.array(category, pa.string()),
            F.BRAND: pa.nulls(count, pa.string()) if brand is None else pa.array(brand, pa.string()),
            F.PRICE: pa.array(price.astype(np.float64), from_pandas=True),
            F.CARD_IMAGE_URL: pa.nulls(count, pa.string()),
            F.CARD_POPULARITY: pa.array(np.round(popularity.astype(np.float64), 2)),
        }
    )


def _readable(texts: pa.Array) -> pa.Array:
    """Texts all in capitals as sentences."""
    return pc.if_else(pc.utf8_is_upper(texts), pc.utf8_capitalize(texts), texts)
