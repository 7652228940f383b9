"""Any table that is written as CSV reads back the same, and any bytes give rows or a named error."""

import csv
import datetime as dt
import gzip
import io
import math

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from components.common import csv_files
from schema.config import Csv
from schema.errors import DataError
from tests.properties import drawn, outcome

NAMES = ["id", "title", "price"]
# NUL marks UTF-16 where it comes early; half of a surrogate pair is no character of any file
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
TRICKY = st.text(st.sampled_from("\"',;|\t\r\n ax=£"), max_size=6)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]


def written(rows, separator, quote, quoting, encoding, line_end):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quotechar=quote, quoting=quoting, lineterminator=line_end)
    writer.writerow(NAMES)
    writer.writerows(rows)
    return text.getvalue().encode(encoding)


def read(path, settings, columns=NAMES):
    found = list(csv_files.batches(str(path), columns, settings))
    return [tuple(row.values()) for batch in found for row in batch.to_pylist()]


@drawn(50)
@given(
    rows=st.lists(st.tuples(TEXT | TRICKY, TEXT | TRICKY, TRICKY), max_size=5),
    separator=st.sampled_from(",\t;|"),
    told=st.booleans(),
    quote=st.sampled_from(["'", '"']),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(ENCODINGS),
    line_end=st.sampled_from(["\n", "\r\n"]),
    packed=st.booleans(),
)
@example([("a\rb", "\n", '"')], ",", False, '"', csv.QUOTE_ALL, "utf-16", "\n", True)
def test_what_is_written_is_read(tmp_path, rows, separator, told, quote, quoting, encoding, line_end, packed):
    if quoting == csv.QUOTE_MINIMAL and line_end == "\n":  # Python's writer puts no quotes around \r then
        rows = [[cell.replace("\r", "") for cell in row] for row in rows]
    if encoding == "cp1252":
        rows = [[cell.encode(encoding, "ignore").decode(encoding) for cell in row] for row in rows]
    content = written(rows, separator, quote, quoting, encoding, line_end)
    path = tmp_path / "table.csv"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    settings = Csv(
        quote=quote,
        separator=separator if told else None,
        encoding={"utf-8-sig": "utf-8", "utf-16": "utf-8"}.get(encoding, encoding),
    )
    assert csv_files.layout(str(path), settings).names == NAMES
    expected = [tuple(cell or None for cell in row) for row in rows]
    assert read(path, settings) == expected
    assert read(path, settings, ["price", "id"]) == [(row[2], row[0]) for row in expected]


@drawn(80)
@given(
    content=st.binary(max_size=40)
    | st.lists(
        st.sampled_from(
            [b"a", b"1", b",", b";", b'"', b'""', b"'", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xe9"]
        )
        | st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"sep=;\n", b" "]),
        max_size=16,
    ).map(b"".join),
    settings=st.builds(
        Csv,
        quote=st.sampled_from(['"', "'", "none"]),
        separator=st.sampled_from([None, ",", ";", "a"]),
        encoding=st.sampled_from(["utf-8", "cp1252", "utf-16-le", "ascii", "gb18030"]),
    ),
)
def test_any_bytes_give_rows_or_an_error_that_names_the_file(tmp_path, content, settings):
    path = tmp_path / "table.csv"
    path.write_bytes(content)

    def read_all():
        names = csv_files.layout(str(path), settings).names
        return names, read(path, settings, names)

    # `tables` puts the file's name in front of Arrow's errors and the system's
    found, error = outcome(read_all, (DataError, pa.ArrowException, OSError))
    if error is None:
        names, rows = found
        assert all(len(row) == len(set(names)) for row in rows)
    elif isinstance(error, DataError):
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)


FITTING = {
    "number": st.floats(allow_nan=False).map(repr) | st.integers(-(2**53), 2**53).map(str),
    "period": st.integers(-(2**63), 2**63 - 1).map(str),
    "timestamp": st.datetimes(min_value=dt.datetime(1678, 1, 1)).map(
        lambda moment: moment.replace(microsecond=0).isoformat(" ")
    ),
}
EMPTY = st.sampled_from(["", " ", "NA", "null", "NaN"])


@drawn(50)
@given(
    kind=st.sampled_from(sorted(FITTING)),
    data=st.data(),
    wrong=st.sampled_from([None, "x", "1 2", "--1", "2026-02-30", "1e", "é"]),
)
def test_a_column_is_converted_or_its_first_wrong_row_is_named(kind, data, wrong):
    texts = data.draw(st.lists(FITTING[kind] | EMPTY, min_size=1, max_size=12))
    if wrong is not None:
        place = data.draw(st.integers(0, len(texts)))
        texts.insert(place, wrong)
    column, row = csv_files.convert(pa.array(texts, pa.string()), kind)
    if wrong is not None:
        assert (column, row) == (None, place)
        return
    assert row == 0
    empty = [text.strip() in ("", "NA", "null", "NaN") for text in texts]
    assert [value is None for value in column.to_pylist()] == empty
    if kind != "timestamp":
        expected = [
            None if none else {"number": float, "period": int}[kind](text)
            for text, none in zip(texts, empty, strict=True)
        ]
        assert all(
            found == wanted or math.isclose(found, wanted, rel_tol=1e-15)
            for found, wanted in zip(column.to_pylist(), expected, strict=True)
        )
    else:
        moments = column.cast(pa.timestamp("s")).to_pylist()
        assert [None if none else text for text, none in zip(texts, empty, strict=True)] == [
            moment and moment.isoformat(" ") for moment in moments
        ]
