"""The judgements table as one example a query, divided by the hash of its words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.common import tables
from components.common.columns import as_strings
from components.common.queries import SETS, divided, normalised
from components.common.tables import Chunk, Role
from components.judgement_example_gen.settings import Settings
from models.data import example_io
from schema import names as F
from schema.config import Judgements
from schema.errors import DataError


def run(settings: Settings, known: np.ndarray, output: str) -> str:
    """Writes the splits `train`, `eval` and `test`.

    Queries that differ in case or spaces are one. Judgements of items that the catalogue lacks are left
    out and counted, and so are queries that have no right item left.

    Args:
      settings: what to read.
      known: object (str) [V], ids of the catalogue.
      output: folder of the artifact; an example has `query` (one), `item_id` and `gain` (as many).

    Returns:
      A line for a person.

    Raises:
      DataError: no file, a missing column or value, an unknown grade, a pair that is judged twice, too
        many items that the catalogue lacks, or no query with a right item.
    """
    judged = settings.judgements
    frame = read(settings)
    in_catalogue = pd.Index(known).get_indexer(frame["item_id"]) >= 0
    unmatched = int((~in_catalogue).sum())
    path = settings.data.resolve(judged.path)
    if unmatched > settings.quality.max_unmatched * len(frame):
        example = frame["item_id"][~in_catalogue].iloc[0]
        raise DataError(
            f"{path}: {unmatched:,} of {len(frame):,} judgements are of items that the catalogue lacks, such "
            f"as '{example}', more than quality.max_unmatched {settings.quality.max_unmatched:g}; correct "
            f"the ids, or search.judgements.item_id ('{judged.item_id}')"
        )
    frame = frame[in_catalogue]
    best = frame.groupby("query")["gain"].transform("max")
    frame = frame[best > 0].sort_values(["query", "item_id"], kind="stable")
    if frame.empty:
        raise DataError(
            f"{path}: no query has an item with a gain above 0; check search.judgements.gains {judged.gains}"
        )
    queries, first = np.unique(frame["query"].to_numpy(object).astype(str), return_index=True)
    split = divided(queries.astype(object), settings.valid_share, settings.test_share)
    bounds = np.append(first, len(frame))
    counts = {}
    for name in SETS:
        chosen = np.flatnonzero(split == name)
        batch = _examples(frame, queries, bounds, chosen)
        counts[name] = example_io.write_records(example_io.split_path(output, name), [batch])
    said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    lost = f"; {unmatched:,} judgements of items that the catalogue lacks" if unmatched else ""
    return f"{len(queries):,} queries ({said}), {len(frame):,} judgements{lost}"


def read(settings: Settings) -> pd.DataFrame:
    """The table as `query` (normalised), `item_id` (str) and `gain` (float32), one row a judgement.

    Raises:
      DataError: see :func:`run`.
    """
    roles = judgement_roles(settings.judgements)
    path = settings.data.resolve(settings.judgements.path)
    units = tables.open_table(path, "search.judgements.path", roles, settings.data.csv)
    chunks = [chunk for unit in units for chunk in tables.read(unit, roles)]
    frame = pd.concat([_rows(chunk, roles, settings.judgements) for chunk in chunks], ignore_index=True)
    twice = frame.duplicated(["query", "item_id"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise DataError(
            f"{row['path']}: item '{row['item_id']}' is judged twice for '{row['query']}', again in row "
            f"{row['row']:,}; keep one judgement of a pair"
        )
    return frame


def judgement_roles(judged: Judgements) -> list[Role]:
    """The columns of the table."""
    return [
        Role("query", judged.query, "search.judgements.query", "category"),
        Role("item_id", judged.item_id, "search.judgements.item_id", "id"),
        Role("grade", judged.grade, "search.judgements.grade", "category"),
    ]


def _rows(chunk: Chunk, roles: list[Role], judged: Judgements) -> pd.DataFrame:
    tables.check_values(chunk, roles)
    columns = {role.name: as_strings(chunk.batch.column(role.name)) for role in roles}
    graded = columns["grade"].dictionary_encode()
    gains = np.asarray(
        [judged.gains.get(grade, np.nan) for grade in graded.dictionary.to_pylist()], np.float32
    )
    gain = gains[graded.indices.to_numpy()]
    if np.isnan(gain).any():
        at = int(np.isnan(gain).argmax())
        raise DataError(
            f"{chunk.path}: column '{judged.grade}' (search.judgements.grade) is "
            f"'{columns['grade'][at].as_py()}' in {chunk.where(at)}; give it a gain in "
            f"search.judgements.gains {sorted(judged.gains)}, or remove the row"
        )
    asked = columns["query"].dictionary_encode()
    words = np.asarray([normalised(text) for text in asked.dictionary.to_pylist()], object)
    empty = pc.equal(asked.indices, -1) if not len(words) else pa.array(words == "").take(asked.indices)
    if pc.any(empty).as_py():
        at = pc.index(empty, True).as_py()
        raise DataError(
            f"{chunk.path}: column '{judged.query}' (search.judgements.query) is blank in {chunk.where(at)}; "
            "remove the row"
        )
    return pd.DataFrame(
        {
            "query": words[asked.indices.to_numpy()],
            "item_id": columns["item_id"].to_numpy(zero_copy_only=False),
            "gain": gain,
            "path": chunk.path,
            "row": chunk.first_row + 1 + np.arange(chunk.batch.num_rows),
        }
    )


def _examples(
    frame: pd.DataFrame, queries: np.ndarray, bounds: np.ndarray, chosen: np.ndarray
) -> pa.RecordBatch:
    """The chosen queries (int [n]) as list columns; those of query i are rows bounds[i] to bounds[i + 1]."""
    size = bounds[chosen + 1] - bounds[chosen]
    offsets = pa.array(np.concatenate([[0], np.cumsum(size)]), pa.int64())
    rows = np.repeat(bounds[chosen] - offsets.to_numpy()[:-1], size) + np.arange(int(size.sum()))
    ones = pa.array(np.arange(len(chosen) + 1), pa.int64())

    def words(values: np.ndarray) -> pa.Array:
        return pa.array(values.tolist(), pa.large_string()).cast(pa.large_binary())

    columns = {
        F.QUERY: pa.LargeListArray.from_arrays(ones, words(queries[chosen])),
        F.ITEM_ID: pa.LargeListArray.from_arrays(offsets, words(frame["item_id"].to_numpy(object)[rows])),
        F.GAIN: pa.LargeListArray.from_arrays(offsets, pa.array(frame["gain"].to_numpy(np.float32)[rows])),
    }
    return pa.RecordBatch.from_pydict(columns)
