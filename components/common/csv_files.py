"""CSV files of any encoding, separator and quoting as record batches of strings, and these as typed columns.

Every cell is read as text and converted by the use of its column, so that no type is guessed from the
first rows, and a cell that does not fit is named with its row.
"""

import codecs
import csv as standard_csv
import dataclasses
import io
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from schema.config import Csv
from schema.errors import DataError

BLOCK_BYTES = 1 << 24
_CELL_BYTES = 4 * BLOCK_BYTES  # no quoted cell is longer
_HEAD_BYTES = 1 << 16
_DELIMITERS = ",\t;|"
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
#: Words for "no value" in columns of numbers and times, where they can be nothing else.
_NULL_WORDS = pa.array(["", "NA", "N/A", "n/a", "#N/A", "#NA", "NULL", "null", "NaN", "nan", "-nan", "-NaN"])
_TYPES = {
    "number": (pa.float64(),),
    "period": (pa.int64(),),
    # Whole numbers are seconds. Arrow parses a text with and one without an offset as different types.
    "timestamp": (
        pa.int64(),
        pa.timestamp("us"),
        pa.timestamp("us", "UTC"),
        pa.timestamp("ns"),
        pa.timestamp("ns", "UTC"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a file is laid out.

    Attributes:
      names: the header's columns.
      separator: the character between cells.
      skip: lines before the header (Excel's `sep=;`).
    """

    names: list[str]
    separator: str
    skip: int


def open_raw(path: str) -> Any:
    """A file or URL as stored, seekable."""
    if "://" in path:
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return pa.OSFile(path)


def layout(path: str, csv: Csv) -> Layout:
    """Reads a file's header.

    Raises:
      DataError: an empty file, a column name that is there twice, an unknown encoding.
    """
    with open_unpacked(path) as file:
        text = _Utf8(file, path, csv, None).read(_HEAD_BYTES).decode("utf-8", "ignore")
    skip = 0
    separator = csv.separator
    if found := re.match(r"sep=(.)\r?\n", text, re.IGNORECASE):
        skip, separator = 1, separator or found[1]
        text = text[found.end() :]
    text = text.lstrip("\r\n")  # empty lines are no rows
    if not text.strip():
        raise DataError(f"{path}: the file has no rows; give a file with data")
    quote = None if csv.quote == "none" else csv.quote
    if separator is None:
        outside = re.sub(f"{quote}[^{quote}]*{quote}", "", text) if quote else text
        separator = max(_DELIMITERS, key=re.split(r"[\r\n]", outside, maxsplit=1)[0].count)
    quoting = standard_csv.QUOTE_MINIMAL if quote else standard_csv.QUOTE_NONE
    rows = standard_csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, quotechar=quote, quoting=quoting
    )
    return Layout(next(rows), separator, skip)


def batches(path: str, columns: Sequence[str], csv: Csv) -> Iterator[pa.RecordBatch]:
    """The rows of a file, in blocks of about 16 MiB, each column as strings.

    An empty cell, or one of `csv.null_words` without quotes, is null.

    Raises:
      DataError: a line that is not in the encoding, or quotes that do not close where a cell ends.
      pa.ArrowException: rows of another number of cells than the header.
      OSError: a broken or truncated file.
    """
    found = layout(path, csv)
    quote = None if csv.quote == "none" else csv.quote
    with open_unpacked(path) as file:
        text = _Utf8(file, path, csv, found.separator)
        try:
            reader = pyarrow.csv.open_csv(
                pa.PythonFile(text, "r"),
                read_options=pyarrow.csv.ReadOptions(
                    block_size=BLOCK_BYTES, skip_rows=found.skip, use_threads=False
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=found.separator, quote_char=quote or False, newlines_in_values=quote is not None
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()),
                    include_columns=list(columns),
                    null_values=["", *csv.null_words],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            for batch in reader:
                # An empty cell in quotes is as empty as one without.
                yield pa.RecordBatch.from_arrays(
                    [
                        pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
                        for column in batch.columns
                    ],
                    names=batch.schema.names,
                )
        except pa.ArrowInvalid as error:
            # Arrow reads ahead in a thread of its own: whether it gives up on the row without an end, or the
            # check of quotes sees it first, is chance. The check's message says what to do.
            if "straddling" in str(error):
                text.check_rest()
            raise


def convert(array: pa.StringArray, kind: str) -> tuple[pa.Array | None, int]:
    """A column of text as its use needs it.

    Args:
      array: strings [rows].
      kind: of :class:`components.common.tables.Role`; ids and categories stay text.

    Returns:
      The column (float64, int64 or timestamps) and 0; or None and the first row that does not fit.
    """
    if kind not in _TYPES:
        return array, 0
    text = pc.utf8_trim_whitespace(array)
    text = pc.if_else(pc.is_in(text, _NULL_WORDS), pa.scalar(None, pa.string()), text)
    worst = 0
    for kind_of_value in _TYPES[kind]:
        try:
            return text.cast(kind_of_value), 0
        except pa.ArrowInvalid:
            worst = max(worst, _first_unfit(text, kind_of_value))
    return None, worst


def _first_unfit(text: pa.StringArray, wanted: pa.DataType) -> int:
    """Index of the first string that is no `wanted`; there is one."""
    low, high = 0, len(text)  # text[:low] fits, text[:high] does not
    while high - low > 1:
        middle = (low + high) // 2
        try:
            text.slice(low, middle - low).cast(wanted)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def open_unpacked(path: str) -> Any:
    """A file's content, decompressed where it is gzip or zstd, however the file is named."""
    file = open_raw(path)
    start = file.read(4)
    file.seek(0)
    for magic, codec in _PACKED.items():
        if start.startswith(magic):
            stream = file if isinstance(file, pa.NativeFile) else pa.PythonFile(file)
            return pa.CompressedInputStream(stream, codec)
    return file


class _Utf8(io.RawIOBase):
    """A file as UTF-8 without a byte order mark, and a check of its quotes.

    Args:
      file: bytes.
      path: for messages.
      csv: encoding and quote.
      separator: the character between cells; None checks no quotes.
    """

    def __init__(self, file: Any, path: str, csv: Csv, separator: str | None) -> None:
        super().__init__()
        self._file, self._path, self._csv = file, path, csv
        self._decoder: codecs.IncrementalDecoder | None = None
        self._lines = 0
        self._quotes = None
        self._reading = threading.Lock()
        self._fault: DataError | None = None
        if separator and csv.quote != "none":
            self._quotes = _Quotes(path, csv.quote, separator)

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes of the file, which may be more or fewer in UTF-8; empty at its end."""
        with self._reading:
            if self._fault:
                raise self._fault
            try:
                return self._read(size)
            except DataError as error:
                self._fault = error
                raise

    def check_rest(self) -> None:
        """Reads on to the end.

        Raises:
          DataError: what is wrong there, or was before.
        """
        while self.read():
            pass

    def _read(self, size: int) -> bytes:
        while True:
            data = self._file.read(size if size and size > 0 else BLOCK_BYTES)
            if self._decoder is None:
                data = self._begin(data)
            text = self._decode(data)
            if self._quotes:
                self._quotes.check(text, final=not data)
            if text or not data:
                return text

    def _begin(self, data: bytes) -> bytes:
        """Finds the encoding; the data without a byte order mark."""
        encoding = self._csv.encoding
        for mark, name in _BOMS:
            if data.startswith(mark):
                encoding, data = name, data[len(mark) :]
                break
        else:
            if b"\0" in data[:64] and codecs.lookup(encoding).name == "utf-8":
                raise DataError(
                    f"{self._path}: is no UTF-8 text (UTF-16 without a byte order mark?); save it as UTF-8 "
                    "or set data.csv.encoding (utf-16-le)"
                )
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._plain = codecs.lookup(encoding).name == "utf-8"
        return data

    def _decode(self, data: bytes) -> bytes:
        assert self._decoder is not None
        try:
            text = self._decoder.decode(data, final=not data).encode("utf-8")
        except UnicodeDecodeError as error:
            line = self._lines + error.object[: error.start].count(b"\n") + 1
            raise DataError(
                f"{self._path}: line {line:,} is not in {error.encoding} (byte 0x"
                f"{error.object[error.start]:02x}); save the file as UTF-8, or set data.csv.encoding to what "
                "it is in (cp1252, latin-1)"
            ) from None
        self._lines += text.count(b"\n")
        return text


class _Quotes:
    """Checks that each cell that begins with a quote also ends with one.

    Parsers read on to the next quote, wherever it is: in a file written without quoting, a title that
    begins with a quote would swallow the rows behind it.
    """

    def __init__(self, path: str, quote: str, separator: str) -> None:
        mark, ends = re.escape(quote.encode()), re.escape(separator.encode())
        self._path = path
        self._mark = quote.encode()
        # Cells in quotes that lie side by side are one match; its group is the last one, if it is not closed
        # or if nothing is behind it.
        text = b"%b(?:[^%b]++|%b%b)*+" % (mark, mark, mark, mark)
        self._cells = re.compile(
            b"(?<![^%b\r\n])(?=%b)(?:%b%b[%b\r\n])*+(%b%b?)?" % (ends, mark, text, mark, ends, text, mark)
        )
        self._pending = b"\n"  # what is undecided, behind one byte of what is decided
        self._lines = 0  # of what is decided

    def check(self, data: bytes, final: bool) -> None:
        """Checks the next bytes of a file.

        Raises:
          DataError: names the line in which the cell begins.
        """
        buffer = self._pending + data
        start = len(buffer) - 1
        if self._mark in buffer:
            for cells in self._cells.finditer(buffer):
                if cells[1] is None:
                    continue
                begin = cells.start(1)
                at_end = cells.end() == len(buffer)
                if not final and at_end and len(cells[1]) <= _CELL_BYTES:
                    start = begin - 1
                    break
                closed = at_end and _is_closed(cells[1], self._mark)
                if not closed:
                    line = self._lines + buffer[1:begin].count(b"\n") + 1
                    raise DataError(
                        f"{self._path}: a cell in line {line:,} begins with a quote but ends with none; "
                        "set data.csv.quote to none if the file is written without quoting, or correct it"
                    )
        self._lines += buffer[1 : start + 1].count(b"\n")
        context = buffer[start : start + 1]
        self._pending = (b"x" if context == self._mark else context) + buffer[start + 1 :]


def _is_closed(cell: bytes, mark: bytes) -> bool:
    """Whether a cell that begins with a quote ends with one: quotes inside are doubled."""
    return cell.count(mark) % 2 == 0
