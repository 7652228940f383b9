"""What the prepared tables say about how a model should be learned from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_SECONDS = 86_400
_MANY_ROWS = 20_000_000  # of which repeats are counted
_PLAN_DAYS = 28.0  # the default of every window
_WINDOWS = 8  # windows of equal length that the data should hold
_LEAST_EVENTS = 10
_KNOWN = 0.3  # least share of the last window's events whose user was there before
_REPEATED = 0.001


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of the events table.

    Attributes:
      rows, users, items: counts; users without guests.
      guests: rows without a user.
      no_session: rows without a session.
      first, last: unix seconds.
      window_days: length of the evaluation and label windows that fits the span.
      leave_one_out: most of who comes in the last window was never there before, or times only say an order.
      repeated: share of (user, item) pairs with a second purchase.
      frequent: items with at least `candidates.min_events` events.
      unknown: share of the rows whose item the catalogue lacks.
    """

    rows: int
    users: int
    items: int
    guests: int
    no_session: int
    first: int
    last: int
    window_days: float
    leave_one_out: bool
    repeated: float
    frequent: int
    unknown: float


def of_events(path: Path, catalogue: pa.Table, ordered_only: bool, learned: str = "purchase") -> Facts:
    """Reads the prepared events once more, ids as codes.

    Args:
      path: the events table.
      catalogue: the items table.
      ordered_only: the times only say the order of a user's events.
      learned: the predicted type of event; it says what is bought again, and who of the last days was there
        before, whatever they did.
    """
    names = pq.read_schema(path).names
    wanted = [
        name for name in ("user_id", "item_id", "timestamp", "session_id", "event_type") if name in names
    ]
    ids = [name for name in wanted if name != "timestamp"]
    table = pq.read_table(path, columns=wanted, read_dictionary=ids).unify_dictionaries()
    seconds = table["timestamp"].cast(pa.int64()).combine_chunks().to_numpy() // 1_000_000
    users, items = _codes(table["user_id"]), _codes(table["item_id"])
    known = users >= 0
    first, last = int(seconds.min()), int(seconds.max())
    days = _window(last - first)
    counts = np.bincount(items)
    listed = pc.is_in(_values(table["item_id"]), catalogue.column("item_id").combine_chunks())
    bought = np.ones(len(users), bool)
    if "event_type" in wanted:
        bought = pc.equal(table["event_type"].cast(pa.string()), learned).to_numpy()
    chosen = known & bought
    missing = ~listed.to_numpy(zero_copy_only=False)[items]
    return Facts(
        rows=table.num_rows,
        users=len(np.unique(users[known])),
        items=int((counts > 0).sum()),
        guests=int((~known).sum()),
        no_session=table["session_id"].null_count if "session_id" in wanted else table.num_rows,
        first=first,
        last=last,
        window_days=days,
        leave_one_out=ordered_only
        or _newcomers(users[known], seconds[known], last - days * _SECONDS, bought[known]),
        repeated=_repeats(users[chosen], items[chosen], seconds[chosen]),
        frequent=int((counts >= _LEAST_EVENTS).sum()),
        unknown=float(missing.mean()),
    )


def _window(span: int) -> float:
    days = span / _SECONDS
    return _PLAN_DAYS if days >= _WINDOWS * _PLAN_DAYS * 0.75 else max(1.0, float(days // _WINDOWS))


def _newcomers(users: np.ndarray, seconds: np.ndarray, begin: float, bought: np.ndarray) -> bool:
    if not len(users):
        return False
    first = np.full(users.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, users, seconds)
    late = users[(seconds >= begin) & bought]
    before_any = seconds.min() < begin
    return not before_any or not len(late) or float((first[late] < begin).mean()) < _KNOWN


def _repeats(users: np.ndarray, items: np.ndarray, seconds: np.ndarray) -> float:
    """Share of (user, item) pairs that come at two moments or more."""
    users, items, seconds = (column[:_MANY_ROWS] for column in (users, items, seconds))
    if not len(users):
        return 0.0
    pair = users.astype(np.int64) * (int(items.max()) + 1) + items
    moments = np.unique(np.stack([pair, seconds]), axis=1)[0] if len(pair) < 1_000_000 else pair
    sizes = np.unique(moments, return_counts=True)[1]
    return float((sizes > 1).mean())


def buys_again(facts: Facts) -> bool:
    """Whether users buy an item more than once."""
    return facts.repeated >= _REPEATED


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """int64 [rows]; -1 for null."""
    codes = [pc.fill_null(chunk.indices.cast(pa.int64()), -1) for chunk in column.chunks]
    return np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in codes])


def _values(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0).dictionary.cast(pa.string())
