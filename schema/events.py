"""One event of a user, and what a recommendation needs to know of a user.

Client, event store and gateway exchange these; the model's signatures and EventExampleGen's tables
hold the same facts as parallel lists (`schema.names.HISTORY`). Everything here is plain Python: a
program that only asks a server imports neither numpy nor TensorFlow for it.

Example::

    state = UserState("1", [Event("82", days_ago=7.5), Event("17", 0.2, "view")], {"store_id": "367"})
    state.to_request()  # {"user_id": "1", "history_item_id": ["82", "17"], ...}
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schema import names as F
from schema.errors import RequestError


@dataclasses.dataclass(frozen=True)
class Event:
    """One past event of a user.

    Attributes:
      item_id: the item; a whole number becomes text.
      days_ago: its age in days, 0 or more.
      event_type: what the user did, one of the types of the training data.

    Raises:
      RequestError: a value of the wrong type or out of range.
    """

    item_id: str
    days_ago: float = 0.0
    event_type: str = "purchase"

    def __post_init__(self) -> None:
        object.__setattr__(self, "item_id", text("item_id", self.item_id, empty=False))
        object.__setattr__(self, "days_ago", _days("days_ago", self.days_ago))
        object.__setattr__(self, "event_type", text("event_type", self.event_type, empty=False))


@dataclasses.dataclass(frozen=True)
class UserState:
    """What a recommendation needs to know of a user.

    Attributes:
      user_id: "" for somebody unknown; a whole number becomes text.
      events: what the user did, in any order; of two events with the same age the earlier in the
        sequence is the older.
      context: the model's context inputs by name, with or without the prefix "context_", one value
        each, such as {"store_id": "367"}.
      now: unix seconds at which the user asks, sent as `context_timestamp`; None does not say.

    Raises:
      RequestError: a value of the wrong type or out of range; the message names it.
    """

    user_id: str = ""
    events: Sequence[Event] = ()
    context: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    now: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "user_id", text("user_id", self.user_id))
        events = tuple(self.events)
        for place, event in enumerate(events):
            if not isinstance(event, Event):
                raise RequestError(f"events[{place}]: {event!r} is no Event")
        object.__setattr__(self, "events", events)
        context = {}
        for name, value in self.context.items():
            if value is None or isinstance(value, (list, tuple, set, Mapping)):
                raise RequestError(f"context '{name}': {value!r} is not one value")
            context[name.removeprefix(F.CONTEXT_PREFIX)] = value
        object.__setattr__(self, "context", context)
        if self.now is not None:
            if isinstance(self.now, bool) or not isinstance(self.now, int) or self.now < 0:
                raise RequestError(f"now: {self.now!r} is not a whole number of unix seconds")
            if F.CONTEXT_TIMESTAMP.removeprefix(F.CONTEXT_PREFIX) in context:
                raise RequestError("now: given together with the context 'timestamp'; give one of them")

    def to_request(self) -> dict[str, Any]:
        """The user's inputs of a signature, for a batch of one.

        Returns:
          `user_id`: text; `history_item_id`, `history_age_days`, `history_event_type`: lists of one
          length, oldest event first; `context_<name>`: one value each; `context_timestamp`: unix
          seconds, only if `now` is known.
        """
        oldest_first = sorted(self.events, key=lambda event: -event.days_ago)
        request: dict[str, Any] = {
            F.USER_ID: self.user_id,
            F.HISTORY_ITEM_ID: [event.item_id for event in oldest_first],
            F.HISTORY_AGE_DAYS: [event.days_ago for event in oldest_first],
            F.HISTORY_EVENT_TYPE: [event.event_type for event in oldest_first],
        }
        request |= {F.context(name): value for name, value in self.context.items()}
        if self.now is not None:
            request[F.CONTEXT_TIMESTAMP] = self.now
        return request

    @classmethod
    def from_request(cls, inputs: Mapping[str, Any]) -> UserState:
        """The state behind a request's inputs or a row of histories.parquet.

        The inverse of :meth:`to_request`: `UserState.from_request(s.to_request()) == s`, if the events
        of `s` are oldest first.

        Args:
          inputs: values by input name. `history_age_days` may be missing (all 0), and so may
            `history_event_type` (all "purchase"); None is the same as missing. What is neither user,
            history nor context is ignored.

        Raises:
          RequestError: lists of different lengths, or a wrong value; the message names the input.
        """
        context = {
            name.removeprefix(F.CONTEXT_PREFIX): value
            for name, value in inputs.items()
            if name.startswith(F.CONTEXT_PREFIX) and name != F.CONTEXT_TIMESTAMP and value is not None
        }
        user_id = inputs.get(F.USER_ID)
        return cls(
            user_id="" if user_id is None else user_id,
            events=events_from_columns(*(inputs.get(name) for name in F.HISTORY)),
            context=context,
            now=inputs.get(F.CONTEXT_TIMESTAMP) or None,  # the signatures' 0 is "not given"
        )


def events_from_columns(
    item_id: Sequence[str] | None,
    age_days: Sequence[float] | None = None,
    event_type: Sequence[str] | None = None,
) -> list[Event]:
    """Events from parallel lists, in their order.

    Args:
      item_id: the items; None is empty.
      age_days: ages in days; all 0 if None.
      event_type: what each was; all "purchase" if None.

    Raises:
      RequestError: lists of different lengths, or a wrong value; the message names it as the inputs
        of the signatures are called, such as `history_age_days[3]`.
    """
    items = texts(F.HISTORY_ITEM_ID, item_id or ())
    ages = [0.0] * len(items) if age_days is None else list(age_days)
    types = ["purchase"] * len(items) if event_type is None else texts(F.HISTORY_EVENT_TYPE, event_type)
    for name, values in ((F.HISTORY_AGE_DAYS, ages), (F.HISTORY_EVENT_TYPE, types)):
        if len(values) != len(items):
            raise RequestError(f"{name}: has {len(values)} values but {F.HISTORY_ITEM_ID} has {len(items)}")
    ages = [_days(f"{F.HISTORY_AGE_DAYS}[{place}]", age) for place, age in enumerate(ages)]
    return [Event(*values) for values in zip(items, ages, types, strict=True)]


def text(name: str, value: Any, empty: bool = True) -> str:
    """`value` as text; a whole number counts as text, because ids often are numbers.

    Args:
      name: what the error calls it.
      value: text or a whole number.
      empty: whether it may be empty.

    Raises:
      RequestError: it is something else, or empty.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise RequestError(f"{name}: {value!r} is not text")
    if not empty and not str(value):
        raise RequestError(f"{name}: is empty; give one")
    return str(value)


def texts(name: str, values: Iterable[Any]) -> list[str]:
    """A list of texts, none empty; see :func:`text`.

    Raises:
      RequestError: it is a single text, or one of the values is no text or empty.
    """
    if isinstance(values, (str, bytes)):
        raise RequestError(f"{name}: expected a list, got the single text {values!r}; write [{values!r}]")
    return [text(f"{name}[{place}]", value, empty=False) for place, value in enumerate(values)]


def _days(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise RequestError(f"{name}: {value!r} is not a number of days of 0 or more")
    return float(value)
