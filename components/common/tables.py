"""Shop tables (Parquet, CSV; local or any Beam file system) as Arrow record batches.

Everything is done on whole columns; no function here loops over rows. The checks are pure
functions of Arrow schemas and arrays, and every error is one line that names the file, the
column, the configuration key and the row. Rows are counted from 1, without a CSV's header.
"""

import dataclasses
import glob
import os
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.common import csv_files
from schema.config import Csv
from schema.errors import DataError

BATCH_ROWS = 1 << 18
_FILES = (pa.ArrowException, OSError)  # OSError is what Arrow raises for a truncated file
_WRITTEN = Csv()
_WANTED = {
    "id": "an integer or string id",
    "category": "text or a number",
    "timestamp": "a timestamp, a date or integer unix seconds",
    "number": "a number",
    "period": "an integer (the number of the period)",
}


@dataclasses.dataclass(frozen=True)
class Role:
    """A source column and what it is used as.

    Attributes:
      name: the role (``user_id``); the column's name after reading.
      column: the source column.
      key: the configuration key that names the column, for messages.
      kind: ``id`` and ``category`` become strings, ``timestamp`` is a timestamp, a date or
        integer unix seconds, ``number`` is numeric, ``period`` is an integer.
      required: a missing value (null or NaN) is an error.
      advice: what to do about missing values, for the message.
    """

    name: str
    column: str
    key: str
    kind: Literal["id", "category", "timestamp", "number", "period"]
    required: bool = True
    advice: str = "remove or fill these rows"


