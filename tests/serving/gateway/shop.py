"""A small shop in front of the overlap model, for the tests of the pages."""

from __future__ import annotations

import html.parser
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from serving.gateway.catalogue import Catalogue, table
from serving.gateway.histories import Histories
from tests.serving import overlap_model

NASTY = '<img src=x onerror="document.title=\'hacked\'">O\'Brien & "Sons" </script>'
HOUSEHOLD = "h/1 é"
KINDS = ("milk", "bread", "cheese", "coffee", "apples", "shampoo", "pizza", "soap", "tea", "fish")


def catalogue() -> Catalogue:
    """The overlap model's items with names that people know; 149, the most popular, has a nasty one."""
    rows: list[dict[str, Any]] = [
        {
            "item_id": item,
            "title": NASTY if item == "149" else f"{KINDS[group]} no {item}",
            "category": f"cat{group}",
            "brand": "acme",
            "price": None if price < 0 else price,
            "popularity": float(place),
        }
        for place, (item, group, price) in enumerate(
            zip(overlap_model.ITEMS, overlap_model.GROUPS, overlap_model.PRICES, strict=True)
        )
    ]
    return Catalogue(table(rows))


def histories(now: float) -> Histories:
    """One household, which bought two items of group 3 a week ago."""
    return Histories(
        pa.table(
            {
                "user_id": [HOUSEHOLD],
                "history_item_id": [["103", "113"]],
                "history_age_days": [[7.0, 7.0]],
                "history_event_type": [["purchase", "purchase"]],
            }
        ),
        now,
    )


class Parsed(html.parser.HTMLParser):
    """A page as a browser would take it apart: tags with attributes, and the texts between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, name: str, /, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attributes
            for tag, attributes in self.tags
            if tag == name and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def items(self) -> list[str]:
        """Ids of the cards, in order."""
        return [
            attributes["data-item"] or "" for attributes in self.all("article") if "data-item" in attributes
        ]

    def form(self, item: str, event_type: str) -> dict[str, str]:
        """The fields of the first form of an item for an event."""
        fields: list[dict[str, str]] = []
        for tag, attributes in self.tags:
            if tag == "form":
                fields.append({})
            elif tag == "input" and fields and attributes.get("name"):
                fields[-1][str(attributes["name"])] = attributes.get("value") or ""
        return next(
            each for each in fields if (each.get("item_id"), each.get("event_type")) == (item, event_type)
        )


def of(pages: Sequence[str]) -> list[Parsed]:
    """Pages, taken apart."""
    return [Parsed(page) for page in pages]
