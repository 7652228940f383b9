"""What the routes of one item take and answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serving.gateway.lists.schemas import Answer, Body, Contexts, Id, OptionalId, Surface


class ItemCard(Answer):
    """What a page shows of an item."""

    item_id: str
    title: str
    category: str
    brand: str
    price: float | None
    image_url: str | None


class SimilarQuery(Body):
    """Which item others should be like."""

    item_id: Id
    user_id: OptionalId = ""
    """Who asks: what they are not interested in is left out."""
    k: Annotated[int, Field(ge=1, le=1000)] | None = None
    surface: Surface = "item.similar"


class ExplainQuery(Body):
    """Which items' scores are explained, for whom."""

    user_id: OptionalId = ""
    item_id: list[Id] = Field(min_length=1, max_length=32)


class ExplainBody(ExplainQuery):
    """The same, with what a query string cannot say."""

    context: Contexts = {}


class Explained(Answer):
    """What speaks for and against one item."""

    item_id: str
    title: str
    log_odds: float
    """Of being bought."""
    baseline: float
    """The same of the average item for somebody unknown."""
    attribution: dict[str, float]
    """Group of features -> its share; they sum to log_odds - baseline."""


class ExplainAnswer(Answer):
    """One explanation an item, in the order asked for."""

    request_id: str
    model_version: int
    items: list[Explained]
