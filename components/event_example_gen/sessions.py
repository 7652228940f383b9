"""Sessions with their histories, by index arithmetic on whole columns."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.artifacts import SPLITS
from components.common.columns import DAY_MICROS, MICROS, ranked_codes
from components.common.windows import session_limits
from components.event_example_gen.settings import Settings
from components.event_example_gen.survey import Plan
from schema import names as F
from schema.config import EventKinds, Events

HISTORY_EVENTS = 1 << 21  # of one batch of examples: about 300 MB


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows in the order (user, time, session, file).

    Attributes:
      table: the rows.
      users: int64 [rows], index into `user_names`.
      user_names: distinct users, sorted.
      time: int64 [rows], microseconds.
      sessions: int64 [rows], index into `session_names`; 0 without a session column.
      session_names: distinct session ids, sorted; None without a session column.
    """

    table: pa.Table
    users: np.ndarray
    user_names: pa.StringArray
    time: np.ndarray
    sessions: np.ndarray
    session_names: pa.StringArray | None

    @classmethod
    def of(cls, table: pa.Table, has_sessions: bool) -> Self:
        """Sorts."""
        table = table.combine_chunks()
        users, user_names = ranked_codes(_array(table, "user_id"))
        time, row = _array(table, "time").to_numpy(), _array(table, "row").to_numpy()
        codes, session_names = np.zeros(len(time), np.int64), None
        if has_sessions:
            codes, session_names = ranked_codes(_array(table, "session_id"))
        order = np.lexsort((row, codes, time, users))
        table = table.take(pa.array(order))
        return cls(table, users[order], user_names, time[order], codes[order], session_names)


