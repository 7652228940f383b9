"""Who sends more events than a person can."""

from __future__ import annotations

import time
from collections.abc import Callable

_WINDOW = 60.0


class Rates:
    """Counts events by user in the running minute.

    Args:
      most: events of a minute above which the rest are a robot's.
      now: a clock that only goes forward, in seconds.
    """

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most, self._now = most, now
        self._since = now()
        self._counts: dict[str, int] = {}
        self._before: dict[str, int] = {}  # in the minute before, of which a part still counts

    def suspect(self, user_id: str) -> bool:
        """Counts an event; whether it is one too many of the last 60 seconds (sliding window, estimated)."""
        past = self._now() - self._since
        if past >= _WINDOW:
            self._before = self._counts if past < 2 * _WINDOW else {}
            self._counts = {}
            self._since += past // _WINDOW * _WINDOW
            past %= _WINDOW
        count = self._counts[user_id] = self._counts.get(user_id, 0) + 1
        return count + self._before.get(user_id, 0) * (1 - past / _WINDOW) > self._most
