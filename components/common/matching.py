"""Ids of one table that another does not have: counted, and an error where they are too many."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.common.artifacts import ITEMS_SPLIT
from schema.errors import DataError

_SHOWN = 3
_STRANGER = "stranger:"  # a counter's name, before an id: counters are all that parts of a table add up


def strangers(ids: pa.Array, known: pa.Array) -> dict[str, int]:
    """Counters of rows whose id is not in `known`, for `beam_io.merge_counts`.

    Args:
      ids: strings [rows].
      known: distinct strings.

    Returns:
      {"unmatched": rows}, and counters that hold some of these ids (see :func:`take_strangers`).
    """
    missing = ids.filter(pc.invert(pc.is_in(ids, known)))
    examples = missing.unique()[:_SHOWN].to_pylist()
    return {"unmatched": len(missing), **{f"{_STRANGER}{name}": 1 for name in examples}}


def take_strangers(counts: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    """The counters without the ids that :func:`strangers` put there, and these ids, sorted."""
    ids = sorted(name.removeprefix(_STRANGER) for name in counts if name.startswith(_STRANGER))
    return {name: count for name, count in counts.items() if not name.startswith(_STRANGER)}, ids


def catalogue(items_dir: str) -> pa.StringArray:
    """Item ids that CatalogExampleGen wrote under `items_dir`."""
    from models.data import example_io  # TensorFlow: not for the workers

    table = example_io.read_table(f"{items_dir}/Split-{ITEMS_SPLIT}", ["item_id"])
    return pc.list_flatten(table.column("item_id").combine_chunks()).cast(pa.string())


def check_share(
    unmatched: int, total: int, most: float, ids: list[str], known: Iterable[Any], where: str, noun: str
) -> None:
    """Refuses a table of which too much names items that the catalogue lacks.

    Args:
      unmatched: rows of unknown items.
      total: all rows.
      most: `quality.max_unmatched`.
      ids: some unknown ids.
      known: the catalogue's ids.
      where: the table's files, for the message.
      noun: what a row is, in the plural.

    Raises:
      DataError: shows ids of both sides, those that differ in their writing first.
    """
    if unmatched <= most * total:
        return
    known = [str(name) for name in known]
    alike = {_bare(name): name for name in known}
    pairs = [f"'{name}' against '{alike[_bare(name)]}'" for name in ids if _bare(name) in alike][:_SHOWN]
    shown = ", ".join(f"'{name}'" for name in ids[:_SHOWN])
    ours = ", ".join(f"'{name}'" for name in known[:_SHOWN])
    both = f"{', '.join(pairs)}: write ids alike" if pairs else f"{shown} against {ours} in the catalogue"
    raise DataError(
        f"{where}: {unmatched:,} of {total:,} {noun} ({unmatched / total:.1%}) are of items that the "
        f"catalogue (items.path) lacks, such as {both}; correct the ids or the keys that name their columns, "
        f"or raise quality.max_unmatched ({most:g})"
    )


def _bare(name: str) -> str:
    """An id without what programs add or drop: blanks, leading zeros, `.0`, capital letters."""
    return name.strip().casefold().removesuffix(".0").lstrip("0")
