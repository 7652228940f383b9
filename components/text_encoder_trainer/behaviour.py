"""What households did, as texts: what the encoder is fine-tuned on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from components.common.searches import Searches
from models.data.event_log import EventLog
from models.data.item_table import ItemTable


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What households did before a moment, as texts.

    Attributes:
      household, item, text: int [E], an event each: who, which catalogue row, which text.
      session: int [E], the basket.
      timestamp: int64 [E], unix seconds.
      households: how many there are.
      queries: object (str) [Q], what was searched for before an event; empty without searches.
      found: int [Q], the text of the product that each led to.
    """

    household: np.ndarray
    item: np.ndarray
    text: np.ndarray
    session: np.ndarray
    timestamp: np.ndarray
    households: int
    queries: np.ndarray
    found: np.ndarray

    @classmethod
    def of(
        cls, log: EventLog, searches: Searches, items: ItemTable, text_of_item: np.ndarray, until: float
    ) -> Behaviour:
        """From the events before `until` (unix seconds) of products in the catalogue."""
        past = log.before(until)
        row = log.item_rows(items.item_id)[past.item]
        past, row = past.where(row > 0), row[row > 0]
        found = pd.Index(items.item_id).get_indexer(searches.item_id)
        usable = (searches.timestamp < until) & (found > 0)
        return cls(
            household=past.user,
            item=row,
            text=text_of_item[row],
            session=past.session,
            timestamp=past.timestamp,
            households=len(log.users),
            queries=searches.query[usable],
            found=text_of_item[found[usable]],
        )

    def without(self, texts: np.ndarray) -> Behaviour:
        """Without the events of some texts (bool [T])."""
        keep = ~texts[self.text]
        per_event = ("household", "item", "text", "session", "timestamp")
        return dataclasses.replace(self, **{name: getattr(self, name)[keep] for name in per_event})
