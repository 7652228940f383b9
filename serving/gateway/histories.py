"""What users did before the gateway was there: a run's histories.parquet."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet

from schema import names as F
from schema.errors import DataError
from schema.events import Event

_COLUMNS = [F.USER_ID, *F.HISTORY]


class Histories:
    """Request states of users at one moment, as ServableBuilder writes them.

    Args:
      table: `user_id` and, for each user, lists `history_item_id`, `history_age_days`,
        `history_event_type` (oldest first) and texts `context_<name>`.
      at: unix seconds of the moment from which the ages count.
    """

    def __init__(self, table: pa.Table, at: float) -> None:
        self._table, self._at = table, at
        self._row = {user: row for row, user in enumerate(table[F.USER_ID].to_pylist())}
        self._contexts = [name for name in table.column_names if name.startswith(F.CONTEXT_PREFIX)]

    @classmethod
    def read(cls, path: str | os.PathLike[str], at: float) -> Histories:
        """Reads the file.

        Raises:
          DataError: it cannot be read, or a column is missing.
        """
        try:
            table = pyarrow.parquet.read_table(path)
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{path}: no request histories ({reason}); give a run's histories.parquet"
            ) from error
        for name in _COLUMNS:
            if name not in table.column_names:
                raise DataError(f"{path}: has no column '{name}'; give a run's histories.parquet")
        return cls(table.combine_chunks(), at)

    @classmethod
    def none(cls) -> Histories:
        """Of nobody."""
        return cls(pa.table({name: pa.array([], pa.string()) for name in _COLUMNS}), 0.0)

    def __len__(self) -> int:
        return len(self._row)

    def users(self) -> list[str]:
        """Everybody with a history, in the file's order."""
        return list(self._row)

    def events(self, user_id: str, limit: int, now: float) -> list[Event]:
        """A user's newest `limit` events, oldest first, with their ages at `now` (unix seconds)."""
        row = self._row.get(user_id)
        if row is None or limit < 1:
            return []
        since = max(now - self._at, 0.0) / F.SECONDS_PER_DAY
        items, ages, types = (self._table[name][row].values[-limit:].to_pylist() for name in F.HISTORY)
        return [Event(item, age + since, kind) for item, age, kind in zip(items, ages, types, strict=True)]

    def unknown(self, known: Sequence[Event], events: Sequence[Event], now: float) -> list[Event]:
        """Of a store's `events`, those that the run cannot have learned of.

        The next run reads what the store exports, so that a purchase before its moment is in both. What it
        has none of (`known`: its events of the user), such as views, is kept whatever its age.
        """
        types = {event.event_type for event in known}
        since = max(now - self._at, 0.0) / F.SECONDS_PER_DAY
        return [event for event in events if event.days_ago < since or event.event_type not in types]

    def context(self, user_id: str) -> dict[str, str]:
        """The context inputs of a user's last request state; {} for somebody unknown."""
        row = self._row.get(user_id)
        if row is None:
            return {}
        found = {
            name.removeprefix(F.CONTEXT_PREFIX): self._table[name][row].as_py() for name in self._contexts
        }
        return {name: value for name, value in found.items() if value}
