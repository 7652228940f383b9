"""Items with their exposure weeks, and users, from the shop's tables.

The exposures (20.9 M promotion rows on Complete Journey) are aggregated in columns: each
Arrow batch becomes its distinct (item, week, store) rows with one flag a channel, the flags
of an item's part are combined, and stores are counted per (item, week). Items and exposures
meet in the part of the item's hash.
"""

import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.catalog_example_gen.settings import Settings
from components.common import beam_io, matching, tables
from components.common.columns import MICROS, as_ids, as_strings, deserialize, one_batch, to_micros
from components.common.tables import Chunk, Role
from schema import names as F
from schema.config import Exposures, Items, Time, Users
from schema.errors import DataError

WEEK = 7 * 86_400
_MONDAY = 4 * 86_400  # 1970-01-05, the first Monday
_DAY = 86_400
# Fewer, larger batches: less of a batch's (item, week, store) rows is repeated in the next.
_EXPOSURE_ROWS = 1 << 20
_NUMERIC = ("number", "timestamp")  # kinds of roles that do not become strings


def run(pipeline: beam.Pipeline, settings: Settings, items_dir: str, users_dir: str) -> dict[str, Any]:
    """Writes Split-items under `items_dir` and, with a users table, Split-users under `users_dir`.

    Args:
      pipeline: an unstarted Beam pipeline; it is run here.
      settings: what to read.
      items_dir: folder or URL of the items artifact.
      users_dir: folder or URL of the users artifact.

    Returns:
      {"items", "items_exposed", "weeks_exposed", "unmatched", "users"}: counts, as far as configured
      (unmatched: promoted item-weeks of items that the catalogue lacks); also written to summary.json
      in `items_dir`.

    Raises:
      DataError: files, columns, missing or repeated ids, promotions of unknown items.
    """
    data = settings.data
    opened = {
        "items": tables.open_table(
            data.resolve(settings.items.path), "items.path", item_roles(settings.items), data.csv
        )
    }
    if settings.users:
        path = data.resolve(settings.users.path)
        opened["users"] = tables.open_table(path, "users.path", user_roles(settings.users), data.csv)
    if settings.exposures:
        path = data.resolve(settings.exposures.path)
        opened["exposures"] = tables.open_table(
            path, "exposures.path", exposure_roles(settings.exposures), data.csv
        )
    beam_io.run(pipeline, lambda p: _build(p, opened, settings, items_dir, users_dir))
    counts = beam_io.read_json(f"{items_dir}/{beam_io.SUMMARY_FILE}")
    if settings.exposures and counts.get("unmatched"):
        total = counts["weeks_exposed"] + counts["unmatched"]
        path = data.resolve(settings.exposures.path)
        known = matching.catalogue(items_dir)
        matching.check_share(
            *(counts["unmatched"], total, settings.quality.max_unmatched),
            *(counts["unmatched_ids"], known, path, "promoted item-weeks"),
        )
    return counts


def item_roles(items: Items) -> list[Role]:
    """The columns of the items table by feature name.

    Raises:
      DataError: two text columns differ in punctuation only, so that they have one feature name.
    """
    texts = [
        Role(F.text_column(column), column, f"items.text[{index}]", "category", False)
        for index, column in enumerate(items.text)
    ]
    if len({role.name for role in texts}) < len(texts):
        raise DataError(
            f"items.text: {items.text} name a column twice, or differ in punctuation only; rename one"
        )
    return [
        Role("item_id", items.item_id, "items.item_id", "id"),
        *texts,
        *_attributes("items", items.categorical),
        *_numbers(items),
    ]


def user_roles(users: Users) -> list[Role]:
    """The columns of the users table by feature name."""
    return [Role("user_id", users.user_id, "users.user_id", "id"), *_attributes("users", users.categorical)]


def exposure_roles(exposures: Exposures) -> list[Role]:
    """The columns of the exposures table: item_id, time, store (if any), channel_<name>."""
    kind = "timestamp" if exposures.time.unit == "timestamp" else "period"
    found = [
        Role("item_id", exposures.item_id, "exposures.item_id", "id"),
        Role("time", exposures.time.column, "exposures.time.column", kind),
    ]
    if exposures.store:
        found.append(Role("store", exposures.store, "exposures.store", "id"))
    for name in exposures.channels:
        key = f"exposures.channels.{name}"
        found.append(Role(f"channel_{name}", exposures.column(name), key, "category", False))
    return found


