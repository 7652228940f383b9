"""Nested columns of exports as flat ones."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.columns import as_strings


def fold(name: str) -> str:
    """A column's name without regard to case, blanks, underscores and hyphens."""
    return re.sub(r"[\s_\-]+", "", name.strip().lower())


_looked_up: contextvars.ContextVar[set[str] | None] = contextvars.ContextVar("looked_up", default=None)


@contextlib.contextmanager
def lookups() -> Iterator[set[str]]:
    """The names of the columns that are found meanwhile by :class:`Rows`."""
    names: set[str] = set()
    token = _looked_up.set(names)
    try:
        yield names
    finally:
        _looked_up.reset(token)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows whose columns, and fields of structs, are found by folded names.

    Attributes:
      table: the rows; each column in one chunk.
    """

    table: pa.Table

    def get(self, *paths: str) -> pa.Array | None:
        """The first of some columns or fields that is there, such as "userInfo.userId"; None without any."""
        for path in paths:
            found = _walk(self.table, path)
            if found is not None:
                return found
        return None

    def text(self, *paths: str) -> pa.StringArray:
        """As :meth:`get`, as strings; nulls where there is none. Of several, each row's first value."""
        found = [_scalar(column) for column in (self.get(path) for path in paths) if column is not None]
        if not found:
            return pa.nulls(self.table.num_rows, pa.string())
        return pc.coalesce(*found)


def rows(table: pa.Table) -> Rows:
    """A table, to look columns up in."""
    return Rows(table.combine_chunks())


def flat(table: pa.Table) -> pa.Table:
    """Rows without structs: their fields become columns `struct.field`, and a list of structs more rows.

    Of several lists of structs the first gives the rows, and the others stay as they are.
    """
    exploded = False
    while True:
        nested = [field for field in table.schema if pa.types.is_struct(field.type)]
        if nested:
            table = table.flatten()
            continue
        lists = [field.name for field in table.schema if _is_lines(field.type)]
        if exploded or not lists:
            return table
        exploded = True
        parents, elements = explode(table.column(lists[0]).combine_chunks())
        table = table.drop_columns(lists[:1]).take(pa.array(parents))
        for name in elements.table.schema.names:
            table = table.append_column(f"{lists[0]}.{name}", elements.table.column(name))


def _is_lines(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)


def explode(lists: pa.Array) -> tuple[np.ndarray, Rows]:
    """The structs of a column of lists.

    Returns:
      int64 [elements], the row that each is of; and the elements.
    """
    parents = pc.list_parent_indices(lists).to_numpy()
    flat = pc.list_flatten(lists)
    if not pa.types.is_struct(flat.type):
        return parents, Rows(pa.table({"value": flat}))
    return parents, Rows(pa.Table.from_arrays(flat.flatten(), names=[field.name for field in flat.type]))


def by_row(parents: np.ndarray, values: pa.Array, count: int) -> pa.Array:
    """One value a row: the first of its elements' values; null for a row without one.

    Args:
      parents: int64 [elements], ascending: the row that each is of.
      values: [elements].
      count: number of rows.
    """
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    parents, values = parents[valid], values.filter(pa.array(valid))
    row, first = np.unique(parents, return_index=True)
    place = np.full(count, -1, np.int64)
    place[row] = first
    return values.take(pa.array(place, mask=place < 0))


def joined(separator: str, *columns: pa.Array) -> pa.Array:
    """What columns of text say, one behind the other, without nulls; null where all are.

    Arrow's `binary_join_element_wise` with `null_handling="skip"` loses rows of nulls (seen in 18.1).
    """
    found, *others = columns
    for column in others:
        found = pc.coalesce(pc.binary_join_element_wise(found, column, separator), found, column)
    return found


def forward(column: pa.Array) -> pa.Array:
    """Nulls filled with the value of the nearest row above that has one."""
    return pc.fill_null_forward(column)


def within(groups: pa.Array, columns: Sequence[pa.Array]) -> list[pa.Array]:
    """Nulls of columns filled with the first value of the row's group.

    Args:
      groups: name of each row's group [rows].
      columns: [rows] each.
    """
    codes = groups.dictionary_encode().indices
    names = [f"c{n}" for n in range(len(columns))]
    table = pa.Table.from_arrays([codes, *columns], names=["group", *names])
    first = table.group_by("group", use_threads=False).aggregate([(name, "first") for name in names])
    place = pc.index_in(codes, first.column("group").combine_chunks())
    filled = [first.column(f"{name}_first").combine_chunks().take(place) for name in names]
    return [pc.coalesce(column, value) for column, value in zip(columns, filled, strict=True)]


def _walk(table: pa.Table, path: str) -> pa.Array | None:
    top, *rest = (fold(part) for part in path.split("."))
    index = next((n for n, name in enumerate(table.schema.names) if fold(name) == top), None)
    if index is None:
        return None
    if (names := _looked_up.get()) is not None:
        names.add(table.schema.names[index])
    chunked = table.column(index)
    found = chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()
    for part in rest:
        if not pa.types.is_struct(found.type):
            return None
        place = next((n for n, field in enumerate(found.type) if fold(field.name) == part), None)
        if place is None:
            return None
        found = pc.struct_field(found, [place])
    return found


def _scalar(array: pa.Array) -> pa.StringArray:
    """Strings; of a list its first element, of a struct nothing."""
    if pa.types.is_null(array.type) or pa.types.is_struct(array.type):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        parents, elements = explode(array)
        return by_row(parents, elements.text(elements.table.schema.names[0]), len(array))
    text = as_strings(array).cast(pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
