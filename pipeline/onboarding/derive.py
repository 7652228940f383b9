"""The tables of items and users: from the shop's own, or from what order lines say about items."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.columns import as_strings
from pipeline.onboarding import values
from pipeline.onboarding.proposal import Plan
from schema import names as F
from schema.errors import DataError

#: Names of features that mean something else.
_RESERVED = (F.ITEM_ID, F.USER_ID, F.TEXT, *F.ITEM_NUMBERS, "row", "price_band", "id", "activity", "week")
_PREFIXES = (F.TEXT_PREFIX, F.EXPOSURE_PREFIX)


class Catalogue:
    """Collects items from lines: each item's most frequent title and the latest of what else is said of it.

    Args:
      plan: of the lines.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._titles: list[pa.Table] = []
        self._rest: list[pa.Table] = []
        self._columns = {
            role: name
            for role in ("title", "category", "subcategory", "brand")
            if (name := plan.column(role))
        }

    def add(self, table: pa.Table, item: pa.Array) -> None:
        """Takes some lines in.

        Args:
          table: shaped rows.
          item: their items, without nulls.
        """
        if not len(item):
            return
        said = {role: _text(table, name) for role, name in self._columns.items()}
        rest = pa.table({"item_id": item, **{role: said[role] for role in said if role != "title"}})
        self._rest.append(_latest(rest))
        if "title" in said:
            titles = pa.table({"item_id": item, "title": said["title"]}).filter(pc.is_valid(said["title"]))
            self._titles.append(titles.group_by(["item_id", "title"]).aggregate([([], "count_all")]))

    def table(self) -> pa.Table:
        """One row an item: item_id, and title, category, brand as far as lines say them."""
        if not self._rest:
            return pa.table({"item_id": pa.array([], pa.string())})
        found = _latest(pa.concat_tables(self._rest))
        if "title" in self._columns and self._titles:
            counted = pa.concat_tables(self._titles).group_by(["item_id", "title"])
            counts = counted.aggregate([("count_all", "sum")])
            order = [("count_all_sum", "descending"), ("title", "ascending")]
            best = (
                counts.sort_by(order).group_by("item_id", use_threads=False).aggregate([("title", "first")])
            )
            place = pc.index_in(
                found.column("item_id").combine_chunks(), best.column("item_id").combine_chunks()
            )
            titles = best.column("title_first").combine_chunks().take(place)
            found = found.append_column("title", titles)
        return _with_paths(found, self._plan)


def items(plan: Plan, zone: str) -> tuple[pa.Table, Counter[str]]:
    """The catalogue as a run reads it, and why rows are left out.

    Returns:
      One row an item: item_id, title, description, tags, category_path, category, subcategory, brand
      and attributes as strings; price float64, added timestamp, popularity float64, as far as there are.
    """
    out: Counter[str] = Counter()
    parts = []
    for source in plan.sources:
        for table in source.tables(whole=plan.whole):
            shaped = plan.shaped(table).combine_chunks()
            parts.append(_item_columns(shaped, plan, zone))
    found = pa.concat_tables(parts)
    named = pc.is_valid(found.column("item_id"))
    out["name no item"] += found.num_rows - (named.combine_chunks().true_count)
    found = found.filter(named)
    found = _first_of_each(found, "item_id", out)
    return _with_paths(found, plan), +out


def users(plan: Plan, key: bytes) -> tuple[pa.Table, Counter[str]]:
    """The users as a run reads them: user_id and attributes, all strings; and why rows are left out."""
    out: Counter[str] = Counter()
    parts = []
    for source in plan.sources:
        for table in source.tables(whole=plan.whole):
            ids = values.to_ids(table.column(plan.roles["user_id"].column).combine_chunks())
            columns = {"user_id": values.pseudonyms(ids, key) if plan.pseudonyms else ids}
            columns |= {feature(name): _attribute(table, name) for name in plan.attributes}
            parts.append(pa.table(columns))
    found = pa.concat_tables(parts)
    named = pc.is_valid(found.column("user_id"))
    out["name no user"] += found.num_rows - named.combine_chunks().true_count
    return _first_of_each(found.filter(named), "user_id", out), +out


