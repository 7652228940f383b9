"""The first pass over the events: their time span, the sampled users, and the windows these give."""

import dataclasses
import datetime as dt
import heapq
from collections.abc import Iterable

import pyarrow as pa

from components.common import tables
from components.common.columns import MICROS, as_strings, md5_of
from components.common.tables import Chunk
from components.event_example_gen.roles import check_quantities, counted, event_times, guests, roles
from components.event_example_gen.roles import users as users_of
from components.event_example_gen.settings import Settings
from schema.config import EventKinds, Split
from schema.errors import DataError


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the first pass finds (associative: partial surveys merge).

    Attributes:
      rows: rows read.
      kept: rows that count (quantity above the minimum, not after the fixed end).
      first, last: microseconds of the earliest and latest kept event; None without any.
      guests: rows without a user id, where `events.guests` allows them.
      users: (md5 digest, id) of users with kept events, smallest digests only; empty when
        all users are used.
    """

    rows: int = 0
    kept: int = 0
    first: int | None = None
    last: int | None = None
    guests: int = 0
    users: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """Window limits and the users to keep.

    Attributes:
      train_end: unix seconds; train sessions are before it, eval sessions from it on. With
        leave-one-out, as `eval_end`, the second after the last event.
      eval_end: unix seconds; test sessions are from it on.
      data_end: microseconds of the last event used.
      users: sorted ids of the sampled users; None = all.
    """

    train_end: int
    eval_end: int
    data_end: int
    users: tuple[str, ...] | None


def survey(chunk: Chunk, settings: Settings) -> Survey:
    """Checks the required values of a chunk and finds its time span and sampled users.

    Raises:
      DataError: a missing value in a required role, milliseconds instead of seconds.
    """
    tables.check_values(chunk, [r for r in roles(settings.events) if r.name in chunk.batch.schema.names])
    kinds = EventKinds.of(settings)
    check_quantities(chunk, settings.events, kinds)
    times = event_times(chunk, settings.events)
    keep = counted(chunk, settings.events, kinds)
    if settings.split.end is not None:
        keep &= times <= fixed_end(settings.split)
    without = int(guests(chunk, settings.events).sum())
    if not keep.any():
        return Survey(rows=len(times), guests=without)
    users: tuple[tuple[str, str], ...] = ()
    if settings.data.sample_users:
        ids = users_of(chunk, settings.events).filter(pa.array(keep)).unique()
        users = tuple(heapq.nsmallest(settings.data.sample_users, md5_of(as_strings(ids))))
    kept = times[keep]
    return Survey(len(times), int(keep.sum()), int(kept.min()), int(kept.max()), without, users)


def merge_surveys(parts: Iterable[Survey], sample_users: int | None) -> Survey:
    """One survey of several (a Beam CombineFn)."""
    parts = list(parts)
    firsts = [part.first for part in parts if part.first is not None]
    lasts = [part.last for part in parts if part.last is not None]
    users = heapq.nsmallest(sample_users or 0, {user for part in parts for user in part.users})
    return Survey(
        sum(part.rows for part in parts),
        sum(part.kept for part in parts),
        min(firsts, default=None),
        max(lasts, default=None),
        sum(part.guests for part in parts),
        tuple(users),
    )


def plan(found: Survey, settings: Settings, path: str) -> Plan:
    """Window limits from the data's span, refused where a window must be empty.

    Args:
      found: the survey of the whole table.
      settings: windows and sample.
      path: the events file, for messages.

    Raises:
      DataError: no event counts, or a window holds no event (which, its limits, the span).
    """
    if found.first is None or found.last is None:
        raise DataError(
            f"{path}: none of the {found.rows:,} rows is used: all have a quantity of at most "
            f"{settings.events.min_quantity:g} (events.min_quantity), are after split.end or of guests; "
            "correct these keys"
        )
    end = found.last if settings.split.end is None else fixed_end(settings.split)
    users = tuple(sorted(user for _, user in found.users)) if settings.data.sample_users else None
    if settings.split.strategy == "leave_one_out":
        after = end // MICROS + 1
        return Plan(after, after, end, users)
    eval_end = end // MICROS - round(settings.split.test_days * 86_400)
    train_end = eval_end - round(settings.split.eval_days * 86_400)
    span = f"the events span {iso(found.first // MICROS)} to {iso(found.last // MICROS)}"
    if found.first >= train_end * MICROS:
        raise DataError(f"{path}: {empty_window('train', train_end, eval_end)}; {span}")
    if found.last < eval_end * MICROS:
        raise DataError(f"{path}: {empty_window('test', train_end, eval_end)}; {span}")
    return Plan(train_end, eval_end, end, users)


def fixed_end(split: Split) -> int:
    """Microseconds of `split.end`; a naive time is UTC."""
    end = split.end
    end = end.replace(tzinfo=dt.UTC) if end.tzinfo is None else end
    return (end - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def empty_window(split: str, train_end: int, eval_end: int) -> str:
    """The message for a window (limits in unix seconds) without an event."""
    limits = {
        "train": f"before {iso(train_end)}",
        "eval": f"{iso(train_end)} to {iso(eval_end)}",
        "test": f"from {iso(eval_end)} on",
    }[split]
    return (
        f"the {split} window ({limits}) has no events; change split.end, split.eval_days or "
        "split.test_days (or data.sample_users)"
    )


def iso(seconds: int) -> str:
    """Unix seconds as UTC text."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