def attributes(chunk: Chunk, roles: list[Role]) -> pa.RecordBatch:
    """A chunk of the items or users table, with `row` (int64, file order).

    Ids and attributes are strings; empty ones become null: a feature without a value. Numbers are float32
    and times int64 (unix seconds), null where there is none (or no finite one).

    Raises:
      DataError: a missing id.
    """
    tables.check_values(chunk, roles)
    columns = {}
    for role in roles:
        if role.kind in _NUMERIC:
            columns[role.name] = _number(chunk, role)
            continue
        text = as_strings(chunk.batch.column(role.name))
        columns[role.name] = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    columns["row"] = pa.array(chunk.row_keys())
    batch = pa.RecordBatch.from_pydict(columns)
    if role := next((r for r in roles if r.required and batch.column(r.name).null_count), None):
        index = pc.index(pc.is_null(batch.column(role.name)), True).as_py()
        raise DataError(
            f"{chunk.path}: column '{role.column}' ({role.key}) is empty in {chunk.where(index)}; "
            "remove or fill this row"
        )
    return batch


def week_starts(chunk: Chunk, exposures: Exposures) -> np.ndarray:
    """int64 [rows]: the start of each row's week in unix seconds.

    Weeks and days are counted from the configured origin; timestamps fall into weeks from
    the origin, or from Monday 00:00 UTC without one.
    """
    time = exposures.time
    if time.unit == "timestamp":
        role = next(role for role in exposure_roles(exposures) if role.name == "time")
        seconds = to_micros(chunk, role) // MICROS
        anchor = _origin(time) if time.origin else _MONDAY
    else:
        period = WEEK if time.unit == "week" else _DAY
        number = chunk.batch.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False)
        anchor = _origin(time)
        seconds = anchor + (number - time.first) * period
    return anchor + (seconds - anchor) // WEEK * WEEK


def exposed(chunk: Chunk, exposures: Exposures) -> pa.RecordBatch:
    """Distinct (item, week, store) rows of a chunk: the partial aggregate.

    Returns:
      item_id and store (int64 or strings, by :func:`as_ids`; int8 0 without a store column), week
      int64 (unix seconds), channel_<name> int8: 1 where any row of the group is an exposure in the
      channel. Groups without an exposure are left out.

    Raises:
      DataError: a missing item, time or store.
    """
    tables.check_values(chunk, exposure_roles(exposures))
    rows = chunk.batch.num_rows
    columns: dict[str, pa.Array] = {
        "item_id": as_ids(chunk.batch.column("item_id")),
        "week": pa.array(week_starts(chunk, exposures)),
        "store": as_ids(chunk.batch.column("store"))
        if exposures.store
        else pa.array(np.zeros(rows, np.int8)),
    }
    any_channel = np.zeros(rows, bool) if exposures.channels else np.ones(rows, bool)
    for name in exposures.channels:
        active = _active(chunk.batch.column(f"channel_{name}"), exposures.values(name), exposures.inactive)
        any_channel |= active
        columns[f"channel_{name}"] = pa.array(active.astype(np.int8))
    table = pa.Table.from_pydict(columns).filter(pa.array(any_channel))
    return one_batch(_distinct(table, list(exposures.channels)))


def stores_by_week(partials: pa.Table, exposures: Exposures) -> pa.Table:
    """Counts the stores that expose an item in a week, by channel.

    Args:
      partials: concatenated :func:`exposed` batches that hold all rows of their items.
      exposures: channels.

    Returns:
      item_id string, week int64 and exposure_<channel> float32, sorted by (item_id, week). A
      store counts once however often its rows are repeated.
    """
    channels = list(exposures.channels)
    rows = _distinct(partials, channels)
    sums = [(f"channel_{name}", "sum") for name in channels]
    counts = rows.group_by(["item_id", "week"]).aggregate(sums).combine_chunks()
    columns = {"item_id": as_strings(counts.column("item_id")), "week": counts.column("week")}
    for name in channels:
        columns[f"exposure_{name}"] = counts.column(f"channel_{name}_sum").cast(pa.float32())
    return pa.Table.from_pydict(columns).sort_by([("item_id", "ascending"), ("week", "ascending")])


