"""The events of a shop as sorted columns, rebuilt from session examples.

Everything that looks at the past (histories, popularity, co-purchases, baselines) goes
through :class:`EventLog` with an explicit point in time, so that one place decides what was
known when.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from models.data import example_io
from schema import names as F
from schema.config import EventKinds
from schema.errors import DataError


@dataclasses.dataclass(frozen=True)
class EventLog:
    """Events sorted by user, then time. All arrays have one entry an event unless stated.

    Attributes:
      users: str [U], the distinct users, sorted.
      items: str [I], the distinct items, sorted.
      event_types: str [Y], the distinct event types, sorted.
      user: int32, index in `users`.
      item: int32, index in `items`.
      event_type: int32, index in `event_types`.
      bought: bool, whether it is a purchase.
      weight: float32, how much it counts in what is learned from all events (`EventKinds.weights`).
      timestamp: int64, unix seconds (of the session's start).
      session: int64, dense number of the session in time order of each user.
      quantity, value: float32.
      part: int8, which of the folders that were read an event comes from.
      contexts: name -> object array of str, the session's context repeated for its events.
      other_types: the types that are no purchase (`EventKinds.others`), whether or not an event is of them.
    """

    users: np.ndarray
    items: np.ndarray
    event_types: np.ndarray
    user: np.ndarray
    item: np.ndarray
    event_type: np.ndarray
    bought: np.ndarray
    weight: np.ndarray
    timestamp: np.ndarray
    session: np.ndarray
    quantity: np.ndarray
    value: np.ndarray
    part: np.ndarray
    contexts: dict[str, np.ndarray]
    other_types: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def read(cls, folders: Sequence[str], kinds: EventKinds | None, contexts: Sequence[str] = ()) -> EventLog:
        """Reads split folders of session examples (see the data contract in `docs/`).

        Args:
          folders: split folders of EventExampleGen's artifact.
          kinds: what the event types mean; None where that does not matter, and every event counts alike.
          contexts: names of context columns, without their prefix.

        Raises:
          DataError: an event is of a type that `kinds` does not know.
        """
        columns = [
            F.SESSION_ID,
            F.USER_ID,
            F.TIMESTAMP,
            F.TARGET_ITEM_ID,
            F.TARGET_EVENT_TYPE,
            F.TARGET_QUANTITY,
            F.TARGET_VALUE,
        ]
        columns += [F.context(name) for name in contexts]
        tables = [example_io.read_table(folder, columns) for folder in folders]
        table = pa.concat_tables(tables, promote_options="permissive")
        part = np.repeat(np.arange(len(tables), dtype=np.int8), [table.num_rows for table in tables])
        size = example_io.lengths(table, F.TARGET_ITEM_ID)
        user, users = pd.factorize(example_io.first(table, F.USER_ID, ""), sort=True)
        start = example_io.first(table, F.TIMESTAMP, 0).astype(np.int64)
        # two sessions of a user in one second stand in the order of their ids, not in that in which Beam
        # wrote them
        named, _ = pd.factorize(example_io.first(table, F.SESSION_ID, ""), sort=True)
        order = np.lexsort((named, start, user))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        session = np.repeat(rank, size)
        by_session = np.argsort(session, kind="stable")
        item, items = pd.factorize(example_io.flat(table, F.TARGET_ITEM_ID), sort=True)
        event_type, event_types = pd.factorize(example_io.flat(table, F.TARGET_EVENT_TYPE), sort=True)
        event_type = event_type[by_session].astype(np.int32)
        bought, weight = _meaning(event_types, kinds)

        def per_event(name: str) -> np.ndarray:
            values = example_io.flat(table, name)
            return (values if len(values) else np.zeros(len(session))).astype(np.float32)[by_session]

        return cls(
            users=np.asarray(users, object),
            items=np.asarray(items, object),
            event_types=np.asarray(event_types, object),
            user=np.repeat(user, size)[by_session].astype(np.int32),
            item=item[by_session].astype(np.int32),
            event_type=event_type,
            bought=bought[event_type],
            weight=weight[event_type],
            timestamp=np.repeat(start, size)[by_session],
            session=session[by_session],
            quantity=per_event(F.TARGET_QUANTITY),
            value=per_event(F.TARGET_VALUE),
            part=np.repeat(part, size)[by_session],
            contexts={
                name: np.repeat(example_io.first(table, F.context(name), ""), size)[by_session]
                for name in contexts
            },
            other_types=kinds.others if kinds else (),
        )

    def where(self, mask: np.ndarray) -> EventLog:
        """The events of a boolean mask [events]; users, items and types keep their indices."""
        per_event = ("user", "item", "event_type", "bought", "weight", "timestamp", "session", "quantity")
        per_event += ("value", "part")
        return dataclasses.replace(
            self,
            **{name: getattr(self, name)[mask] for name in per_event},
            contexts={name: values[mask] for name, values in self.contexts.items()},
        )

    @functools.cached_property
    def purchases(self) -> EventLog:
        """The purchases; users, items and types keep their indices."""
        return self if self.bought.all() else self.where(self.bought)

    def before(self, as_of: float) -> EventLog:
        """The events strictly before `as_of` (unix seconds)."""
        return self.where(self.timestamp < as_of)

    def between(self, start: float, end: float) -> EventLog:
        """The events of [start, end) (unix seconds)."""
        return self.where((self.timestamp >= start) & (self.timestamp < end))

    def of_type(self, name: str) -> np.ndarray:
        """bool [events]: which are of a type."""
        return (self.event_types == name)[self.event_type]

    def item_rows(self, item_ids: np.ndarray) -> np.ndarray:
        """Row of each distinct item of the log in a table of item ids.

        Args:
          item_ids: str [V], a table's ids.

        Returns:
          int32 [I]; -1 for items that the table lacks.
        """
        return pd.Index(item_ids).get_indexer(self.items).astype(np.int32)

    def histories(self, users: np.ndarray, as_of: float | np.ndarray, length: int) -> dict[str, np.ndarray]:
        """The last events of users before a point in time, as request inputs.

        Args:
          users: int [B], indices in `self.users`.
          as_of: unix seconds; only events strictly before it are used. An array [users of the
            log] gives each user a moment of their own; all of the log's events are then used, so
            it must hold the past only.
          length: L, the most events a user keeps.

        Returns:
          `user_id` object [B]; `history_item_id` object [B, L] (oldest first, padded with
          "" at the end), `history_age_days` float32 [B, L], `history_event_type` object
          [B, L]; for each context the value of the last event, object [B].
        """
        index, valid = self.last_events(users, np.inf if isinstance(as_of, np.ndarray) else as_of, length)
        now = as_of[users][:, None] if isinstance(as_of, np.ndarray) else as_of
        out = {
            F.USER_ID: self.users[users],
            F.HISTORY_ITEM_ID: np.where(valid, self.items[self.item[index]], ""),
            F.HISTORY_AGE_DAYS: np.where(valid, (now - self.timestamp[index]) / F.SECONDS_PER_DAY, 0).astype(
                np.float32
            ),
            F.HISTORY_EVENT_TYPE: np.where(valid, self.event_types[self.event_type[index]], ""),
        }
        last = np.take_along_axis(index, np.maximum(valid.sum(1, keepdims=True) - 1, 0), 1)[:, 0]
        for name, values in self.contexts.items():
            out[F.context(name)] = np.where(valid.any(1), values[last], "")
        return out

    def last_events(self, users: np.ndarray, as_of: float, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Event indices of the last events of users before `as_of`.

        Returns:
          (int64 [B, L] event indices, bool [B, L] which of them are real).
        """
        known = np.flatnonzero(self.timestamp < as_of)
        owner = self.user[known]
        first = np.searchsorted(owner, users, "left")
        end = np.searchsorted(owner, users, "right")
        start = np.maximum(first, end - length)
        longest = int(max((end - start).max(initial=0), 1))
        offset = start[:, None] + np.arange(longest)
        valid = offset < end[:, None]
        if not len(known):
            raise ValueError("the log has no event before as_of")
        return known[np.minimum(offset, len(known) - 1)], valid


def _meaning(types: np.ndarray, kinds: EventKinds | None) -> tuple[np.ndarray, np.ndarray]:
    """Which event types (str [Y]) are purchases, bool [Y], and their weights, float32 [Y]."""
    if kinds is None:
        return np.ones(len(types), bool), np.ones(len(types), np.float32)
    unknown = sorted(set(types) - set(kinds.weights))
    if unknown:
        raise DataError(
            f"the sessions hold events of type {', '.join(unknown)}, which events.event_weights "
            f"({', '.join(sorted(kinds.weights))}) lacks; add them, and run EventExampleGen again"
        )
    bought = np.asarray([name in kinds.purchases for name in types], bool)
    return bought, np.asarray([kinds.weights[name] for name in types], np.float32)
