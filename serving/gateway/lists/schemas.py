"""Values that several requests have, and what every list answers."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import AfterValidator, Field, StringConstraints


def _plain(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    return text


Text = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_plain)]
"""What a person typed."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_plain)]
"""An item's, user's or session's id."""
OptionalId = Annotated[str, StringConstraints(max_length=200), AfterValidator(_plain)]
"""The same, or "" for none."""
Surface = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$", max_length=60)]
"""Which list of the shop it is, such as home.for_you."""
_ContextName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
Contexts = Annotated[dict[_ContextName, OptionalId], Field(max_length=32)]
"""The model's context inputs by name, such as {"store_id": "367"}."""


class Body(pydantic.BaseModel):
    """Base of requests: a misspelt name is an error, and so is NaN."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Answer(pydantic.BaseModel):
    """Base of answers."""

    model_config = pydantic.ConfigDict(use_attribute_docstrings=True)


class Item(Answer):
    """One item of a list."""

    rank: int
    """Its place, from 1; an event gives it as `position`, from 0."""
    item_id: str
    title: str
    price: float | None
    category: str
    brand: str
    image_url: str | None
    score: float
    """The model's; of a fallback 0."""
    source: str
    """Where the item comes from, such as buy_again."""
    reason: str
    """Why it is here, in words for the shopper."""


class Latency(Answer):
    """Where the time went, in milliseconds."""

    store: float
    model: float
    total: float


class ListAnswer(Answer):
    """A list that is shown."""

    list_id: str
    """Name it in the events that follow from the list."""
    request_id: str
    surface: str
    model_version: int
    """0 where no model made the list."""
    experiment: str
    arm: str
    label: str
    """Version label that was asked for."""
    fallback: bool
    """Whether the list is a substitute, since something did not answer."""
    fallback_reason: str | None
    latency_ms: Latency
    items: list[Item]
