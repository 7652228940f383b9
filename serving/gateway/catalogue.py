"""The shop's items as a page shows them, read from one file at start."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from schema import names as F
from schema.errors import DataError

_REQUIRED = (F.ITEM_ID, F.CARD_TITLE)


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """What a page shows of an item; None and "" where the shop does not know it.

    Attributes:
      item_id: the item.
      title: its name.
      category, brand: its category and brand.
      price: in the shop's currency.
      image_url: of a picture.
    """

    item_id: str
    title: str
    category: str
    brand: str
    price: float | None
    image_url: str | None


class Catalogue:
    """Items by id and by popularity.

    Args:
      table: columns of `schema.names.CARDS`, at least ids and titles; the ids are unique.

    Raises:
      DataError: a column is missing or of the wrong type.
    """

    def __init__(self, table: pa.Table) -> None:
        for name in _REQUIRED:
            if name not in table.column_names:
                raise DataError(f"catalogue: has no column '{name}'; write it with `item_id` and `title`")
        count = table.num_rows

        def texts(name: str) -> list[str]:
            if name not in table.column_names:
                return [""] * count
            return [value or "" for value in table[name].cast(pa.string()).to_pylist()]

        def numbers(name: str, missing: float) -> np.ndarray:
            if name not in table.column_names:
                return np.full(count, missing)
            values = table[name].cast(pa.float64()).fill_null(missing)
            return values.to_numpy().astype(np.float64)

        self._ids = texts(F.ITEM_ID)
        self._row = {item: row for row, item in enumerate(self._ids)}
        if len(self._row) < count:
            raise DataError("catalogue: an item_id stands there twice; keep one of them")
        self._title, self._category = texts(F.CARD_TITLE), texts(F.CATEGORY)
        self._brand, self._image = texts(F.BRAND), texts(F.CARD_IMAGE_URL)
        self._price = numbers(F.PRICE, math.nan)
        popularity = numbers(F.CARD_POPULARITY, 0.0)
        self._best = np.argsort(-np.nan_to_num(popularity), kind="stable")
        self._searched = pa.array([f"{t} {c} {b}".lower() for t, c, b in zip(
            self._title, self._category, self._brand, strict=True)], pa.string())  # fmt: skip

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Catalogue:
        """Reads a Parquet file.

        Raises:
          DataError: it cannot be read, or a column is missing.
        """
        try:
            return cls(pyarrow.parquet.read_table(path))
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{path}: no catalogue ({reason}); give a Parquet file of items") from error

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._row

    def card(self, item_id: str) -> Card | None:
        """An item's card, None if the catalogue does not have it."""
        row = self._row.get(item_id)
        return None if row is None else self._card(row)

    def popular(self, k: int, without: Collection[str] = (), category: Collection[str] = ()) -> list[Card]:
        """The k most popular items, without some, of some categories (empty: of all)."""
        return self._first(k, iter(self._best.tolist()), without, category)

    def find(self, query: str, without: Collection[str] = ()) -> Iterator[Card]:
        """Items that have all words of a query in title, category or brand, the most popular first."""
        found = np.ones(len(self), bool)
        for word in query.lower().split()[:16]:
            found &= pc.match_substring(self._searched, word).to_numpy(zero_copy_only=False)
        return (
            self._card(row) for row in self._best[found[self._best]].tolist() if self._ids[row] not in without
        )

    def categories(self) -> dict[str, int]:
        """Category -> number of its items, most first."""
        counts: dict[str, int] = {}
        for name in self._category:
            counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def _first(
        self, k: int, rows: Iterator[int], without: Collection[str], category: Collection[str]
    ) -> list[Card]:
        found: list[Card] = []
        for row in rows:
            if len(found) == k:
                break
            if self._ids[row] not in without and (not category or self._category[row] in category):
                found.append(self._card(row))
        return found

    def _card(self, row: int) -> Card:
        price = float(self._price[row])
        return Card(
            self._ids[row],
            self._title[row],
            self._category[row],
            self._brand[row],
            price if math.isfinite(price) else None,
            self._image[row] or None,
        )


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """A table of `schema.names.CARDS` from rows; what a row lacks is null."""
    kinds = {F.PRICE: pa.float64(), F.CARD_POPULARITY: pa.float64()}
    return pa.table(
        {name: pa.array([row.get(name) for row in rows], kinds.get(name, pa.string())) for name in F.CARDS}
    )
