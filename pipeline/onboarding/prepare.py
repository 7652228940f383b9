"""The events table that a run reads, from rows as a shop exports them: block by block, in whole columns."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.onboarding import values
from pipeline.onboarding.derive import Catalogue
from pipeline.onboarding.proposal import Plan, learned_type
from pipeline.onboarding.roles import type_of
from pipeline.onboarding.vocabulary import CANCELLED, WEIGHTS
from schema.errors import DataError

_NO_USER = ("(not set)", "null", "NULL", "None", "nan", "NaN", "NA")
_AHEAD = dt.timedelta(days=2)  # of clocks and zones that are wrong
_FEW_TYPES = 1000  # names of event types; more are no types


@dataclasses.dataclass(frozen=True)
class Choices:
    """What holds for all rows.

    Attributes:
      zone: IANA name of the zone of times that say none.
      key: of pseudonyms.
      types: event type as written -> one of `vocabulary.TYPES`.
      learned: the type that is predicted.
      kept: the types that are written, `learned` among them.
      currency: of money; rows in others are left out. None where nothing says.
      latest: later events cannot have happened.
    """

    zone: str
    key: bytes
    types: Mapping[str, str]
    learned: str
    kept: tuple[str, ...]
    currency: str | None = None
    latest: dt.datetime = dataclasses.field(default_factory=lambda: dt.datetime.now(dt.UTC) + _AHEAD)


@dataclasses.dataclass
class Report:
    """What became of the rows.

    Attributes:
      rows: rows read, after nested ones were made flat.
      kept: rows written.
      out: why rows were left out -> number of them.
      service: item ids of lines that are no goods -> number of lines.
    """

    rows: int = 0
    kept: int = 0
    out: Counter[str] = dataclasses.field(default_factory=Counter)
    service: Counter[str] = dataclasses.field(default_factory=Counter)


def event_types(plan: Plan) -> dict[str, int]:
    """How many rows each type of event has, over all files; empty without a column of types."""
    name = plan.column("event_type")
    counts: Counter[str] = Counter()
    if name is None:
        return {}
    for table in _shaped(plan):
        found = values.to_ids(table.column(name).combine_chunks()).value_counts()
        counts.update({one["values"].as_py() or "": one["counts"].as_py() for one in found})
        if len(counts) > _FEW_TYPES:
            raise DataError(
                f"{plan.sources[0].path}: column '{name}' has more than {_FEW_TYPES} kinds of events; name "
                "another by --answer events.event_type=COLUMN, or none"
            )
    return dict(counts.most_common())


def types_of(counts: Mapping[str, int], plan: Plan, answered: Mapping[str, str]) -> dict[str, str]:
    """What users do, by the shop's names for it; names that nobody knows are left out."""
    words = plan.format.words if plan.format else {}
    found = {}
    for name in counts:
        kind = answered.get(name) or words.get(name.lower()) or type_of(name)
        if kind:
            found[name] = kind
    return found


def events(plan: Plan, choices: Choices, path: Path, catalogue: Catalogue | None) -> Report:
    """Writes the events table.

    Args:
      plan: what each column is.
      choices: what holds for all rows.
      path: the Parquet file to write: user_id (null of guests), item_id, session_id, query string,
        timestamp in UTC, quantity and value float64, event_type string where several are kept, as far as
        there are such columns.
      catalogue: collects what the lines say about items, where there is no table of them.

    Raises:
      DataError: no row is left, or the files cannot be read.
    """
    report = Report()
    with writer(path) as write:
        for table in _shaped(plan):
            report.rows += table.num_rows
            columns, goods = _columns(table, plan, choices, report)
            if catalogue is not None:
                catalogue.add(table.filter(goods), columns["item_id"].filter(goods))
            kept = _kept(table, columns, goods, plan, choices, report)
            batch = pa.table(columns).filter(kept)
            report.kept += batch.num_rows
            write(batch)
        if not report.kept:
            worst = "; ".join(f"{count:,} {reason}" for reason, count in report.out.most_common(3))
            raise DataError(
                f"{plan.sources[0].path}: of {report.rows:,} rows none is an event to learn from ({worst}); "
                "correct what init takes the columns for by --answer events.ROLE=COLUMN"
            )
    return report


