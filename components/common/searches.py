"""What users searched for before an event, from the events table's query column."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from models.data import example_io
from schema import names as F


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
        """From split folders of session examples; none where the shop has no query column.

        By moment, query and item, however the records lie in the files: Beam writes them in an order of its
        own in every run, and pairs are drawn from them by a seed.
        """
        table = example_io.read_table(folders, [F.TIMESTAMP, F.TARGET_ITEM_ID, F.TARGET_QUERY])
        if F.TARGET_QUERY not in table.schema.names:
            return cls(np.zeros(0, object), np.zeros(0, object), np.zeros(0, np.int64))
        query = pd.Series(example_io.flat(table, F.TARGET_QUERY)).str.strip().to_numpy(object)
        start = example_io.first(table, F.TIMESTAMP, 0).astype(np.int64)
        when = np.repeat(start, example_io.lengths(table, F.TARGET_ITEM_ID))
        item = example_io.flat(table, F.TARGET_ITEM_ID)
        asked = np.flatnonzero(query != "")
        words, items = (pd.factorize(values[asked], sort=True)[0] for values in (query, item))
        asked = asked[np.lexsort((items, words, when[asked]))]
        return cls(query[asked], item[asked], when[asked])

    def without(self, items: np.ndarray) -> Searches:
        """Without what led to some items (ids, object [N])."""
        keep = ~pd.Series(self.item_id).isin(items).to_numpy(bool)
        return Searches(self.query[keep], self.item_id[keep], self.timestamp[keep])