def examples(rows: pa.Table, roles: list[Role], weeks: pa.Table | None = None) -> pa.RecordBatch:
    """One example a row of the items or users table, ordered by id.

    Args:
      rows: :func:`attributes` batches, ids distinct.
      roles: the features; the first is the id.
      weeks: :func:`stores_by_week` of the same ids (and possibly others, which are left out).

    Returns:
      One list column a feature: bytes[0..1] an attribute, float32[0..1] a number, int64[0..1] a time,
      exposure_week int64[W] ascending, exposure_<channel> float32[W].
    """
    rows = rows.sort_by(roles[0].name).combine_chunks()
    columns = {}
    for role in roles:
        values = rows.column(role.name)
        numeric = role.kind in _NUMERIC
        columns[role.name] = beam_io.as_lists(values.combine_chunks() if numeric else as_strings(values))
    if weeks is not None:
        ids = as_strings(rows.column(roles[0].name))
        place = pc.index_in(weeks.column("item_id"), ids)  # null: not in the catalogue
        known = place.is_valid()
        weeks, place = weeks.filter(known), place.filter(known).to_numpy()
        # Both tables are sorted by id, so the weeks already lie in the items' order.
        offsets = pa.array(np.searchsorted(place, np.arange(rows.num_rows + 1)).astype(np.int32))
        for name in weeks.schema.names[1:]:
            values = weeks.column(name).combine_chunks()
            columns["exposure_week" if name == "week" else name] = pa.ListArray.from_arrays(offsets, values)
    return pa.RecordBatch.from_pydict(columns)


def _build(
    pipeline: beam.Pipeline,
    opened: dict[str, list[tables.Unit]],
    settings: Settings,
    items_dir: str,
    users_dir: str,
) -> None:
    roles = item_roles(settings.items)
    items = _keyed_attributes(pipeline, "Items", opened["items"], roles)
    inputs = {"rows": items}
    if settings.exposures:
        inputs["exposures"] = (
            pipeline
            | "Exposures"
            >> beam_io.ReadTable(opened["exposures"], exposure_roles(settings.exposures), _EXPOSURE_ROWS)
            | "AggregateChunk" >> beam.FlatMap(_exposed_parts, settings.exposures)
        )
    files = [unit.path for unit in opened["items"]]
    counts = [
        inputs
        | "ItemsWithExposures" >> beam.CoGroupByKey()
        | "WriteItems"
        >> beam.Map(_write_part, "items", roles, _by_index(files), settings.exposures, items_dir)
    ]
    if settings.users:
        roles = user_roles(settings.users)
        files = [unit.path for unit in opened["users"]]
        counts.append(
            {"rows": _keyed_attributes(pipeline, "Users", opened["users"], roles)}
            | "UsersById" >> beam.CoGroupByKey()
            | "WriteUsers" >> beam.Map(_write_part, "users", roles, _by_index(files), None, users_dir)
        )
    (
        counts
        | "AllCounts" >> beam.Flatten()
        | "Count" >> beam.CombineGlobally(beam_io.merge_counts)
        | "WriteSummary" >> beam.Map(_write_summary, items_dir)
    )


def _write_summary(counts: dict[str, int], items_dir: str) -> None:
    counts, ids = matching.take_strangers(counts)
    beam_io.write_json({**counts, "unmatched_ids": ids}, f"{items_dir}/{beam_io.SUMMARY_FILE}")


def _keyed_attributes(
    pipeline: beam.Pipeline, label: str, units: list[tables.Unit], roles: list[Role]
) -> beam.PCollection:
    return (
        pipeline
        | label >> beam_io.ReadTable(units, roles)
        | f"Check{label}" >> beam.Map(attributes, roles)
        | f"{label}Parts" >> beam.FlatMap(beam_io.keyed_parts, roles[0].name)
    )


def _exposed_parts(chunk: Chunk, exposures: Exposures) -> Iterator[tuple[int, bytes]]:
    return beam_io.keyed_parts(exposed(chunk, exposures), "item_id")


