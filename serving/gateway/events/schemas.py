"""What `/v1/events` takes and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Discriminator, Field, StringConstraints, Tag

from serving.gateway.lists.schemas import Answer, Body, Contexts, Id, OptionalId, Text


class EventIn(Body):
    """One thing that a shopper did."""

    event_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{8,64}$")]
    """Made by the client and unique, such as a UUID: an event that is sent again counts once."""
    user_id: Id
    event_type: Literal["view", "click", "cart", "remove_from_cart", "purchase", "search", "not_interested"]
    item_id: OptionalId = ""
    """Which item; nothing for a search."""
    occurred_at: Annotated[float, Field(ge=0, le=4e9)] | None = None
    """Unix seconds; now if not given. Later than now counts as now."""
    session_id: OptionalId = ""
    """The visit, or the order of a purchase."""
    query: Text = ""
    """What was searched for, or had been when the event happened."""
    list_id: OptionalId = ""
    """The list that the item was shown in."""
    position: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Its place there, from 0."""
    value: Annotated[float, Field(ge=0, le=1e9)] | None = None
    """Money paid."""
    quantity: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Units."""
    context: Contexts = {}

    @pydantic.model_validator(mode="after")
    def _says_what(self) -> EventIn:
        if self.event_type == "search" and not self.query:
            raise ValueError("a search needs its query")
        if self.event_type != "search" and not self.item_id:
            raise ValueError(f"a {self.event_type} needs an item_id")
        return self


def _kind(given: Any) -> str:
    return "batch" if isinstance(given, list) else "one"


Events = Annotated[
    Annotated[EventIn, Tag("one")] | Annotated[list[EventIn], Field(max_length=10_000), Tag("batch")],
    Discriminator(_kind),
]
"""One event, or a list of them."""


class EventsAnswer(Answer):
    """What became of the events; they are on the disk."""

    accepted: int
    """New ones."""
    duplicate: int
    """Those that were there already."""
    request_id: str
