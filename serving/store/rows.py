"""What goes into the store and comes out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schema.events import Event

#: What a shopper can do. `schema.names` knows only those that a model learns from.
EVENT_TYPES = ("view", "click", "cart", "remove_from_cart", "purchase", "search", "not_interested")
#: Of these, what says that the item was wanted.
WANTED_TYPES = ("click", "cart", "purchase")
#: Of these, what goes into a request as the user's history.
HISTORY_TYPES = ("view", "click", "cart", "purchase")


@dataclasses.dataclass(frozen=True, slots=True)
class StoredEvent:
    """One thing that a shopper did.

    Attributes:
      event_id: made by the client, so that an event that is sent twice counts once.
      user_id: who; not empty.
      item_id: with which item; "" for a search.
      event_type: one of `EVENT_TYPES`.
      occurred_at, received_at: unix seconds, of the shopper's clock and of ours.
      session_id: the visit, or the order of a purchase; "" if the client does not say.
      query: what was searched for, or what had been when the event happened; "" for nothing.
      list_id: the shown list that the item was in; "" for none.
      position: its place there, from 0; None for none.
      value: money paid; None if nobody says.
      quantity: units; None if nobody says.
      context: the model's context inputs of the moment, such as {"store_id": "367"}.
      suspect: whether it came from what seems to be a robot: it is kept and used for nothing.
    """

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    occurred_at: float
    received_at: float
    session_id: str = ""
    query: str = ""
    list_id: str = ""
    position: int | None = None
    value: float | None = None
    quantity: float | None = None
    context: Mapping[str, str] = dataclasses.field(default_factory=dict)
    suspect: bool = False


class Appended(NamedTuple):
    """How many events were new, and how many the store had already."""

    accepted: int
    duplicate: int


class Shown(NamedTuple):
    """One item of a shown list.

    Attributes:
      item_id: the item.
      position: its place, from 0.
      propensity: the probability with which the policy puts it there; 1 where it does not choose by chance.
      source: where the item comes from, such as buy_again.
    """

    item_id: str
    position: int
    propensity: float
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class ShownList:
    """One list that was shown.

    Attributes:
      list_id: made by the gateway; an event that names it was caused by it.
      request_id: of the request that it answered.
      user_id: who saw it; "" for somebody unknown.
      surface: which list of the shop it is, such as home.buy_again or search.results.
      arm, experiment: what decided how it was made; "" for none.
      model_version: number of the version; 0 for a fallback.
      label: version label that was asked for; "" for none.
      fallback: whether the model was away.
      shown_at: unix seconds.
      query: what was searched for; "" for nothing.
      items: what was shown.
    """

    list_id: str
    request_id: str
    user_id: str
    surface: str
    arm: str
    experiment: str
    model_version: int
    label: str
    fallback: bool
    shown_at: float
    query: str
    items: Sequence[Shown]


@dataclasses.dataclass(frozen=True)
class UserRecord:
    """What a request needs to know of a user, read in one go.

    Attributes:
      events: the newest that count as history, oldest first, with their ages.
      dismissed: items that they are not interested in, and did not want since.
      unwanted: item -> visits within the time asked for in which it was seen and after which it was not
        wanted.
      erased: whether the user was erased: what other sources know of them must not be used.
    """

    events: list[Event]
    dismissed: list[str]
    unwanted: dict[str, int]
    erased: bool = False


class Erased(NamedTuple):
    """What was removed of a user."""

    events: int
    lists: int
