"""Orders in two tables: lines, and what is said of each order once."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.onboarding import values
from pipeline.onboarding.files import Source
from pipeline.onboarding.flatten import fold, rows
from pipeline.onboarding.formats import Format

#: The name of the table of orders, among what a format's `shape` is given.
HEADS = "orders"
_LEAST_FOUND = (
    0.5  # share of the first lines whose order is among the first orders, in one direction or other
)


def halves(one: list[Source], other: list[Source]) -> tuple[Format, list[Source], list[Source]] | None:
    """Which of two tables holds lines, which orders, and how they are put together.

    They share a column of ids that names each order once in the one and several lines in the other.

    Returns:
      A format without roles, the files of the lines, those of the orders; None if they do not fit so.
    """
    for lines, heads in ((one, other), (other, one)):
        known = {fold(name): name for name in heads[0].columns}
        for name in lines[0].columns:
            if (
                not fold(name).endswith(("id", "no", "number", "nr", "key", "code"))
                or fold(name) not in known
            ):
                continue
            of_lines = values.to_ids(rows(lines[0].sample()).text(name))
            of_heads = values.to_ids(rows(heads[0].sample()).text(name)).drop_null()
            unique = pc.count_distinct(of_heads).as_py() == len(of_heads)
            found = pc.mean(pc.is_in(of_lines, of_heads).cast(pa.float64())).as_py() or 0
            back = pc.mean(pc.is_in(of_heads, of_lines).cast(pa.float64())).as_py() or 0
            if unique and max(found, back) > _LEAST_FOUND:
                return _format(name), lines, heads
    return None


def _format(key: str) -> Format:
    def joined(table: pa.Table, others: Mapping[str, pa.Table]) -> pa.Table:
        lines, heads = rows(table), rows(others[HEADS])
        place = pc.index_in(values.to_ids(lines.text(key)), values.to_ids(heads.text(key)))
        columns = {name: lines.table.column(name) for name in table.schema.names}
        taken = {fold(name) for name in columns}
        for name in heads.table.schema.names:
            if fold(name) not in taken:
                columns[name] = heads.table.column(name).take(place)
        return pa.table(columns).filter(pc.is_valid(place))

    return Format(
        f"order lines, with what the table of orders says of their {key}",
        "events",
        (key,),
        {},
        shape=joined,
    )