def _write_part(
    element: tuple[int, dict[str, Iterable[bytes]]],
    split: str,
    roles: list[Role],
    files: list[str],
    exposures: Exposures | None,
    output_dir: str,
) -> dict[str, int]:
    part, groups = element
    batches = list(groups["rows"])
    weeks, unmatched = None, {}
    if exposures:
        partials = list(groups["exposures"])
        weeks = stores_by_week(deserialize(partials), exposures) if partials else _no_weeks(exposures)
    if not batches:  # exposures of unknown items only
        assert weeks is not None
        return matching.strangers(weeks.column("item_id").combine_chunks(), pa.array([], pa.string()))
    rows = deserialize(batches).combine_chunks()
    ids = as_strings(rows.column(roles[0].name))
    tables.check_unique(ids, rows.column("row").to_numpy(), files, roles[0])
    counts = {split: rows.num_rows}
    if weeks is not None:
        unmatched = matching.strangers(weeks.column("item_id").combine_chunks(), ids)
    batch = examples(rows, roles, weeks)
    if exposures:
        per_item = batch.column("exposure_week").value_lengths().to_numpy()
        counts |= unmatched | {
            "items_exposed": int((per_item > 0).sum()),
            "weeks_exposed": int(per_item.sum()),
        }
    beam_io.write_examples(batch, beam_io.example_file(output_dir, split, part))
    return counts


def _no_weeks(exposures: Exposures) -> pa.Table:
    fields = [("item_id", pa.string()), ("week", pa.int64())]
    return pa.schema(
        fields + [(f"exposure_{name}", pa.float32()) for name in exposures.channels]
    ).empty_table()


def _distinct(table: pa.Table, channels: list[str]) -> pa.Table:
    """One row an (item, week, store), each channel's flags combined."""
    keys = ["item_id", "week", "store"]
    grouped = table.group_by(keys).aggregate([(f"channel_{name}", "max") for name in channels])
    return grouped.select(keys + [f"channel_{name}_max" for name in channels]).rename_columns(
        keys + [f"channel_{name}" for name in channels]
    )


def _active(channel: pa.Array, values: list[str] | None, inactive: list[str]) -> np.ndarray:
    """bool [rows]: the channel's value is an exposure: one of `values` or, without those, neither null
    nor one of `inactive`.
    """
    encoded = channel if pa.types.is_dictionary(channel.type) else channel.dictionary_encode()
    names = as_strings(encoded.dictionary)
    if values is None:
        active = pc.invert(pc.is_in(names, pa.array([*inactive, None], pa.string())))
    else:
        active = pc.is_in(names, pa.array(values, pa.string()))
    return pc.fill_null(active.take(encoded.indices), False).to_numpy(zero_copy_only=False)


def _attributes(section: str, categorical: dict[str, str]) -> list[Role]:
    return [
        Role(name, column, f"{section}.categorical.{name}", "category", False)
        for name, column in categorical.items()
    ]


def _numbers(items: Items) -> list[Role]:
    """The columns of price, age and popularity, as far as the shop has them."""
    wanted = (
        (F.ITEM_PRICE, items.price, "items.price", "number"),
        (F.ITEM_ADDED, items.added, "items.added", "timestamp"),
        (F.ITEM_POPULARITY, items.popularity, "items.popularity", "number"),
    )
    return [Role(name, column, key, kind, False) for name, column, key, kind in wanted if column]


def _number(chunk: Chunk, role: Role) -> pa.Array:
    """float32 [rows] a number, int64 [rows] a time in unix seconds; null where there is none."""
    column = chunk.batch.column(role.name)
    kind = pa.int64() if role.kind == "timestamp" else pa.float32()
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if missing.all():
        return pa.nulls(len(column), kind)
    if role.kind == "timestamp":
        # any time will do where there is none: its row becomes null again
        filled = pc.fill_null_backward(pc.fill_null_forward(column))
        times = dataclasses.replace(chunk, batch=pa.RecordBatch.from_arrays([filled], [role.name]))
        return pa.array(to_micros(times, role) // MICROS, kind, mask=missing)
    # by float64: Arrow refuses whole numbers that float32 rounds
    with np.errstate(over="ignore"):  # beyond float32 is as good as nothing
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float32)
    return pa.array(values, kind, mask=missing | ~np.isfinite(values))


def _origin(time: Time) -> int:
    origin = time.origin
    assert origin is not None  # checked by the configuration
    return int((origin if origin.tzinfo else origin.replace(tzinfo=dt.UTC)).timestamp())


def _by_index(paths: list[str]) -> list[str]:
    """The distinct files of a table's units, in file order."""
    return list(dict.fromkeys(paths))
