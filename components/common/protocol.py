"""How whole lists are scored: who asks, when, and what is relevant.

At the cut-off every user asks once; relevant is what the user then buys in the window. Task `all`
counts every item of the catalogue, task `novel` only items that the user never bought before
(those are excluded from the request). The catalogue is every item with `min_events` past events of
any type; users are those with a past catalogue event, a view alone included, and a relevant item.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from components.common.windows import Windows
from models.data.event_log import EventLog
from schema.errors import DataError

TASKS = ("all", "novel")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is asked and what is relevant.

    Attributes:
      log: all events of past and future.
      past: the events before the cut-off.
      windows: the cut-off.
      catalogue: int [M], items (indices of `log.items`) that may be recommended.
      column: int [I], column of each item in the catalogue, M where it is not in it.
      relevant: task -> bool [users of the log, M].
      seen: bool [users of the log, M], bought before the cut-off.
      moments: int64 [users of the log], unix seconds at which each user asks.
    """

    log: EventLog
    past: EventLog
    windows: Windows
    catalogue: np.ndarray
    column: np.ndarray
    relevant: dict[str, np.ndarray]
    seen: np.ndarray
    moments: np.ndarray

    @classmethod
    def of(cls, log: EventLog, windows: Windows, min_events: int) -> Protocol:
        """Sets the protocol up.

        Raises:
          DataError: nobody buys anything from the catalogue in the window.
        """
        past, future = windows.divide(log)
        lines = np.bincount(past.item, minlength=len(log.items))
        catalogue = np.flatnonzero(lines >= min_events)
        column = np.full(len(log.items), len(catalogue))
        column[catalogue] = np.arange(len(catalogue))

        def pairs(events: EventLog) -> np.ndarray:
            out = np.zeros((len(log.users), len(catalogue) + 1), bool)
            out[events.user, column[events.item]] = True
            return out[:, :-1]

        seen, bought = pairs(past.purchases), pairs(future.purchases)
        known = seen if past.bought.all() else pairs(past)
        bought &= known.any(1, keepdims=True)
        if not bought.any():
            raise DataError(
                "nobody with an event before buys anything from the catalogue in the evaluation window; "
                "check split.eval_days / split.test_days and candidates.min_events"
            )
        relevant = {"all": bought, "novel": bought & ~seen}
        return cls(log, past, windows, catalogue, column, relevant, seen, windows.moments(future.purchases))

    def users(self, task: str) -> np.ndarray:
        """Users (indices of the log) with a relevant item, int [U]."""
        return np.flatnonzero(self.relevant[task].any(1))
