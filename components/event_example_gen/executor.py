"""Sessions, histories and time windows from an events table, in columns.

The data flow, in Beam::

    survey:  read ids and times -> checks -> last event, smallest user digests -> Plan
    main:    read -> normalise and filter by the Plan (side input) -> parts by user hash
             -> per part: sort, sessions, histories (index arithmetic) -> tf.Examples

The shuffle carries serialized Arrow batches, so no Python code runs per row.
"""

import dataclasses
import datetime as dt
import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from components.common import beam_io, tables
from components.common.tables import DAY_MICROS, MICROS, Chunk, Role
from schema.config import Config, Data, Events, Split
from schema.errors import DataError

SPLITS = ("train", "eval", "test")


class Settings(pydantic.BaseModel):
    """The sections of the configuration that this component obeys."""

    data: Data
    events: Events
    split: Split


def settings_json(config: Config) -> str:
    """The component's `config` parameter: canonical JSON, part of the cache key."""
    # `evaluate_on` says which windows the models use; what is written is the same.
    split = config.split.model_copy(update={"evaluate_on": "test"})
    return (
        "{"
        + f'"data": {config.data.to_json()}, "events": {config.events.to_json()}, "split": {split.to_json()}'
        + "}"
    )


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the first pass finds (associative: partial surveys merge).

    Attributes:
      rows: rows read.
      kept: rows that count (quantity above the minimum, not after the fixed end).
      first, last: microseconds of the earliest and latest kept event; None without any.
      users: (md5 digest, id) of users with kept events, smallest digests only; empty when
        all users are used.
    """

    rows: int = 0
    kept: int = 0
    first: int | None = None
    last: int | None = None
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


def run(pipeline: beam.Pipeline, settings: Settings, output_dir: str) -> dict[str, Any]:
    """Writes the sessions of every split under `output_dir`/Split-<name>/.

    Args:
      pipeline: an unstarted Beam pipeline; it is run here.
      settings: what to read and how.
      output_dir: folder or URL of the Examples artifact.

    Returns:
      {"splits": {name: sessions}, "events", "users", "rows", "train_end", "eval_end",
      "data_end" (unix seconds)}; also written to summary.json in `output_dir`.

    Raises:
      DataError: files, columns, values, unknown event types or empty windows.
    """
    path = settings.data.resolve(settings.events.path)
    units = tables.open_table(path, "events.path", roles(settings.events))
    beam_io.run(pipeline, lambda p: _build(p, units, settings, output_dir))
    summary = beam_io.read_json(f"{output_dir}/{beam_io.SUMMARY_FILE}")
    for split in SPLITS:
        if not summary["splits"][split]:
            if settings.split.strategy == "leave_one_out":
                raise DataError(
                    f"{path}: no user has {len(SPLITS)} sessions, so leave-one-out leaves {split} empty; "
                    "change split.strategy or events.session_gap_minutes"
                )
            raise DataError(f"{path}: {_empty_window(split, summary['train_end'], summary['eval_end'])}")
    return summary


def roles(events: Events) -> list[Role]:
    """The columns of the events table by role."""
    columns = events.columns
    found = [
        Role("user_id", columns.user_id, "events.columns.user_id", "id"),
        Role("item_id", columns.item_id, "events.columns.item_id", "id"),
        Role("timestamp", columns.timestamp, "events.columns.timestamp", "timestamp"),
    ]
    if columns.session_id:
        found.append(Role("session_id", columns.session_id, "events.columns.session_id", "id"))
    if columns.event_type:
        found.append(Role("event_type", columns.event_type, "events.columns.event_type", "category"))
    if columns.quantity:
        found.append(Role("quantity", columns.quantity, "events.columns.quantity", "number"))
    if columns.value:
        # A missing value stays NaN: the schema check reports it beside the other anomalies.
        found.append(Role("value", columns.value, "events.columns.value", "number", required=False))
    if columns.query:
        found.append(Role("query", columns.query, "events.columns.query", "category", required=False))
    for name, column in events.context.items():
        found.append(Role(f"context_{name}", column, f"events.context.{name}", "category", required=False))
    return found


def survey(chunk: Chunk, settings: Settings) -> Survey:
    """Checks the required values of a chunk and finds its time span and sampled users.

    Raises:
      DataError: a missing value in a required role, milliseconds instead of seconds.
    """
    tables.check_values(chunk, [r for r in roles(settings.events) if r.name in chunk.batch.schema.names])
    times = _times(chunk, settings.events)
    keep = _counts(chunk, settings.events)
    if settings.split.end is not None:
        keep &= times <= _fixed_end(settings.split)
    if not keep.any():
        return Survey(rows=len(times))
    users: tuple[tuple[str, str], ...] = ()
    if settings.data.sample_users:
        ids = chunk.batch.column("user_id").filter(pa.array(keep)).unique()
        users = tuple(heapq.nsmallest(settings.data.sample_users, tables.md5_of(tables.as_strings(ids))))
    kept = times[keep]
    return Survey(len(times), int(keep.sum()), int(kept.min()), int(kept.max()), users)


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
            f"{settings.events.min_quantity:g} (events.min_quantity) or are after split.end; "
            "correct these keys"
        )
    end = found.last if settings.split.end is None else _fixed_end(settings.split)
    users = tuple(sorted(user for _, user in found.users)) if settings.data.sample_users else None
    if settings.split.strategy == "leave_one_out":
        after = end // MICROS + 1
        return Plan(after, after, end, users)
    eval_end = end // MICROS - round(settings.split.test_days * 86_400)
    train_end = eval_end - round(settings.split.eval_days * 86_400)
    span = f"the events span {iso(found.first // MICROS)} to {iso(found.last // MICROS)}"
    if found.first >= train_end * MICROS:
        raise DataError(f"{path}: {_empty_window('train', train_end, eval_end)}; {span}")
    if found.last < eval_end * MICROS:
        raise DataError(f"{path}: {_empty_window('test', train_end, eval_end)}; {span}")
    return Plan(train_end, eval_end, end, users)


def normalise(chunk: Chunk, chosen: Plan, settings: Settings) -> pa.RecordBatch | None:
    """The rows that count, typed as the sessions need them.

    Args:
      chunk: rows as read.
      chosen: window limits and users.
      settings: columns and weights.

    Returns:
      user_id, item_id, event_type, context_* string; session_id, query string if configured;
      time int64 (microseconds), weight, quantity, value float32, row int64 (file order).
      None when no row counts.

    Raises:
      DataError: an event type without a weight.
    """
    events = settings.events
    times = _times(chunk, events)
    keep = _counts(chunk, events) & (times <= chosen.data_end)
    user_ids = chunk.batch.column("user_id").dictionary_encode()
    if chosen.users is not None:
        wanted = pc.is_in(tables.as_strings(user_ids.dictionary), pa.array(chosen.users, pa.string()))
        keep &= wanted.to_numpy(zero_copy_only=False)[user_ids.indices.to_numpy()]
    if not keep.any():
        return None
    index = pa.array(np.flatnonzero(keep))
    rows = chunk.batch.take(index)
    count = rows.num_rows
    columns: dict[str, pa.Array] = {
        "user_id": tables.as_strings(rows.column("user_id")),
        "item_id": tables.as_strings(rows.column("item_id")),
        "time": pa.array(times[keep]),
        "row": pa.array(chunk.row_keys()[keep]),
    }
    if events.columns.session_id:
        columns["session_id"] = tables.as_strings(rows.column("session_id"))
    columns["event_type"], columns["weight"] = _types_and_weights(chunk, rows, index, events)
    columns["quantity"] = _floats(rows, "quantity", 1.0, count)
    columns["value"] = _floats(rows, "value", 0.0, count)
    if events.columns.query:
        columns["query"] = pc.fill_null(tables.as_strings(rows.column("query")), "")
    for name in events.context:
        columns[f"context_{name}"] = pc.fill_null(tables.as_strings(rows.column(f"context_{name}")), "")
    return pa.RecordBatch.from_pydict(columns)


def sessions(table: pa.Table, chosen: Plan, settings: Settings) -> dict[str, pa.RecordBatch]:
    """All sessions of some users as examples.

    A session is the events of one user with one session id (without a session column: events
    with gaps of at most `session_gap_minutes`, or each event alone if that is 0). A session that
    crosses a window limit is cut there, so that no event of a later window is a target of an
    earlier one. The history holds the user's last `history_length` events strictly before the
    session's first event; where each event is a session, those before it in time and file order.

    Args:
      table: rows as :func:`normalise` gives them, all events of each user in it, any order.
      chosen: window limits.
      settings: history length, session gap, contexts.

    Returns:
      split -> one row a session, ordered by (user, time); columns as in the README of
      components: lists of bytes, float32, int64. Splits without sessions are left out.
    """
    events = settings.events
    table = table.combine_chunks()
    users, user_names = tables.ranked_codes(_array(table, "user_id"))
    time = _array(table, "time").to_numpy()
    row = _array(table, "row").to_numpy()
    if events.columns.session_id:
        session_codes, session_names = tables.ranked_codes(_array(table, "session_id"))
    else:
        session_codes, session_names = np.zeros(len(time), np.int64), None

    order = np.lexsort((row, session_codes, time, users))
    table = table.take(pa.array(order))
    users, time, session_codes = users[order], time[order], session_codes[order]
    count = len(time)
    by_time = settings.split.strategy == "time"
    if by_time:
        window = np.searchsorted(np.array([chosen.train_end, chosen.eval_end]) * MICROS, time, side="right")
    else:  # whole sessions are held out, further down
        window = np.zeros(count, np.int64)
    new_user = np.r_[True, users[1:] != users[:-1]]
    new_time = new_user | np.r_[True, time[1:] != time[:-1]]
    each_event = session_names is None and events.session_gap_minutes == 0
    if each_event:
        group = np.arange(count)
    elif session_names is None:
        gap = np.r_[True, np.diff(time) > round(events.session_gap_minutes * 60 * MICROS)]
        group = np.cumsum(new_user | gap | np.r_[True, window[1:] != window[:-1]]) - 1
    else:
        # Sessions of a user may overlap in time, so a session's rows need not be neighbours.
        key = (users * len(session_names) + session_codes) * len(SPLITS) + window
        group = np.unique(key, return_inverse=True)[1]

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
    offsets = np.r_[0, np.cumsum(length)]
    history = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], length)
    ages = np.repeat(time[first], length) - time[history]

    def target(name: str) -> pa.ListArray:
        return _lists(np.r_[0, np.cumsum(sizes)], _array(table, name).take(pa.array(targets)))

    def past(name: str) -> pa.ListArray:
        return _lists(offsets, _array(table, name).take(pa.array(history)))

    def once(values: pa.Array) -> pa.ListArray:
        return _lists(np.arange(len(first) + 1), values)

    user_of_session = user_names.take(pa.array(users[first]))
    seconds = pa.array(time[first] // MICROS)
    if session_names is None:
        names = pc.binary_join_element_wise(user_of_session, seconds.cast(pa.string()), "-")
    else:
        names = session_names.take(pa.array(session_codes[first]))
    columns = {
        "session_id": once(names),
        "user_id": once(user_of_session),
        "timestamp": once(seconds),
        "target_item_id": target("item_id"),
        "target_event_type": target("event_type"),
        "target_weight": target("weight"),
        "target_quantity": target("quantity"),
        "target_value": target("value"),
        "history_item_id": past("item_id"),
        "history_age_days": _lists(offsets, pa.array((ages / DAY_MICROS).astype(np.float32))),
        "history_event_type": past("event_type"),
    }
    if events.columns.query:
        columns["target_query"] = target("query")
    for name in events.context:
        columns[f"context_{name}"] = once(_array(table, f"context_{name}").take(pa.array(first)))
    batch = pa.RecordBatch.from_pydict(columns)
    split_of = window[first] if by_time else _left_out(users[first])
    return {
        split: batch.filter(pa.array(split_of == index))
        for index, split in enumerate(SPLITS)
        if (split_of == index).any()
    }


def _left_out(users: np.ndarray) -> np.ndarray:
    """Index in SPLITS of each session under leave-one-out.

    Args:
      users: int64 [sessions], the user of each, sessions of a user in time order.
    """
    size = np.bincount(users)[users]
    from_end = np.searchsorted(users, users, side="right") - 1 - np.arange(len(users))
    return np.where(size < len(SPLITS), 0, np.maximum(len(SPLITS) - 1 - from_end, 0))


def _build(
    pipeline: beam.Pipeline, units: Sequence[tables.Unit], settings: Settings, output_dir: str
) -> None:
    wanted = roles(settings.events)
    sample = settings.data.sample_users
    path = units[0].path
    # The first pass checks the required columns; contexts and values may be missing and stay on disk.
    found = (
        pipeline
        | "Survey" >> beam_io.ReadTable(units, [role for role in wanted if role.required])
        | "SurveyChunk" >> beam.Map(survey, settings)
        | "MergeSurveys" >> beam.CombineGlobally(merge_surveys, sample_users=sample)
    )
    chosen = beam.pvalue.AsSingleton(found | "Plan" >> beam.Map(plan, settings, path))
    counts = (
        pipeline
        | "Events" >> beam_io.ReadTable(units, wanted)
        | "Normalise" >> beam.FlatMap(_parts, chosen, settings)
        | "ByUser" >> beam.GroupByKey()
        | "WriteSessions" >> beam.Map(_write_part, chosen, settings, output_dir)
    )
    (
        counts
        | "Count" >> beam.CombineGlobally(beam_io.merge_counts)
        | "WriteSummary" >> beam.Map(_write_summary, chosen, beam.pvalue.AsSingleton(found), output_dir)
    )


def _parts(chunk: Chunk, chosen: Plan, settings: Settings) -> Iterator[tuple[int, bytes]]:
    batch = normalise(chunk, chosen, settings)
    if batch is not None:
        yield from beam_io.keyed_parts(batch, "user_id")


def _write_part(
    element: tuple[int, Iterable[bytes]], chosen: Plan, settings: Settings, output_dir: str
) -> dict[str, int]:
    part, batches = element
    table = tables.deserialize(list(batches))
    counts = {"events": table.num_rows, "users": len(pc.unique(table.column("user_id")))}
    for split, batch in sessions(table, chosen, settings).items():
        counts[split] = beam_io.write_examples(batch, beam_io.example_file(output_dir, split, part))
    return counts


def _write_summary(counts: dict[str, int], chosen: Plan, found: Survey, output_dir: str) -> None:
    summary = {
        "splits": {split: counts.get(split, 0) for split in SPLITS},
        "events": counts.get("events", 0),
        "users": counts.get("users", 0),
        "rows": found.rows,
        "train_end": chosen.train_end,
        "eval_end": chosen.eval_end,
        "data_end": chosen.data_end // MICROS,
    }
    beam_io.write_json(summary, f"{output_dir}/{beam_io.SUMMARY_FILE}")


def _times(chunk: Chunk, events: Events) -> np.ndarray:
    return tables.to_micros(chunk, next(role for role in roles(events) if role.name == "timestamp"))


def _counts(chunk: Chunk, events: Events) -> np.ndarray:
    """bool [rows]: the quantity is above the minimum."""
    if not events.columns.quantity:
        return np.ones(chunk.batch.num_rows, bool)
    return chunk.batch.column("quantity").to_numpy(zero_copy_only=False) > events.min_quantity


def _types_and_weights(
    chunk: Chunk, rows: pa.RecordBatch, index: pa.Array, events: Events
) -> tuple[pa.Array, pa.Array]:
    if not events.columns.event_type:
        types = (
            pa.array([events.default_event_type])
            .dictionary_encode()
            .take(pa.array(np.zeros(len(index), np.int32)))
        )
    else:
        types = tables.as_strings(rows.column("event_type")).dictionary_encode()
    names = types.dictionary.to_pylist()
    codes = types.indices.to_numpy()
    for code, name in enumerate(names):
        if name not in events.event_weights:
            known = ", ".join(sorted(events.event_weights))
            if not events.columns.event_type:
                raise DataError(
                    f"events.default_event_type '{name}' has no weight in events.event_weights ({known}); "
                    "add it"
                )
            row = chunk.where(index[int((codes == code).argmax())].as_py())
            raise DataError(
                f"{chunk.path}: event type '{name}' in {row}, column '{events.columns.event_type}' "
                f"(events.columns.event_type), has no weight in events.event_weights ({known}); add it there"
            )
    weights = np.array([events.event_weights[name] for name in names], np.float32)
    return types.cast(pa.string()), pa.array(weights[codes])


def _floats(rows: pa.RecordBatch, name: str, default: float, count: int) -> pa.Array:
    if name not in rows.schema.names:
        return pa.array(np.full(count, default, np.float32))
    return pc.fill_null(rows.column(name).cast(pa.float64()), float("nan")).cast(pa.float32(), safe=False)


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _lists(offsets: np.ndarray, values: pa.Array) -> pa.ListArray:
    if pa.types.is_string(values.type):
        values = values.cast(pa.binary())  # the tf.Example encoder knows bytes only
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def _fixed_end(split: Split) -> int:
    """Microseconds of `split.end`; a naive time is UTC."""
    end = split.end
    end = end.replace(tzinfo=dt.timezone.utc) if end.tzinfo is None else end
    return (end - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)) // dt.timedelta(microseconds=1)


def _empty_window(split: str, train_end: int, eval_end: int) -> str:
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
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
