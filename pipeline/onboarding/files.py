"""Files as shops export them: which kind each is, its first rows and all its rows, as Arrow tables.

A file's kind is read from its first bytes, not from its name. CSV cells stay text; JSON Lines and Parquet
keep their types, nested ones too.
"""

from __future__ import annotations

import codecs
import dataclasses
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from components.common import csv_files, tables
from components.common.columns import as_strings
from schema.config import Csv
from schema.errors import DataError

SAMPLE_ROWS = 20_000
_BATCH_ROWS = 1 << 17
_CHECKED_BYTES = 1 << 28  # of a text, to find its encoding
_JSON_SAMPLE = 1 << 23  # bytes
_JSON_BLOCK = 1 << 24
_LEGACY = "cp1252"  # what spreadsheets write that do not write UTF-8


@dataclasses.dataclass(frozen=True)
class Source:
    """A file.

    Attributes:
      path: file or URL.
      kind: how its rows are stored.
      columns: names of its columns; those that are there twice are left out.
      csv: how it is written, where it is CSV.
      repeated: names of columns that are there twice.
    """

    path: str
    kind: Literal["csv", "json", "parquet"]
    columns: tuple[str, ...]
    csv: Csv = Csv()
    repeated: tuple[str, ...] = ()

    def sample(self) -> pa.Table:
        """The first rows, all columns; of an empty file none.

        Raises:
          DataError: the file cannot be read.
        """
        try:
            if self.kind == "json":
                return _json_head(self.path)
            for table in self.tables():
                # a copy: the slice alone would keep the block
                return table.take(pa.array(np.arange(min(table.num_rows, SAMPLE_ROWS))))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self.path, error) from error
        return pa.table({name: pa.array([], pa.string()) for name in self.columns})

    def tables(self, whole: bool = False) -> Iterator[pa.Table]:
        """All rows, in blocks; JSON Lines, and any file with `whole`, in one.

        Raises:
          DataError: the file cannot be read.
        """
        parts = self._parts()
        try:
            if whole:
                found = [_decoded(table) for table in parts if table.num_rows]
                if found:
                    yield together(found)
                return
            yield from (_decoded(table) for table in parts if table.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self.path, error) from error

    def _parts(self) -> Iterator[pa.Table]:
        if self.kind == "csv":
            for batch in csv_files.batches(self.path, self.columns, self.csv):
                yield pa.Table.from_batches([batch])
        elif self.kind == "json":
            with csv_files.open_unpacked(self.path) as file:
                yield pyarrow.json.read_json(
                    _stream(file), read_options=pyarrow.json.ReadOptions(block_size=_JSON_BLOCK)
                )
        else:
            with csv_files.open_raw(self.path) as file:
                for batch in pq.ParquetFile(file).iter_batches(_BATCH_ROWS):
                    yield pa.Table.from_batches([batch])


def find(paths: Sequence[str], flag: str) -> list[Source]:
    """The files behind paths, folders, patterns and URLs, opened far enough to know their columns.

    Args:
      paths: what a person typed.
      flag: the flag that they were given by, for messages.

    Raises:
      DataError: nothing is there, or a file is of a kind that cannot be read.
    """
    found = []
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(
                name
                for name in glob.glob(f"{glob.escape(path)}/**", recursive=True)
                if os.path.isfile(name) and not os.path.basename(name).startswith((".", "_"))
            )
            found += [name for name in inside if not name.lower().endswith((".md", ".pdf", ".docx", ".png"))]
            if not inside:
                raise DataError(f"{path}: the folder holds no files ({flag}); give a folder with data")
        else:
            found += tables.match(path, flag)
    return [look(path) for path in dict.fromkeys(found)]