def sessions(
    table: pa.Table, chosen: Plan, settings: Settings, history_events: int = HISTORY_EVENTS
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """All sessions of some users as examples.

    A session is the events of one user with one session id (without a session column: events
    with gaps of at most `session_gap_minutes`, or each event alone if that is 0). A session that
    crosses a window limit (:func:`session_limits`) is cut there, so that no event of a later window
    is a target of an earlier one; with leave-one-out, all pieces of a session are in its split. The history
    holds the user's last `history_length` events strictly before the session's first event; where each
    event is a session, those before it in time and file order.

    Args:
      table: rows as :func:`normalise` gives them, all events of each user in it, any order.
      chosen: window limits.
      settings: history length, session gap, contexts.
      history_events: events in the histories of one batch: bounds the memory of users whose every
        event is a session, with `history_length` events before it.

    Yields:
      (split, one row a session): batches of a split are ordered by (user, time); a list column
      (bytes, float32 or int64) for each feature.
    """
    events = settings.events
    rows = _Rows.of(table, bool(events.columns.session_id))
    users, time = rows.users, rows.time
    count = len(time)
    new_user = np.r_[True, users[1:] != users[:-1]]
    new_time = new_user | np.r_[True, time[1:] != time[:-1]]
    each_event = rows.session_names is None and events.session_gap_minutes == 0
    limits = session_limits(
        chosen.train_end, chosen.eval_end, chosen.data_end // MICROS, settings.split, settings.ranking
    )
    piece = np.searchsorted(np.array(limits) * MICROS, time, side="right")
    group = _groups(rows, piece, new_user, events.session_gap_minutes)

    # Rows by session; in it by (time, row) because the sort is stable.
    by_session = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    first = by_session[np.r_[0, np.cumsum(sizes)[:-1]]]  # each session's first event
    in_time = np.argsort(first, kind="stable")  # sessions by (user, time)
    first, sizes = first[in_time], sizes[in_time]
    rank = np.empty_like(in_time)
    rank[in_time] = np.arange(len(in_time))
    targets = np.argsort(rank[group], kind="stable")

    # Strictly before: a history ends where the run of events with the session's first
    # timestamp begins, whatever session those belong to. Where each event is a session, the
    # file's order decides between events of one moment.
    positions = np.arange(count)
    time_run = np.maximum.accumulate(np.where(new_time, positions, 0))
    user_run = np.maximum.accumulate(np.where(new_user, positions, 0))
    stop = first if each_event else time_run[first]
    start = np.maximum(user_run[first], stop - events.history_length)
    length = stop - start
    target_ends = np.cumsum(sizes)
    if settings.split.strategy == "time":
        ends = np.array([chosen.train_end, chosen.eval_end]) * MICROS
        split_of = np.searchsorted(ends, time[first], side="right")
    else:
        whole = _groups(rows, np.zeros(count, np.int64), new_user, events.session_gap_minutes)
        bought = pc.is_in(_array(rows.table, "event_type"), pa.array(EventKinds.of(settings).purchases))
        split_of = _left_out(users, whole, bought.to_numpy(zero_copy_only=False))[first]
    block = (np.cumsum(length) - length) // history_events
    for low, high in itertools.pairwise([0, *(np.flatnonzero(np.diff(block)) + 1), len(first)]):
        part = slice(low, high)
        batch = _examples(
            rows,
            events,
            first[part],
            targets[target_ends[low] - sizes[low] : target_ends[high - 1]],
            sizes[part],
            start[part],
            length[part],
        )
        for index, split in enumerate(SPLITS):
            chosen_rows = split_of[part] == index
            if chosen_rows.any():
                yield split, batch.filter(pa.array(chosen_rows))


def _examples(
    rows: _Rows,
    events: Events,
    first: np.ndarray,
    targets: np.ndarray,
    sizes: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
) -> pa.RecordBatch:
    """Some sessions as examples.

    Args:
      rows: all rows.
      events: which columns there are.
      first: int64 [S], each session's first row.
      targets: int64 [sum of sizes], the rows of the sessions, one after the other.
      sizes: int64 [S], rows of each session.
      start, length: int64 [S], first row of each history and its rows.
    """
    table, users, time = rows.table, rows.users, rows.time
    target_offsets = np.r_[0, np.cumsum(sizes)]
    offsets = np.r_[0, np.cumsum(length)]
    history = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], length)
    ages = np.repeat(time[first], length) - time[history]

    def target(name: str) -> pa.ListArray:
        return _lists(target_offsets, _array(table, name).take(pa.array(targets)))

    def past(name: str) -> pa.ListArray:
        return _lists(offsets, _array(table, name).take(pa.array(history)))

    def once(values: pa.Array) -> pa.ListArray:
        return _lists(np.arange(len(first) + 1), values)

    user_of_session = rows.user_names.take(pa.array(users[first]))
    seconds = pa.array(time[first] // MICROS)
    if rows.session_names is None:
        names = pc.binary_join_element_wise(user_of_session, seconds.cast(pa.string()), "-")
    else:
        names = rows.session_names.take(pa.array(rows.sessions[first]))
    columns = {
        F.SESSION_ID: once(names),
        F.USER_ID: once(user_of_session),
        F.TIMESTAMP: once(seconds),
        F.TARGET_ITEM_ID: target("item_id"),
        F.TARGET_EVENT_TYPE: target("event_type"),
        F.TARGET_WEIGHT: target("weight"),
        F.TARGET_QUANTITY: target("quantity"),
        F.TARGET_VALUE: target("value"),
        F.HISTORY_ITEM_ID: past("item_id"),
        F.HISTORY_AGE_DAYS: _lists(offsets, pa.array((ages / DAY_MICROS).astype(np.float32))),
        F.HISTORY_EVENT_TYPE: past("event_type"),
    }
    if events.columns.query:
        columns[F.TARGET_QUERY] = target("query")
    for name in events.context:
        columns[F.context(name)] = once(_array(table, f"context_{name}").take(pa.array(first)))
    return pa.RecordBatch.from_pydict(columns)


def _groups(rows: _Rows, piece: np.ndarray, new_user: np.ndarray, gap_minutes: float) -> np.ndarray:
    """Number of the session of each row, int64 [rows].

    Args:
      rows: sorted rows.
      piece: int64 [rows], rows of a session with different numbers are apart.
      new_user: bool [rows], the row is the first of its user.
      gap_minutes: without a session column, a longer pause starts a session; 0: each row is one.
    """
    if rows.session_names is not None:
        # Sessions of a user may overlap in time, so a session's rows need not be neighbours.
        key = (rows.users * len(rows.session_names) + rows.sessions) * (piece.max(initial=0) + 1) + piece
        return np.unique(key, return_inverse=True)[1]
    if gap_minutes == 0:
        return np.arange(len(rows.time))
    gap = np.r_[True, np.diff(rows.time) > round(gap_minutes * 60 * MICROS)]
    return np.cumsum(new_user | gap | np.r_[True, piece[1:] != piece[:-1]]) - 1


def _left_out(users: np.ndarray, session: np.ndarray, bought: np.ndarray) -> np.ndarray:
    """Index in SPLITS of each row under leave-one-out: the last two sessions with a purchase are held out.

    A session without a purchase is in the split of the last one with a purchase before it: what the user
    viewed between two purchases is known when the second is asked for, and what follows the last is not.

    Args:
      users: int64 [rows], ascending.
      session: int64 [rows], number of the row's session; the rows of a user are in time order.
      bought: bool [rows], which are purchases.
    """
    first = np.sort(np.unique(session, return_index=True)[1])  # sessions by (user, time)
    owner = users[first]
    with_purchase = (np.bincount(session, bought) > 0)[session[first]]
    size = np.bincount(owner, with_purchase)[owner]
    so_far = np.cumsum(with_purchase)
    start = np.searchsorted(owner, owner, side="left")
    before = np.where(start > 0, so_far[start - 1], 0)
    from_end = size - (so_far - before)
    split = np.where(size < len(SPLITS), 0, np.maximum(len(SPLITS) - 1 - from_end, 0)).astype(np.int64)
    of_session = np.empty(len(first), np.int64)
    of_session[session[first]] = split
    return of_session[session]


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _lists(offsets: np.ndarray, values: pa.Array) -> pa.ListArray:
    if pa.types.is_string(values.type):
        values = values.cast(pa.binary())  # the tf.Example encoder knows bytes only
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)