def promotions(plan: Plan, zone: str, write: Callable[[pa.Table], None]) -> int:
    """Writes the rows of promotions (item_id, time, store and channels); returns how many."""
    count = 0
    for source in plan.sources:
        for table in source.tables(whole=plan.whole):
            columns = {
                "item_id": values.to_ids(table.column(plan.roles["item_id"].column).combine_chunks()),
                "time": _when(table, plan, zone),
            }
            if name := plan.column("store"):
                columns["store"] = values.to_ids(table.column(name).combine_chunks())
            columns |= {feature(name): _attribute(table, name) for name in plan.attributes}
            found = pa.table(columns)
            timed = pc.is_valid(columns["time"]) if plan.period else values.plausible(columns["time"])
            keep = pc.and_(pc.is_valid(found.column("item_id")), timed)
            if "store" in columns:
                keep = pc.and_(keep, pc.is_valid(columns["store"]))
            found = found.filter(keep)
            write(found)
            count += found.num_rows
    if not count:
        raise DataError(f"{plan.sources[0].path}: no row names an item and a time; correct the files")
    return count


def _when(table: pa.Table, plan: Plan, zone: str) -> pa.Array:
    """Times of promotions, or the numbers of their periods as int64."""
    column = _plain(table, plan.roles["time"].column)
    if not plan.period:
        return values.to_times(column, plan.times["time"], zone)
    number = values.to_numbers(column)
    whole = pc.equal(pc.floor(number), number)
    return pc.if_else(whole, number, pa.scalar(None, pa.float64())).cast(pa.int64())


def feature(name: str) -> str:
    """A column's name as the name of a feature: lower case letters, digits and underscores."""
    plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r":(token|float)(_seq)?$", "", name).lower()).strip("_")
    free = plain[:1].isalpha() and plain not in _RESERVED and not plain.startswith(_PREFIXES)
    return plain if free else f"a_{plain}"


def _item_columns(table: pa.Table, plan: Plan, zone: str) -> pa.Table:
    columns = {"item_id": values.to_ids(_plain(table, plan.roles["item_id"].column))}
    for role in ("title", "description", "tags", "brand", "category", "subcategory"):
        if name := plan.column(role):
            columns[role] = _text(table, name)
    for role in ("price", "popularity"):
        if name := plan.column(role):
            number = values.to_numbers(_plain(table, name), plan.marks.get(role, "point"))
            columns[role] = pc.if_else(pc.less(number, 0), pa.scalar(None, pa.float64()), number)
    if "added" in plan.times:
        name = plan.roles["added"].column
        zone = (plan.format.zone if plan.format else None) or zone
        columns["added"] = values.to_times(_plain(table, name), plan.times["added"], zone)
    for name in dict.fromkeys((*plan.attributes, *plan.texts)):
        if feature(name) not in columns:
            columns[feature(name)] = _attribute(table, name)
    return pa.table(columns)


def _with_paths(found: pa.Table, plan: Plan) -> pa.Table:
    """Category paths as their first name (category), their last (subcategory) and their words."""
    if not plan.separator or "category" not in found.schema.names:
        return found
    path = found.column("category").combine_chunks()
    root = plan.format.root if plan.format else ""
    first, last = values.path_parts(path, plan.separator.strip(), root)
    words = pc.replace_substring(path, plan.separator.strip(), " ")
    if root:
        words = pc.replace_substring(words, root, "")
    words = pc.utf8_trim_whitespace(pc.replace_substring_regex(words, r"\s+", " "))
    found = found.set_column(found.schema.names.index("category"), "category", first)
    found = found.append_column("category_path", words)
    return found if "subcategory" in found.schema.names else found.append_column("subcategory", last)


def _latest(table: pa.Table) -> pa.Table:
    names = [name for name in table.schema.names if name != "item_id"]
    if not names:
        return table.group_by("item_id").aggregate([])
    found = table.group_by("item_id", use_threads=False).aggregate([(name, "last") for name in names])
    return found.rename_columns({f"{name}_last": name for name in names}).select(["item_id", *names])


def _first_of_each(table: pa.Table, key: str, out: Counter[str]) -> pa.Table:
    ids = table.column(key).combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.sort(np.unique(ids, return_index=True)[1])
    out[f"repeat a {key} (its first row counts)"] += table.num_rows - len(first)
    return table.take(pa.array(first))


def _plain(table: pa.Table, name: str) -> pa.Array:
    if name not in table.schema.names:
        return pa.nulls(table.num_rows, pa.string())
    column = table.column(name).combine_chunks()
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _text(table: pa.Table, name: str) -> pa.Array:
    return values.to_text(_plain(table, name))


def _attribute(table: pa.Table, name: str) -> pa.Array:
    return values.to_text(as_strings(_plain(table, name)))