def look(path: str) -> Source:
    """What a file is.

    Raises:
      DataError: it is empty, or of a kind that cannot be read.
    """
    try:
        with csv_files.open_raw(path) as raw:
            magic = raw.read(4)
        if magic == b"PAR1":
            with csv_files.open_raw(path) as raw:
                return Source(path, "parquet", tuple(pq.ParquetFile(raw).schema_arrow.names))
        if magic.startswith(b"PK"):
            raise DataError(f"{path}: is a zip archive or a spreadsheet; unpack it, or save the sheet as CSV")
        with csv_files.open_unpacked(path) as file:
            head = file.read(1 << 12)
        start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
        if start == b"{":
            return Source(path, "json", tuple(_json_head(path).schema.names))
        if start in (b"[", b"<"):
            what = "a JSON array: write one object a line (jq -c '.[]')" if start == b"[" else "XML or HTML"
            raise DataError(f"{path}: is {what}; give CSV, TSV, JSON Lines or Parquet")
        return _csv(path, head)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _csv(path: str, head: bytes) -> Source:
    csv = Csv(encoding=_encoding(path, head))
    layout = csv_files.layout(path, csv)
    csv = csv.model_copy(update={"separator": layout.separator})
    counts = Counter(layout.names)
    names = tuple(name for name in layout.names if counts[name] == 1 and name.strip())
    if sum(bool(re.fullmatch(r"[\d.,:TZ/ +-]+", name)) for name in layout.names) * 2 >= len(layout.names):
        raise DataError(
            f"{path}: the first line ({', '.join(layout.names)[:80]}) is no header; put one on top, such as "
            "user_id,item_id,timestamp"
        )
    try:
        next(csv_files.batches(path, names[:1], csv), None)
    except DataError:  # quotes that do not close: perhaps they are letters
        csv = csv.model_copy(update={"quote": "none"})
        next(csv_files.batches(path, names[:1], csv), None)
    repeated = tuple(name for name, count in counts.items() if count > 1)
    return Source(path, "csv", names, csv, repeated)


def _encoding(path: str, head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8)):
        return "utf-8"  # the mark says which, to the reader too
    if b"\0" in head[:64]:
        return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
    decoder = codecs.getincrementaldecoder("utf-8")()
    with csv_files.open_unpacked(path) as file:
        read = 0
        while (data := file.read(csv_files.BLOCK_BYTES)) and read < _CHECKED_BYTES:
            read += len(data)
            try:
                decoder.decode(data)
            except UnicodeDecodeError:
                return _LEGACY
    return "utf-8"


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of several files as one table; a column that is of two types in them becomes text."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        texts = [
            table.select([f.name for f in table.schema if not pa.types.is_nested(f.type)]) for table in tables
        ]
        return pa.concat_tables(
            [
                pa.table({name: as_strings(table.column(name)) for name in table.schema.names})
                for table in texts
            ],
            promote_options="default",
        )


def _decoded(table: pa.Table) -> pa.Table:
    """Columns without dictionaries and the large types that some writers use, in nested ones too."""
    plain = pa.schema([(field.name, _plain_type(field.type)) for field in table.schema])
    return table if plain.equals(table.schema.remove_metadata()) else table.cast(plain)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    t = pa.types
    if t.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if t.is_struct(kind):
        return pa.struct([(field.name, _plain_type(field.type)) for field in kind])
    if t.is_list(kind) or t.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return pa.string() if t.is_large_string(kind) or t.is_string_view(kind) else kind


def _json_head(path: str) -> pa.Table:
    with csv_files.open_unpacked(path) as file:
        head = file.read(_JSON_SAMPLE)
        rest = file.read(1)
    head = head.removeprefix(codecs.BOM_UTF8)
    if rest:
        head = head[: head.rfind(b"\n") + 1]
    options = pyarrow.json.ReadOptions(block_size=max(len(head), 1) + 1)
    return pyarrow.json.read_json(pa.BufferReader(head), read_options=options).slice(0, SAMPLE_ROWS)


def _stream(file: pa.NativeFile) -> pa.NativeFile:
    return file if isinstance(file, pa.NativeFile) else pa.PythonFile(file)


def _unreadable(path: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split())
    return DataError(f"{path}: cannot be read ({reason}); correct the file, or give another")