@dataclasses.dataclass(frozen=True)
class Unit:
    """A piece of a table that one worker reads: a Parquet row group or a whole CSV file."""

    path: str
    file_index: int
    row_group: int | None
    first_row: int
    csv: Csv = Csv()


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Rows of one file, columns named by role.

    Attributes:
      batch: the rows.
      path: the file.
      file_index: its place in the sorted list of the table's files.
      first_row: rows of the file before this chunk.
    """

    batch: pa.RecordBatch
    path: str
    file_index: int
    first_row: int

    def row_keys(self) -> np.ndarray:
        """int64 [rows]; unique over the table and ascending in file and row order."""
        return (self.file_index << 40) + self.first_row + np.arange(self.batch.num_rows, dtype=np.int64)

    def where(self, index: int) -> str:
        """The position of a row of this chunk, for messages."""
        return f"row {self.first_row + index + 1:,}"


def row_of_key(row_key: int) -> int:
    """The row number (from 1) that a value of :meth:`Chunk.row_keys` stands for."""
    return (int(row_key) & ((1 << 40) - 1)) + 1


def match(pattern: str, key: str) -> list[str]:
    """The files of a table, sorted.

    Args:
      pattern: a file, URL or glob pattern.
      key: the configuration key that names it, for messages.

    Raises:
      DataError: no file matches.
    """
    if "://" in pattern:
        from apache_beam.io.filesystems import FileSystems

        paths = [item.path for item in FileSystems.match([pattern])[0].metadata_list]
    else:
        # A path that is a file is meant, even if it looks like a pattern.
        paths = [pattern] if os.path.isfile(pattern) else [p for p in glob.glob(pattern) if os.path.isfile(p)]
    if not paths:
        named = f" ({key})" if key else ""
        raise DataError(f"{pattern}: no such file{named}; correct the path or data.root in the configuration")
    return sorted(paths)


def open_table(pattern: str, key: str, roles: Sequence[Role], csv: Csv = _WRITTEN) -> list[Unit]:
    """Finds a table's files and checks the columns and types of each before a row is read.

    Args:
      pattern: a file, URL or glob pattern.
      key: the configuration key that names it.
      roles: the columns to read.
      csv: how CSV files are written.

    Returns:
      What to read, in file order.

    Raises:
      DataError: no file, an unreadable file, an empty table, a missing or wrongly typed column.
    """
    units = []
    for index, path in enumerate(match(pattern, key)):
        if _is_csv(path):
            check_schema(_csv_schema(path, csv), path, roles)
            units.append(Unit(path, index, None, 0, csv))
            continue
        metadata, schema = _parquet_footer(path)
        check_schema(schema, path, roles)
        first = 0
        for group in range(metadata.num_row_groups):
            units.append(Unit(path, index, group, first))
            first += metadata.row_group(group).num_rows
        if first == 0:
            raise DataError(f"{path}: the file has no rows ({key}); give a file with data")
    return units


def read(unit: Unit, roles: Sequence[Role], batch_rows: int = BATCH_ROWS) -> Iterator[Chunk]:
    """Reads a unit as chunks of at most `batch_rows` rows, one column a role.

    Args:
      unit: from :func:`open_table`.
      roles: the columns to read; several roles may share a source column.
      batch_rows: upper limit of rows in a Parquet chunk (CSV comes in 16 MiB blocks).

    Raises:
      DataError: a file that cannot be decoded.
    """
    first = unit.first_row
    try:
        for batch in _batches(unit, roles, batch_rows):
            if batch.num_rows == 0:
                continue
            arrays = [_plain(batch.column(role.column), role) for role in roles]
            if unit.row_group is None:
                arrays = [
                    _converted(array, role, unit.path, first)
                    for array, role in zip(arrays, roles, strict=True)
                ]
            named = pa.RecordBatch.from_arrays(arrays, names=[role.name for role in roles])
            yield Chunk(named, unit.path, unit.file_index, first)
            first += batch.num_rows
    except _FILES as error:
        raise _unreadable(unit.path, error) from error
    if first == 0 and unit.row_group is None:
        raise DataError(f"{unit.path}: the file has no rows; give a file with data")


def check_schema(schema: pa.Schema, path: str, roles: Sequence[Role]) -> None:
    """Checks that every role's column exists and has a type that fits.

    Raises:
      DataError: names the file, the column, the configuration key and what to do.
    """
    for role in roles:
        if role.column not in schema.names:
            names = ", ".join(schema.names)
            raise DataError(f"{path}: column '{role.column}' ({role.key}) is missing; columns are {names}")
        if (times := schema.names.count(role.column)) > 1:
            raise DataError(
                f"{path}: column '{role.column}' ({role.key}) is there {times} times; "
                "rename or remove the others"
            )
        found = schema.field(role.column).type
        wanted = _mismatch(found, role.kind)
        if wanted:
            raise DataError(
                f"{path}: column '{role.column}' ({role.key}) has type {found}; expected {wanted}: "
                "name another column or convert this one"
            )


def check_values(chunk: Chunk, roles: Sequence[Role]) -> None:
    """Checks that no required role has a missing value (null, NaN, an empty id) in these rows.

    Raises:
      DataError: names the file, the column, the first row and how many rows of the chunk.
    """
    for role in roles:
        if role.required:
            check_present(chunk, role)


def check_present(chunk: Chunk, role: Role, where: pa.BooleanArray | None = None) -> None:
    """Checks that a role has a value in these rows, or in those of them that `where` marks.

    Raises:
      DataError: as :func:`check_values`.
    """
    column = chunk.batch.column(role.name)
    missing = pc.is_null(column, nan_is_null=True)
    if role.kind == "id" and not pa.types.is_null(column.type) and not pa.types.is_integer(column.type):
        missing = pc.or_(missing, pc.fill_null(is_empty(column), False))
    if where is not None:
        missing = pc.and_(missing, pc.fill_null(where, False))
    count = missing.true_count
    if count:
        row = chunk.where(pc.index(missing, True).as_py())
        last = chunk.first_row + chunk.batch.num_rows
        raise DataError(
            f"{chunk.path}: column '{role.column}' ({role.key}) has no value (null or NaN) in {row}, "
            f"{count:,} times in rows {chunk.first_row + 1:,} to {last:,}; {role.advice}"
        )


def check_unique(ids: pa.Array, row_keys: np.ndarray, files: Sequence[str], role: Role) -> None:
    """Checks that an id names one row.

    Args:
      ids: strings [rows].
      row_keys: int64 [rows], :meth:`Chunk.row_keys`.
      files: the table's files by index.
      role: the id's role, for the message.

    Raises:
      DataError: names the first duplicated id in row order and its rows.
    """
    codes = ids.dictionary_encode().indices.to_numpy()
    counts = np.bincount(codes)
    if not len(counts) or counts.max() == 1:
        return
    duplicated = np.flatnonzero(counts[codes] > 1)
    first = duplicated[np.argmin(row_keys[duplicated])]
    keys = np.sort(row_keys[codes == codes[first]])
    rows = " and ".join(f"{row_of_key(key):,}" for key in keys[:5])
    path = files[int(keys[0]) >> 40]
    others = int((counts > 1).sum()) - 1
    also = f" ({others:,} more ids are repeated in this part of the table)" if others else ""
    raise DataError(
        f"{path}: '{role.column}' ({role.key}) {ids[int(first)].as_py()} is in rows {rows}{also}; "
        "keep one row for each id"
    )


def _mismatch(found: pa.DataType, kind: str) -> str | None:
    """What the kind wants, where the type does not fit; else None."""
    t = pa.types
    value = found.value_type if t.is_dictionary(found) else found
    text = t.is_string(value) or t.is_large_string(value)
    fits = {
        "id": t.is_integer(value) or text or (t.is_decimal(value) and value.scale == 0),
        "category": text
        or t.is_integer(value)
        or t.is_floating(value)
        or t.is_boolean(value)
        or t.is_decimal(value),
        "timestamp": t.is_timestamp(found) or t.is_date(found) or t.is_integer(found),
        "number": t.is_integer(found) or t.is_floating(found) or t.is_decimal(found),
        "period": t.is_integer(found),
    }[kind]
    # A column without any value has Arrow's null type: check_values says what is wrong with it.
    return None if fits or t.is_null(found) else _WANTED[kind]


def _is_csv(path: str) -> bool:
    name = path.lower().removesuffix(".gz").removesuffix(".zst")
    if name.endswith((".parquet", ".pq")):
        return False
    if name.endswith((".csv", ".tsv", ".txt", ".inter", ".item", ".user")):
        return True
    raise DataError(f"{path}: unknown kind of file; give .parquet or .csv (.tsv, .csv.gz)")


def _batches(unit: Unit, roles: Sequence[Role], batch_rows: int) -> Iterator[pa.RecordBatch]:
    columns = sorted({role.column for role in roles})
    if unit.row_group is None:
        yield from csv_files.batches(unit.path, columns, unit.csv)
        return
    # Low-cardinality strings stay dictionary encoded: the promotions' locations are 20.9 M one-letter
    # strings otherwise.
    categories = [role.column for role in roles if role.kind == "category"]
    with csv_files.open_raw(unit.path) as file:
        reader = pq.ParquetFile(file, read_dictionary=categories)
        yield from reader.iter_batches(batch_rows, row_groups=[unit.row_group], columns=columns)


def _plain(array: pa.Array, role: Role) -> pa.Array:
    """Decimals as floats (numbers) or integers (ids)."""
    if not pa.types.is_decimal(array.type) or role.kind == "category":
        return array
    return array.cast(pa.float64() if role.kind == "number" else pa.int64())


def is_empty(column: pa.Array) -> pa.Array:
    """Booleans [rows]: the id is a text of no letters; null where the id is."""
    if pa.types.is_dictionary(column.type):
        return is_empty(column.dictionary).take(column.indices)
    return pc.equal(column.cast(pa.string()), "")


def _converted(array: pa.StringArray, role: Role, path: str, first_row: int) -> pa.Array:
    found, unfit = csv_files.convert(array, role.kind)
    if found is None:
        raise DataError(
            f"{path}: column '{role.column}' ({role.key}) is '{array[unfit].as_py()}' in row "
            f"{first_row + unfit + 1:,}; expected {_WANTED[role.kind]}: correct this cell or "
            "name another column"
        )
    return found


def _parquet_footer(path: str) -> tuple[pq.FileMetaData, pa.Schema]:
    try:
        with csv_files.open_raw(path) as file:
            reader = pq.ParquetFile(file)
            return reader.metadata, reader.schema_arrow
    except _FILES as error:
        raise _unreadable(path, error) from error


def _csv_schema(path: str, csv: Csv) -> pa.Schema:
    """The header's columns, whose types are known when all rows have been read."""
    try:
        return pa.schema([(name, pa.null()) for name in csv_files.layout(path, csv).names])
    except _FILES as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split())
    return DataError(f"{path}: cannot be read ({reason}); correct the file or the key that names it")