@contextlib.contextmanager
def writer(path: Path):  # noqa: ANN201
    """Writes tables to a Parquet file that is there when all of them are."""
    part = path.with_name(f".{path.name}.part")
    opened: list[pq.ParquetWriter] = []

    def write(table: pa.Table) -> None:
        if not opened:
            opened.append(pq.ParquetWriter(part, table.schema, compression="zstd"))
        opened[0].write_table(table)

    try:
        yield write
        for one in opened:
            one.close()
        if opened:
            os.replace(part, path)
    finally:
        for one in opened:
            one.close()
        part.unlink(missing_ok=True)


def _shaped(plan: Plan) -> Iterator[pa.Table]:
    for source in plan.sources:
        for table in source.tables(whole=plan.whole):
            shaped = plan.shaped(table).combine_chunks()
            if shaped.num_rows:
                yield shaped


def _columns(
    table: pa.Table, plan: Plan, choices: Choices, report: Report
) -> tuple[dict[str, pa.Array], pa.Array]:
    """The columns that are written, and booleans [rows]: the line names goods that were not taken back."""

    def get(role: str) -> pa.Array | None:
        name = plan.column(role)
        return column_of(table, name) if name else None

    def number(role: str) -> pa.Array | None:
        column = get(role)
        return None if column is None else values.to_numbers(column, plan.marks.get(role, "point"))

    for role in ("item_id", "user_id", "session_id"):
        if (column := get(role)) is not None and (bad := values.broken_ids(column)):
            raise DataError(
                f"{plan.sources[0].path}: column '{plan.column(role)}' holds '{bad}': a spreadsheet has "
                "rounded these ids, and they cannot be told apart; export the file again and do not open it"
            )
    item = values.to_ids(get("item_id"), ("(not set)",))
    user = values.to_ids(get("user_id"), (*_NO_USER, *(plan.format.no_user if plan.format else ())))
    if plan.pseudonyms:
        user = values.pseudonyms(user, choices.key)
    zone = (plan.format.zone if plan.format else None) or choices.zone
    times = values.to_times(get("timestamp"), plan.times["timestamp"], zone)
    columns = {"user_id": user, "item_id": item, "timestamp": times}
    if plan.column("session_id"):
        columns["session_id"] = values.to_ids(get("session_id"))
    kinds = _kinds(table, plan, choices)
    if kinds is not None and len(choices.kept) > 1:
        columns["event_type"] = kinds
    quantity, price, value = number("quantity"), number("price"), number("value")
    if quantity is not None:
        columns["quantity"] = pc.fill_null(quantity, 1.0)
        if "event_type" in columns:  # of what is no purchase, it is a count of looks, or 0
            bought = pc.fill_null(pc.equal(columns["event_type"], choices.learned), False)
            columns["quantity"] = pc.if_else(bought, columns["quantity"], 1.0)
    if value is None and price is not None:
        value = price if quantity is None else pc.multiply(price, columns["quantity"])
    if value is not None:
        columns["value"] = value
        if "event_type" in columns:  # what an item costs that was looked at is not paid
            bought = pc.fill_null(pc.equal(columns["event_type"], choices.learned), False)
            columns["value"] = pc.if_else(bought, value, pa.scalar(None, value.type))
    if plan.column("query"):
        columns["query"] = values.to_text(get("query"))
    service = pc.fill_null(pc.match_substring_regex(item, plan.service), False)
    report.service.update(item.filter(service).to_pylist())
    goods = pc.and_(pc.is_valid(item), pc.invert(service))
    if quantity is not None:
        goods = pc.and_(goods, pc.greater(columns["quantity"], 0))
    return columns, goods


