"""What a shop knew about its items at one moment: candidates, popularity, co-purchases, promotions.

The same function builds the tables that the servable carries (as of the end of the training
data) and those under which the ranker learns (as of the start of its label windows), so a
label can never leak into a feature, and training and serving read the same columns.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sp

from models.data import arrays
from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from models.retrieval import collaborative, promotions
from models.retrieval.item_statistics import Past, Seen, item_statistics
from models.retrieval.promotions import Promotions
from schema import names as F
from schema.config import Candidates, Exposures
from schema.errors import DataError

_BLOCK = 2048  # candidates whose neighbours are looked for at a time
_PROMOTIONS = "promotions/"  # before the names of their arrays in a file


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Item tables as of one moment.

    Attributes:
      as_of: unix seconds; nothing at or after it was read.
      candidate_row: int32 [C], item rows that may be recommended, ascending; a candidate's *position*
        is its index here.
      row_candidate: int32 [V], position of each item row; C where it is no candidate.
      stats: float32 [V, S], named by `stat_names`: item features of the ranker
        (`models.retrieval.item_statistics`).
      trending: float32 [C], weights of the events in the last `trending_days`.
      sold: float32 [C], purchases in the last `trending_days`.
      popularity: float32 [C], weights of all events.
      neighbour: int32 [C, M], positions of the items that the same users bought or viewed (C = none).
      neighbour_weight: float32 [C, M], cosine similarity, descending.
      collaborative_input: float32 [C, R], closed-form vectors of what a history holds.
      collaborative_output: float32 [C, R], closed-form vectors of what is looked for.
      promotions: of the weeks around the moment; what a request may know of them, its own moment decides
        (`models.retrieval.promotions.PromotionCalendar`).
    """

    as_of: float
    candidate_row: np.ndarray
    row_candidate: np.ndarray
    stats: np.ndarray
    stat_names: tuple[str, ...]
    trending: np.ndarray
    sold: np.ndarray
    popularity: np.ndarray
    neighbour: np.ndarray
    neighbour_weight: np.ndarray
    collaborative_input: np.ndarray
    collaborative_output: np.ndarray
    promotions: Promotions

    def new_within(self, days: float) -> np.ndarray:
        """bool [V]: item rows, without row 0, that have no event more than `days` before `as_of`."""
        # both sides in the table's float32, so that an age of exactly `days` is within
        new = self.stats[:, self.stat_names.index("log_first_age")] <= np.log1p(np.float32(days))
        new[0] = False
        return new

    def save(self, path: str) -> None:
        """Writes the arrays as one .npz file."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        fields["stat_names"] = np.asarray(self.stat_names)
        of_promotions = fields.pop("promotions").fields()
        arrays.save(path, fields | {_PROMOTIONS + name: value for name, value in of_promotions.items()})

    @classmethod
    def load(cls, path: str) -> Snapshot:
        """Reads what :meth:`save` wrote."""
        stored = arrays.load(path)
        fields = {name: value for name, value in stored.items() if not name.startswith(_PROMOTIONS)}
        fields["promotions"] = Promotions.of_fields(
            {
                name.removeprefix(_PROMOTIONS): value
                for name, value in stored.items()
                if name.startswith(_PROMOTIONS)
            }
        )
        fields["as_of"] = float(fields["as_of"])
        fields["stat_names"] = tuple(fields["stat_names"].tolist())
        return cls(**fields)


def build(
    log: EventLog,
    items: ItemTable,
    as_of: float,
    config: Candidates,
    new: np.ndarray | None = None,
    exposures: Exposures | None = None,
    category: str | None = None,
) -> Snapshot:
    """Computes the item tables from the events strictly before `as_of`.

    What is said of items (prices, cycles, lines) comes from purchases, as the labels do; which items are
    candidates, and which go together, from all events, each by the weight of its type.

    Args:
      log: all events (later ones are ignored).
      items: the catalogue.
      as_of: unix seconds.
      config: candidate settings (`min_events`, `neighbours`, half-life).
      new: int32 [N], item rows that are candidates whatever their events.
      exposures: which of the catalogue's exposures are planned; None without any.
      category: `items.category`.

    Returns:
      The snapshot.

    Raises:
      DataError: no item reaches `min_events`.
    """
    past = log.before(as_of)
    rows_of = log.item_rows(items.item_id)
    row = rows_of[past.item]
    known = row > 0
    past, row = past.where(known), row[known]
    age = ((as_of - past.timestamp) / F.SECONDS_PER_DAY).astype(np.float32)
    bought, bought_row, bought_age = past, row, age
    if not past.bought.all():
        bought, bought_row, bought_age = past.purchases, row[past.bought], age[past.bought]
    planned = promotions.build(items, exposures, category, as_of, bought_row, bought.timestamp)
    events = Past(bought, bought_row, bought_age, items, as_of, planned, Seen(past, row, age))
    chosen = events.count(row) >= config.min_events
    if new is not None:
        chosen[new] = True
    candidate_row = np.flatnonzero(chosen).astype(np.int32)
    if not len(candidate_row):
        raise DataError(
            f"no item has {config.min_events} events before the cut-off; "
            "lower candidates.min_events or give more training data"
        )
    count = len(candidate_row)
    row_candidate = np.full(len(items), count, np.int32)
    row_candidate[candidate_row] = np.arange(count, dtype=np.int32)

    stat_names, stats = item_statistics(events)
    recent = age <= config.trending_days
    sold = events.count(bought_row[bought_age <= config.trending_days])
    position = row_candidate[row]
    neighbour, weight = _neighbours(past, position, age, count, config)
    known = position < count
    inputs, outputs = collaborative.fit(
        collaborative.Events(past.user[known], position[known], age[known], past.weight[known]),
        count,
        config.collaborative,
    )
    return Snapshot(
        as_of=as_of,
        candidate_row=candidate_row,
        row_candidate=row_candidate,
        stats=stats,
        stat_names=stat_names,
        trending=events.count(row[recent], past.weight[recent])[candidate_row],
        sold=sold[candidate_row],
        popularity=events.count(row, past.weight)[candidate_row],
        neighbour=neighbour,
        neighbour_weight=weight,
        collaborative_input=inputs,
        collaborative_output=outputs,
        promotions=planned,
    )


def _neighbours(
    past: EventLog, candidate: np.ndarray, age: np.ndarray, count: int, config: Candidates
) -> tuple[np.ndarray, np.ndarray]:
    """Top co-purchased items: cosine over users of log-damped, time-decayed, weighted counts.

    Item-based nearest neighbours after Sarwar et al., "Item-based collaborative filtering
    recommendation algorithms", WWW 2001.
    """
    keep = candidate < count
    decayed = np.exp2(-age[keep] / config.half_life_days) * past.weight[keep]
    where, shape = (past.user[keep], candidate[keep]), (len(past.users), count)
    matrix = sp.csr_matrix((decayed, where), shape=shape, dtype=np.float32)
    matrix.data = np.log1p(matrix.data)
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(0)).ravel())
    matrix = sp.csr_matrix(matrix @ sp.diags(1 / np.maximum(norm, 1e-6)), dtype=np.float32)
    columns = matrix.T.tocsr()
    wanted = min(config.neighbours, max(count - 1, 1))
    neighbour = np.full((count, wanted), count, np.int32)
    weight = np.zeros((count, wanted), np.float32)
    # blocks of columns: the whole item x item product would need count^2 floats
    for start in range(0, count, _BLOCK):
        block = np.asarray((columns[start : start + _BLOCK] @ matrix).todense())
        rows = np.arange(len(block))
        block[rows, start + rows] = 0
        if count <= wanted:
            top = np.argsort(-block, 1)[:, :wanted]
        else:
            top = np.argpartition(-block, wanted - 1, 1)[:, :wanted]
            top = np.take_along_axis(top, np.argsort(-np.take_along_axis(block, top, 1), 1, kind="stable"), 1)
        found = np.take_along_axis(block, top, 1)
        neighbour[start : start + len(block)] = np.where(found > 0, top, count)
        weight[start : start + len(block)] = found
    return neighbour, weight
