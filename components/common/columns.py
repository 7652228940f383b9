"""Columns as the components need them: coerced to strings, times and codes, divided by id, carried by Beam.

Everything is done on whole columns, as in `components.common.tables`.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.tables import Chunk, Role
from schema.errors import DataError

MICROS = 1_000_000
DAY_MICROS = 86_400 * MICROS
_LAST_SECOND = 253_402_300_799  # 9999-12-31; larger integers are milli- or microseconds


def to_micros(chunk: Chunk, role: Role) -> np.ndarray:
    """The role's times as int64 [rows] microseconds since 1970 UTC.

    Naive timestamps and dates are taken as UTC, integers as unix seconds.

    Raises:
      DataError: integers too large for seconds.
    """
    array = chunk.batch.column(role.name)
    if pa.types.is_integer(array.type):
        seconds = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
        too_large = seconds > _LAST_SECOND
        if too_large.any():
            index = int(too_large.argmax())
            raise DataError(
                f"{chunk.path}: column '{role.column}' ({role.key}) is {seconds[index]} in "
                f"{chunk.where(index)}: too large for unix seconds; "
                "divide it (milliseconds?) or store it as a timestamp"
            )
        return seconds * MICROS
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"))
    timezone = array.type.tz
    # `safe=False`: nanoseconds are cut, not refused.
    return (
        array.cast(pa.timestamp("us", timezone), safe=False).cast(pa.int64()).to_numpy(zero_copy_only=False)
    )


def as_strings(array: pa.Array) -> pa.StringArray:
    """Any scalar column as UTF-8 strings: integers as decimals, whole floats without a point.

    Nulls and NaN stay null. Dictionaries are decoded.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        return as_strings(array.dictionary).take(array.indices)
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_floating(array.type):
        # A column of integers with gaps arrives as floats ("69.0"): the ids are integers.
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        whole = pc.all(pc.equal(pc.floor(array), array)).as_py()
        if whole is None or whole:
            array = array.cast(pa.int64())
    return array.cast(pa.string())


def as_ids(array: pa.Array) -> pa.Array:
    """An id column as int64 or, where it is not of integers, as UTF-8 strings.

    Integers stay numbers because they group faster; :func:`deserialize` brings files of both together.
    """
    if pa.types.is_integer(array.type) and array.type != pa.uint64():
        return array.cast(pa.int64())
    return as_strings(array)


def ranked_codes(array: pa.Array) -> tuple[np.ndarray, pa.StringArray]:
    """Codes of strings in sorted order, so that sorting codes sorts the strings.

    Args:
      array: strings without nulls, [rows].

    Returns:
      int64 codes [rows] and the sorted distinct values that they index.
    """
    encoded = array.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()], encoded.dictionary.take(pa.array(order))


def md5_of(values: pa.StringArray) -> list[tuple[str, str]]:
    """(md5 digest, value) of each string: the order of users in a deterministic sample."""
    return [(hashlib.md5(v.encode(), usedforsecurity=False).hexdigest(), v) for v in values.to_pylist()]


def partition_by(batch: pa.RecordBatch, column: str, partitions: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Splits rows by a hash of an id's string form; row order inside a part is kept.

    Args:
      batch: rows.
      column: an id column without nulls (integers or strings).
      partitions: number of parts, at most 32,767.

    Yields:
      (part, its rows), parts without rows left out. An id is in the same part on every
      machine and in every table, whether stored as integer or string.
    """
    import pandas as pd

    encoded = batch.column(column).dictionary_encode()
    names = as_strings(encoded.dictionary).to_numpy(zero_copy_only=False)
    part_of_id = (pd.util.hash_array(names, categorize=False) % np.uint64(partitions)).astype(np.int16)
    parts = part_of_id[encoded.indices.to_numpy()]
    order = np.argsort(parts, kind="stable")
    bounds = np.searchsorted(parts[order], np.arange(partitions + 1))
    table = batch.take(pa.array(order))
    for part in range(partitions):
        if bounds[part] < bounds[part + 1]:
            yield part, table.slice(bounds[part], bounds[part + 1] - bounds[part])


def serialize(batch: pa.RecordBatch) -> bytes:
    """A record batch as LZ4-compressed Arrow IPC: what a Beam shuffle carries."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def deserialize(parts: Sequence[bytes]) -> pa.Table:
    """One table of the batches that :func:`serialize` made.

    A column that is not of one type in all of them becomes strings.
    """
    tables = [pa.ipc.open_stream(part).read_all() for part in parts]
    for index, name in enumerate(tables[0].schema.names):
        if len({table.schema.field(index).type for table in tables}) > 1:
            tables = [table.set_column(index, name, as_strings(table.column(index))) for table in tables]
    return pa.concat_tables(tables)


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """A table as one record batch."""
    return pa.RecordBatch.from_arrays(
        [column.combine_chunks() if column.num_chunks != 1 else column.chunk(0) for column in table.columns],
        schema=table.schema,
    )
