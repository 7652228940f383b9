"""What households did, as texts: what the encoder is fine-tuned on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from models.data import example_io
from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from schema import names as F


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


@dataclasses.dataclass(frozen=True)
class Searches:
    """Queries and what they led to.

    Attributes:
      query, item_id: object (str) [Q].
      timestamp: int64 [Q], unix seconds.
    """

    query: np.ndarray
    item_id: np.ndarray
    timestamp: np.ndarray

    @classmethod
    def read(cls, folders: list[str]) -> Searches:
        """From split folders of session examples; none where the shop has no query column."""
        table = example_io.read_table(folders, [F.TIMESTAMP, F.TARGET_ITEM_ID, F.TARGET_QUERY])
        if F.TARGET_QUERY not in table.schema.names:
            return cls(np.zeros(0, object), np.zeros(0, object), np.zeros(0, np.int64))
        query = pd.Series(example_io.flat(table, F.TARGET_QUERY)).str.strip().to_numpy(object)
        start = example_io.first(table, F.TIMESTAMP, 0).astype(np.int64)
        when = np.repeat(start, example_io.lengths(table, F.TARGET_ITEM_ID))
        asked = query != ""
        return cls(query[asked], example_io.flat(table, F.TARGET_ITEM_ID)[asked], when[asked])

    def without(self, items: np.ndarray) -> Searches:
        """Without what led to some items (ids, object [N])."""
        keep = ~pd.Series(self.item_id).isin(items).to_numpy(bool)
        return Searches(self.query[keep], self.item_id[keep], self.timestamp[keep])
