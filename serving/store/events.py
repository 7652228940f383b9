"""The store: the one object that gateway, experiments and pipeline talk to."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from schema.config import Events
from schema.events import Event
from serving.store import engine as engines
from serving.store import exposures, migrations, people, reading, spans, switches, writing
from serving.store.rows import Appended, Erased, ShownList, StoredEvent, UserRecord


class EventStore:
    """Events, shown lists and what follows from them, in one database. Thread-safe; every call blocks.

    Args:
      url: sqlite:///FILE or postgresql+psycopg://...; the tables are made, or brought to this release.
      readers: connections kept open.

    Raises:
      StoreError: the database cannot be reached, is none of ours or of a newer release.
    """

    def __init__(self, url: str, readers: int = 8) -> None:
        self._engine = engines.connect(url, readers)
        migrations.upgrade(self._engine)

    def close(self) -> None:
        """Closes all connections; the next call opens others."""
        self._engine.dispose()

    def ping(self) -> None:
        """Asks the database for nothing.

        Raises:
          sqlalchemy.exc.OperationalError: it does not answer.
        """
        with self._engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    # ---- writing

    def append(self, events: Sequence[StoredEvent]) -> Appended:
        """Keeps events; one whose id is there already changes nothing, whatever else it says."""
        new = self.write(events, ())
        return Appended(len(new), len(events) - len(new))

    def log_list(self, shown: ShownList) -> None:
        """Keeps a list that was shown."""
        self.write((), [shown])

    def write(self, events: Sequence[StoredEvent], lists: Sequence[ShownList]) -> set[str]:
        """Keeps both in one transaction, all of it or (if it raises) nothing; gives the ids of new events."""
        with engines.writing(self._engine) as connection:
            writing.log_lists(connection, lists)
            return writing.append(connection, events)

    # ---- one user

    def recent(self, user_id: str, limit: int, now: float) -> list[Event]:
        """A user's newest views, clicks, cart lines and purchases, as a request gives them.

        Args:
          user_id: who.
          limit: events at most.
          now: unix seconds, from which the ages count; an event later than that has age 0.

        Returns:
          Oldest first, by the shopper's clock, in whatever order they arrived. A click is a `view`; what
          was put into the basket and taken out is left out, as are events of robots.
        """
        with self._engine.connect() as connection:
            return reading.recent(connection, user_id, limit, now)

    def dismissed(self, user_id: str) -> list[str]:
        """Items that a user is not interested in, and did not click, put into the basket or buy since."""
        with self._engine.connect() as connection:
            return reading.dismissed(connection, user_id)

    def basket(self, user_id: str) -> list[str]:
        """Items in a user's basket, in the order in which they came into it."""
        with self._engine.connect() as connection:
            return reading.basket(connection, user_id)

    def shown_counts(
        self, user_id: str, since: float, visit_seconds: float = 1800.0, places: int = 10
    ) -> dict[str, int]:
        """Item -> visits since `since` in which it was seen, and not wanted afterwards.

        Args:
          user_id: who.
          since: unix seconds.
          visit_seconds: showings within the same of these count once.
          places: of a list, that count as seen.
        """
        with self._engine.connect() as connection:
            return reading.unwanted(connection, user_id, since, visit_seconds, places)

    def user(
        self, user_id: str, limit: int, now: float, shown_since: float, visit_seconds: float, places: int
    ) -> UserRecord:
        """`recent`, `dismissed` and `shown_counts` in one transaction."""
        with self._engine.connect() as connection:
            return UserRecord(
                reading.recent(connection, user_id, limit, now),
                reading.dismissed(connection, user_id),
                reading.unwanted(connection, user_id, shown_since, visit_seconds, places),
                people.was_erased(connection, user_id),
            )

    def events_per_minute(self, since: float, until: float) -> list[tuple[int, int]]:
        """How many events came in from `since` to `until` (unix seconds), by minute.

        Returns:
          (minute since 1970, events), in order; minutes without any are left out.
        """
        with self._engine.connect() as connection:
            return reading.per_minute(connection, since, until)

    # ---- privacy

    def export(self, user_id: str, caller: str = "") -> dict[str, Any]:
        """Everything that is kept of a user, with a row of the audit that says so."""
        with engines.writing(self._engine) as connection:
            found = people.export(connection, user_id)
            counts = Erased(len(found["events"]), len(found["lists"]))
            people.note(connection, "export", user_id, caller, time.time(), counts)
            return found

    def erase(self, user_id: str, caller: str = "") -> Erased:
        """Removes everything that is kept of a user, with a row of the audit that says so."""
        with engines.writing(self._engine) as connection:
            counts = people.erase(connection, user_id)
            people.note(connection, "erase", user_id, caller, time.time(), counts)
            return counts

    def audit(self, user_id: str) -> list[dict[str, Any]]:
        """What was done with a user's data: rows with `at`, `action`, `caller`, `events` and `lists`."""
        with self._engine.connect() as connection:
            return people.audit(connection, user_id)

    # ---- many users

    def exposures(self, experiment: str, since: float, until: float) -> dict[str, np.ndarray]:
        """The shown lists of an experiment; see `exposures.of_lists`."""
        with self._engine.connect() as connection:
            return exposures.of_lists(connection, experiment, since, until)

    def exposed_places(self, experiment: str, since: float, until: float) -> dict[str, np.ndarray]:
        """The places of these lists; see `exposures.of_places`."""
        with self._engine.connect() as connection:
            return exposures.of_places(connection, experiment, since, until)

    def outcomes(self, experiment: str, since: float, until: float) -> dict[str, np.ndarray]:
        """Clicks and purchases of those who saw these lists; see `exposures.of_outcomes`."""
        with self._engine.connect() as connection:
            return exposures.of_outcomes(connection, experiment, since, until)

    def explored(self, since: float) -> dict[str, tuple[int, int]]:
        """Item -> times shown in a drawn place since then, and clicked; see `exposures.of_explored`."""
        with self._engine.connect() as connection:
            return exposures.of_explored(connection, since)

    def stop(self, experiment: str) -> bool:
        """Stops an experiment in all gateways; whether it ran until now."""
        with engines.writing(self._engine) as connection:
            return switches.stop(connection, experiment, time.time())

    def resume(self, experiment: str) -> bool:
        """Lets a stopped experiment go on; whether it was stopped."""
        with engines.writing(self._engine) as connection:
            return switches.resume(connection, experiment)

    def stopped(self) -> dict[str, float]:
        """Stopped experiments, and since when (unix seconds)."""
        with self._engine.connect() as connection:
            return switches.stopped(connection)

    def export_span(
        self, folder: str | os.PathLike[str], since: float, until: float, events: Events
    ) -> spans.Span:
        """Writes what was received in a period as an events table of the pipeline; see `spans.export`."""
        with self._engine.connect() as connection:
            return spans.export(connection, folder, since, until, events)