def _kept(
    table: pa.Table,
    columns: Mapping[str, pa.Array],
    goods: pa.Array,
    plan: Plan,
    choices: Choices,
    report: Report,
) -> pa.Array:
    """Booleans [rows]: the row is written. Every other one is counted under the first reason against it."""
    keep = np.ones(table.num_rows, bool)

    def leave_out(rows: pa.Array, reason: str) -> None:
        out = pc.fill_null(rows, False).to_numpy(zero_copy_only=False) & keep
        if out.any():
            report.out[reason] += int(out.sum())
            keep[out] = False

    if name := plan.column("event_type"):
        written = values.to_ids(column_of(table, name))
        for one in written.unique().to_pylist():
            kind = choices.types.get(one or "")
            if kind not in choices.kept:
                what = f"are '{one}' ({kind})" if kind else f"are '{one}', a type of event that nobody knows"
                leave_out(pc.equal(written, one) if one is not None else pc.is_null(written), what)
    if name := plan.column("status"):
        state = pc.utf8_lower(values.to_ids(column_of(table, name)))
        leave_out(pc.is_in(state, pa.array(CANCELLED)), "are of cancelled orders")
    if "quantity" in columns:
        leave_out(pc.less_equal(columns["quantity"], 0), "are returns or voids (quantity of 0 or less)")
    leave_out(pc.is_null(columns["item_id"]), "name no item")
    leave_out(pc.invert(goods), "are no goods (carriage, fees, vouchers, tests)")
    times = columns["timestamp"]
    leave_out(pc.invert(values.plausible(times)), "have no time from 1990 to 2100 that can be read")
    # one order of next year would move every window there
    leave_out(pc.invert(values.plausible(times, choices.latest)), "are later than tomorrow")
    if choices.currency and (found := _currency(table, plan)) is not None:
        leave_out(pc.not_equal(found, choices.currency), f"are not in {choices.currency}")
    if "value" in columns:
        unpaid = pc.is_null(columns["value"])
        if "event_type" in columns:
            unpaid = pc.and_(unpaid, pc.equal(columns["event_type"], choices.learned))
        leave_out(unpaid, "have no price that can be read")
        leave_out(pc.less(columns["value"], 0), "have a price below 0")
    return pa.array(keep)


def _kinds(table: pa.Table, plan: Plan, choices: Choices) -> pa.Array | None:
    """string [rows], what each row's user did, one of `vocabulary.TYPES`; null where nobody knows."""
    name = plan.column("event_type")
    if name is None:
        return None
    written = values.to_ids(column_of(table, name)).dictionary_encode()
    names = [choices.types.get(one or "") for one in written.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(written.indices)


def column_of(table: pa.Table, name: str) -> pa.Array:
    """A column in one chunk; nulls if a file lacks it."""
    if name not in table.schema.names:
        return pa.nulls(table.num_rows, pa.string())
    column = table.column(name)
    column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _currency(table: pa.Table, plan: Plan) -> pa.Array | None:
    name = plan.column("currency")
    return None if name is None else pc.utf8_upper(values.to_ids(column_of(table, name)))


def currencies(plan: Plan) -> set[str]:
    """The currencies that the first rows name, in a column of their own or in their prices."""
    found: set[str] = set()
    head = plan.shaped(plan.sources[0].sample()).combine_chunks()
    for role in ("price", "value"):
        if name := plan.column(role):
            found |= values.currencies(column_of(head, name))
    if (column := _currency(head, plan)) is not None:
        found |= set(column.drop_null().unique().to_pylist())
    return found


def learned(plan: Plan, counts: Mapping[str, int], types: Mapping[str, str]) -> str:
    """The type of event that is predicted, see `proposal.learned_type`."""
    return learned_type(plan, counts, types)


def kept(types: Mapping[str, str], chosen: str) -> tuple[str, ...]:
    """The types that a model learns from: the predicted one, and those that lead to it.

    Args:
      types: event type as written -> one of `vocabulary.TYPES`.
      chosen: the predicted type.
    """
    there = {kind for kind in types.values() if WEIGHTS.get(kind, np.inf) < WEIGHTS[chosen]}
    return (chosen, *(kind for kind in WEIGHTS if kind in there))
