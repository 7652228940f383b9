"""Items with their exposure weeks, and users, from the shop's tables.

Items and exposures (`exposures.py`) meet in the part of the item's hash.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.catalog_example_gen.exposures import exposed, exposure_roles, no_weeks, stores_by_week
from components.catalog_example_gen.settings import Settings
from components.common import beam_io, matching, tables
from components.common.columns import MICROS, as_strings, deserialize, to_micros
from components.common.tables import Chunk, Role
from schema import names as F
from schema.config import Exposures, Items, Users
from schema.errors import DataError

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
        weeks = stores_by_week(deserialize(partials), exposures) if partials else no_weeks(exposures)
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


def _by_index(paths: list[str]) -> list[str]:
    """The distinct files of a table's units, in file order."""
    return list(dict.fromkeys(paths))
