"""What the page of results shows: notices, filters that can be taken away, facets as links."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from serving.gateway.page.cards import shown_title
from serving.gateway.page.visit import Link, Notice, Visit
from serving.gateway.search.schemas import SearchAnswer, SearchQuery

SORTS = ("relevance", "price", "price_desc", "popularity", "newest")
_TOP = 8  # values of a facet that are shown at once
_VALUES = 20  # of a filter at most
_LONGEST = 200  # characters of a query, as in the search box


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A search as the address says it.

    Attributes:
      query: what was typed.
      category, brand: values that the items may have.
      min_price, max_price: in the shop's currency, None for no bound.
      sort: one of SORTS.
      pages: how many pages of results are shown at once, from 1.
      bad_price: whether a price in the address is no number.
    """

    query: str
    category: tuple[str, ...]
    brand: tuple[str, ...]
    min_price: float | None
    max_price: float | None
    sort: str
    pages: int
    bad_price: bool

    @classmethod
    def of(cls, request: Request) -> Wanted:
        """Reads the address; what is too long or no number is left out rather than refused."""
        given = request.query_params

        def values(name: str) -> tuple[str, ...]:
            return tuple(
                dict.fromkeys(v for v in given.getlist(name) if 0 < len(v) <= 200 and "\0" not in v)
            )[:_VALUES]

        low, bad_low = _price(given.get("min_price", ""))
        high, bad_high = _price(given.get("max_price", ""))
        pages = given.get("pages", "1")
        return cls(
            query=" ".join(given.get("q", "").replace("\0", " ").split())[:_LONGEST],
            category=values("category"),
            brand=values("brand"),
            min_price=low,
            max_price=high,
            sort=given.get("sort", "") if given.get("sort") in SORTS else "relevance",
            pages=min(max(int(pages), 1), 4) if pages.isascii() and pages.isdigit() and len(pages) < 3 else 1,
            bad_price=bad_low or bad_high,
        )

    def request(self, user_id: str, items: int) -> SearchQuery:
        """As the search service takes it."""
        return SearchQuery(
            query=self.query,
            user_id=user_id,
            k=items * self.pages,
            category=list(self.category),
            brand=list(self.brand),
            min_price=self.min_price,
            max_price=self.max_price,
            sort=self.sort if self.sort != "relevance" else "",
        )

    def fields(self, **changed: Any) -> list[tuple[str, str]]:
        """Names and values of the address, with some changed."""
        wanted = dataclasses.replace(self, **{"pages": 1, **changed})
        pairs = [("q", wanted.query)]
        pairs += [("category", value) for value in wanted.category]
        pairs += [("brand", value) for value in wanted.brand]
        pairs += [
            (name, f"{value:g}")
            for name, value in (("min_price", wanted.min_price), ("max_price", wanted.max_price))
            if value is not None
        ]
        pairs += [("sort", wanted.sort)] if wanted.sort != "relevance" else []
        pairs += [("pages", str(wanted.pages))] if wanted.pages > 1 else []
        return pairs

    def href(self, **changed: Any) -> str:
        """The address, with something changed."""
        return f"/search?{urlencode(self.fields(**changed))}"


@dataclasses.dataclass(frozen=True)
class Filter:
    """A filter that is on; `href` is the search without it."""

    text: str
    href: str


@dataclasses.dataclass(frozen=True)
class Value:
    """One value of a facet; `href` turns it on, or off where it is chosen."""

    text: str
    count: str
    href: str
    chosen: bool


@dataclasses.dataclass(frozen=True)
class Facet:
    """An attribute with the values that results have, most first."""

    key: str
    heading: str
    top: Sequence[Value]
    more: Sequence[Value]


