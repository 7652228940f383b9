"""What `/v1/recommend` takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serving.gateway.lists.schemas import Body, Contexts, Id, OptionalId, Surface


class RecommendQuery(Body):
    """Who asks for recommendations, and which are wanted."""

    user_id: OptionalId = ""
    """The user; nothing for somebody unknown."""
    k: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many; `gateway.default_k` if not given, `gateway.max_k` at most."""
    category: list[Id] = Field([], max_length=100)
    """Only items of these categories."""
    source: list[Id] = Field([], max_length=20)
    """Only items of these sources, such as buy_again."""
    exclude_item_id: list[Id] = Field([], max_length=1000)
    """Items that must not come back."""
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None
    """0 (the ranker's order) to 1; the shop's own if not given."""
    drop_bought_days: Annotated[float, Field(ge=0, le=36_500)] | None = None
    """Nothing that was bought within this many days; the shop's own if not given."""
    on_offer: bool = False
    """Only items that are promoted now: of source `planned`, or whose reason says so."""
    basket_item_id: list[Id] = Field([], max_length=100)
    """If given, the list goes with these items, rather than with all that the user did."""
    surface: Surface = "home.for_you"


class RecommendBody(RecommendQuery):
    """The same, with what a query string cannot say."""

    context: Contexts = {}
