"""What a search is built from: the shop's items as plain columns."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class SearchCatalogue:
    """Items as columns, aligned with the candidate positions [C] of the funnel.

    Attributes:
      item_id: object (str) [C].
      fields: text field -> object (str) [C], "" where an item has none; `brand` and `category` may be
        among them, so that their words are found.
      category: object (str) [C], "" unknown; None where the shop has no categories.
      brand: object (str) [C], "" unknown; None where the shop has no brands.
      price: float32 [C], NaN unknown.
      newest: int64 [C], unix seconds of the item's first appearance; 0 unknown.
      popularity: float32 [C], at least 0: events, ratings or 0.
    """

    item_id: np.ndarray
    fields: dict[str, np.ndarray]
    category: np.ndarray | None
    brand: np.ndarray | None
    price: np.ndarray
    newest: np.ndarray
    popularity: np.ndarray

    def __len__(self) -> int:
        return len(self.item_id)


@dataclasses.dataclass(frozen=True)
class QueryLog:
    """What people chose who searched: one entry for each distinct (query, item).

    Attributes:
      query: object (str) [P], as it was typed.
      position: int32 [P], candidate position of the item that was chosen.
      weight: float32 [P], above 0: how often.
    """

    query: np.ndarray
    position: np.ndarray
    weight: np.ndarray


@dataclasses.dataclass(frozen=True)
class SynonymTable:
    """Words that stand for others by behaviour, one entry for each pair, in the direction word -> other.

    Attributes:
      word: object (str) [P].
      other: object (str) [P].
      weight: float32 [P], in (0, 1].
    """

    word: np.ndarray
    other: np.ndarray
    weight: np.ndarray