def page(visit: Visit, wanted: Wanted, answer: SearchAnswer) -> dict[str, Any]:
    """What templates/search.html shows, but for the cards."""
    t = visit.texts
    chosen = _chosen(visit, wanted)
    shown = len(answer.items)
    more = wanted.pages < 4 and shown >= visit.settings.result_items * wanted.pages and shown < answer.total
    return {
        "query": wanted.query,
        "heading": t("search.heading", query=wanted.query) if wanted.query else t("search.everything"),
        "total_text": t.counted("search.total", answer.total),
        "sort": wanted.sort,
        "sorts": [(value, t(f"search.sort.{value}")) for value in SORTS],
        "kept_fields": [pair for pair in wanted.fields() if pair[0] != "sort"],
        "kept_without_price": wanted.fields(min_price=None, max_price=None),
        "min_price": "" if wanted.min_price is None else f"{wanted.min_price:g}",
        "max_price": "" if wanted.max_price is None else f"{wanted.max_price:g}",
        "chosen": chosen,
        "facets": [facet for key in ("category", "brand") if (facet := _facet(visit, wanted, key, answer))],
        "more_href": wanted.href(pages=wanted.pages + 1) if more else "",
        "nothing_reason": _nothing(visit, wanted, answer),
        "without": [Link(each.href, t("search.without", filter=each.text)) for each in chosen],
    }


def notices(visit: Visit, wanted: Wanted, answer: SearchAnswer) -> list[Notice]:
    """What a shopper should know of how the words were taken."""
    t, found = visit.texts, []
    if wanted.bad_price:
        found.append(Notice("warning", t("search.bad_price")))
    if answer.corrected_query:
        text = t("search.corrected", corrected=answer.corrected_query, query=wanted.query)
        found.append(Notice("info", text))
    if answer.relaxed and answer.items:
        words = answer.relaxed_query
        found.append(Notice("info", t("search.relaxed", words=words) if words else t("search.relaxed_any")))
    low, high = answer.price_range
    if (low, high) != (wanted.min_price, wanted.max_price) and (low is not None or high is not None):
        price = _price_text(visit, low, high)
        found.append(Notice("info", t("search.named_price", query=wanted.query, price=price)))
    return found


def _nothing(visit: Visit, wanted: Wanted, answer: SearchAnswer) -> str:
    t = visit.texts
    if _chosen(visit, wanted):
        return t("search.nothing_filters")
    return t("search.nothing_away") if answer.fallback else t("search.nothing_words")


def _chosen(visit: Visit, wanted: Wanted) -> list[Filter]:
    found = []
    for name in ("category", "brand"):
        values: tuple[str, ...] = getattr(wanted, name)
        for value in values:
            rest = tuple(other for other in values if other != value)
            text = f"{visit.texts(f'search.{name}')} {value}" if value.isdigit() else shown_title(value)
            found.append(Filter(text, wanted.href(**{name: rest})))
    if wanted.min_price is not None or wanted.max_price is not None:
        text = _price_text(visit, wanted.min_price, wanted.max_price)
        found.append(Filter(text, wanted.href(min_price=None, max_price=None)))
    return found


def _facet(visit: Visit, wanted: Wanted, key: str, answer: SearchAnswer) -> Facet | None:
    counts: Mapping[str, int] = answer.facets.get(key, {})
    chosen: tuple[str, ...] = getattr(wanted, key)
    if not counts:
        return None
    values = []
    for value, count in counts.items():
        on = value in chosen
        changed = tuple(other for other in chosen if other != value) if on else (*chosen, value)
        # A number is no name: it is said what it numbers.
        text = f"{visit.texts(f'search.{key}')} {value}" if value.isdigit() else shown_title(value)
        values.append(Value(text, f"{count:,}", wanted.href(**{key: changed}), on))
    return Facet(key, visit.texts(f"search.{key}"), values[:_TOP], values[_TOP:])


def _price(text: str) -> tuple[float | None, bool]:
    """A bound of prices, and whether the text is no such number; a comma may stand for the point."""
    text = text.strip().replace(",", ".")
    if not text:
        return None, False
    try:
        value = float(text)
    except ValueError:
        return None, True
    return (value, False) if math.isfinite(value) and 0 <= value <= 1e12 else (None, True)


def _price_text(visit: Visit, low: float | None, high: float | None) -> str:
    t = visit.texts
    if low is None:
        return t("search.price_to", price=visit.price(high))
    if high is None:
        return t("search.price_from", price=visit.price(low))
    return t("search.price_between", low=visit.price(low), high=visit.price(high))
