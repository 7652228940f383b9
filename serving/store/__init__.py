"""What shoppers did and what they were shown, in SQLite or PostgreSQL.

Example::

    store = EventStore("sqlite:///events.sqlite")  # makes or migrates the tables
    store.append([StoredEvent("4f1c-0001", "u1", "82", "view", occurred_at=1.7e9, received_at=1.7e9)])
    store.recent("u1", limit=512, now=1.7e9 + 60)  # [Event("82", days_ago=0.0007, event_type="view")]

In the room: `rows` (what goes in and out), `tables` (the database's), `engine` (connections of both
databases), `migrations` (Alembic), `writing`, `reading`, `people` (export, erase, audit) and `spans` (what
the next training run reads), all of it behind `events.EventStore`. It imports `schema` and nothing else of
ours.
"""

from serving.store.events import EventStore
from serving.store.rows import (
    EVENT_TYPES,
    HISTORY_TYPES,
    Appended,
    Erased,
    Shown,
    ShownList,
    StoredEvent,
    UserRecord,
)

__all__ = [
    "EVENT_TYPES",
    "HISTORY_TYPES",
    "Appended",
    "Erased",
    "EventStore",
    "Shown",
    "ShownList",
    "StoredEvent",
    "UserRecord",
]
