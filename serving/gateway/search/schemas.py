"""What `/v1/search` and `/v1/suggest` take and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serving.gateway.lists.schemas import (
    Answer,
    Body,
    Contexts,
    Id,
    Latency,
    ListAnswer,
    OptionalId,
    Surface,
    Text,
)


class SearchQuery(Body):
    """What somebody searches for."""

    query: Text = ""
    """What was typed; nothing for everything that the filters leave."""
    user_id: OptionalId = ""
    k: Annotated[int, Field(ge=1, le=1000)] | None = None
    category: list[Id] = Field([], max_length=100)
    brand: list[Id] = Field([], max_length=100)
    min_price: Annotated[float, Field(ge=0, le=1e12)] | None = None
    max_price: Annotated[float, Field(ge=0, le=1e12)] | None = None
    sort: Literal["", "relevance", "price", "price_desc", "newest", "popularity"] = ""
    exclude_item_id: list[Id] = Field([], max_length=1000)
    surface: Surface = "search.results"


class SearchBody(SearchQuery):
    """The same, with what a query string cannot say."""

    context: Contexts = {}


class SearchAnswer(ListAnswer):
    """What was found, and what was made of the query."""

    total: int
    """Items of the shop that match."""
    notice: str
    """What to tell the shopper, such as that a word was corrected."""
    corrected_query: str
    relaxed: bool
    relaxed_query: str
    facets: dict[str, dict[str, int]]
    """"category", "brand" or "price" -> value -> number of items."""
    price_range: tuple[float | None, float | None]
    categories: dict[str, float]
    """What the query is about, with probabilities."""


class SuggestQuery(Body):
    """What somebody has typed so far."""

    prefix: Text
    user_id: OptionalId = ""
    k: int = Field(8, ge=1, le=50)


class Suggested(Answer):
    """One completion."""

    text: str
    score: float


class SuggestAnswer(Answer):
    """Completions, the likeliest first."""

    request_id: str
    model_version: int
    fallback: bool
    fallback_reason: str | None
    latency_ms: Latency
    suggestions: list[Suggested]
