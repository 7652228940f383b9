"""CSV files as shops write them: right rows, or one line that says where and what to do."""

import csv
import gzip
import io
import random
import time

import pyarrow as pa
import pytest

from components.common import csv_files, tables
from components.common.tables import Role
from schema.config import Csv
from schema.errors import DataError

ID = Role("item_id", "id", "items.item_id", "id")
TITLE = Role("text_title", "title", "items.text[0]", "category", required=False)
COUNT = Role("quantity", "count", "events.columns.quantity", "number", required=False)
TIME = Role("timestamp", "ts", "events.columns.timestamp", "timestamp")
WEEK = Role("time", "week", "exposures.time.column", "period")


def read(path, roles=(ID, TITLE), **settings):
    """All rows as tuples, chunk after chunk."""
    units = tables.open_table(str(path), "items.path", roles, Csv(**settings))
    chunks = [chunk for unit in units for chunk in tables.read(unit, roles)]
    return [row for c in chunks for row in zip(*(x.to_pylist() for x in c.batch.columns), strict=True)]


def write(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    """Files of a few kilobytes have several blocks."""
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(csv_files, "_CELL_BYTES", 4 * 4096)


@pytest.mark.parametrize("seed", range(6))
def test_any_quoted_text_is_read_as_written(tmp_path, small_blocks, seed):
    rng = random.Random(seed)
    text = lambda: "".join(rng.choice('ab é,;\n"\r\t') for _ in range(rng.randrange(40)))  # noqa: E731
    rows = [(str(n), text() or "x") for n in range(2000)]
    out = io.StringIO(newline="")
    csv.writer(out, quoting=rng.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])).writerows(
        [("id", "title"), *rows]
    )
    assert read(write(tmp_path, out.getvalue())) == rows


def test_line_breaks_in_a_file_above_the_block_size(tmp_path):
    rows = [(str(n), f"line\nbreak {n}" + "x" * (n % 400)) for n in range(90_000)]
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("id", "title"), *rows])
    assert len(out.getvalue()) > csv_files.BLOCK_BYTES
    assert read(write(tmp_path, out.getvalue())) == rows


UNQUOTED = 'id\ttitle\n1\tTea\n2\t"Organic Milk\n3\tBread\n4\t19" screen\n5\t"Soft" cheese\n6\tRice\n'


def test_a_file_without_quoting(tmp_path):
    path = write(tmp_path, UNQUOTED, "t.tsv")
    with pytest.raises(
        DataError, match=r"t.tsv: a cell in line 3 begins with a quote .*data.csv.quote to none"
    ):
        read(path)
    titles = ["Tea", '"Organic Milk', "Bread", '19" screen', '"Soft" cheese', "Rice"]
    assert read(path, quote="none") == [(str(n + 1), title) for n, title in enumerate(titles)]


@pytest.mark.parametrize("rest", ["3,Bread\n", "3,Bread\n" * 20_000])
def test_a_quote_that_is_never_closed(tmp_path, small_blocks, rest):
    with pytest.raises(DataError, match=r"t.csv: a cell in line 3 begins with a quote"):
        read(write(tmp_path, 'id,title\n1,Tea\n2,"Milk\n' + rest))


@pytest.mark.parametrize(("rows", "line"), [("1,Tea\n", 3), ("", 2)])
def test_the_quote_is_named_when_the_parser_gives_up_first(tmp_path, small_blocks, monkeypatch, rows, line):
    def slowly(text, size, read=csv_files._Utf8._read):
        time.sleep(0.02)  # the parser has seen two blocks of the cell before the third is read
        return read(text, size)

    monkeypatch.setattr(csv_files._Utf8, "_read", slowly)
    with pytest.raises(DataError, match=rf"t.csv: a cell in line {line} begins with a quote"):
        read(write(tmp_path, f'id,title\n{rows}2,"Milk\n' + "3,Bread\n" * 20_000))


def test_quotes_inside_a_cell_are_letters(tmp_path, small_blocks):
    rows = [(str(n), f'{n}" screen') for n in range(3000)]
    assert read(write(tmp_path, "id,title\n" + "".join(f"{i},{t}\n" for i, t in rows))) == rows


def test_words_are_words_and_null_words_are_set(tmp_path):
    path = write(tmp_path, 'id,title,count\nNA,NA,NA\nnull,"NA",null\n3,,\n4,"",""\n5,n/a,2\n')
    roles = (ID, TITLE, COUNT)
    wanted = [
        ("NA", "NA", None),
        ("null", "NA", None),
        ("3", None, None),
        ("4", None, None),
        ("5", "n/a", 2.0),
    ]
    assert read(path, roles) == wanted
    assert [row[1] for row in read(path, roles, null_words=["NA", "n/a"])] == [None, "NA", None, None, None]


@pytest.mark.parametrize(
    ("role", "name", "first", "last", "wanted"),
    [
        (COUNT, "count", "1", "1.5", 1.5),
        (COUNT, "count", "", "7", 7.0),
        (TIME, "ts", "2026-01-02 03:04:05", "2026-01-02 03:04:05.250", None),
        (TIME, "ts", "2026-01-02", "2026-01-02T03:04:05", None),
    ],
)
def test_a_type_holds_for_the_whole_file(tmp_path, small_blocks, role, name, first, last, wanted):
    lines = "".join(f"{n},{first}\n" for n in range(3000))
    found = read(write(tmp_path, f"id,{name}\n{lines}3000,{last}\n"), (ID, role))
    assert len(found) == 3001
    if wanted is None:
        assert found[-1][1] > found[0][1]
        assert found[-1][1].isoformat().startswith(last.replace(" ", "T"))
    else:
        assert found[-1][1] == wanted


def test_times_with_and_without_offset(tmp_path):
    path = write(tmp_path, "ts\n2026-01-02T03:04:05Z\n2026-01-02T03:04:05+02:00\n")
    (late,), (early,) = read(path, (TIME,))
    assert (late - early).total_seconds() == 7200


@pytest.mark.parametrize(
    ("role", "cells", "bad", "row", "wanted"),
    [
        (COUNT, ["1", "2", "1,5"], "1,5", 3, "a number"),
        (WEEK, ["1", "2.5", "x"], "2.5", 2, "an integer"),
        (TIME, ["1512360080", "yesterday"], "yesterday", 2, "a timestamp, a date or integer unix seconds"),
        (TIME, ["2026-01-02", "2026-01-02 04:05", "01.02.2026"], "01.02.2026", 3, "a timestamp"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(tmp_path, role, cells, bad, row, wanted):
    path = write(tmp_path, f"{role.column};id\n" + "".join(f"{cell};1\n" for cell in cells))
    with pytest.raises(
        DataError, match=rf"t.csv: column '{role.column}' .* is '{bad}' in row {row}; expected {wanted}"
    ):
        read(path, (ID, role))


def test_row_numbers_go_on_over_blocks(tmp_path, small_blocks):
    path = write(tmp_path, "id,count\n" + "1,2\n" * 5000 + "1,two\n")
    with pytest.raises(DataError, match="'two' in row 5,001"):
        read(path, (ID, COUNT))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252", "latin-1"])
def test_encodings(tmp_path, small_blocks, encoding):
    rows = [(str(n), f"Käse, crème {n}") for n in range(500)]
    text = "id\ttitle\r\n" + "".join(f"{i}\t{t}\r\n" for i, t in rows)
    path = write(tmp_path, text.encode(encoding))
    marked = encoding in ("utf-8-sig", "utf-16")  # a byte order mark says it all
    assert read(path, **({} if marked else {"encoding": encoding})) == rows


def test_an_unknown_encoding_is_named_with_its_line(tmp_path):
    content = "id,title\n1,Tea\n2,Käse\n".encode("latin-1")
    with pytest.raises(
        DataError, match=r"t.csv: line 3 is not in utf-8 \(byte 0xe4\); save .*data.csv.encoding"
    ):
        read(write(tmp_path, content))
    with pytest.raises(DataError, match=r"t.csv: is no UTF-8 text \(UTF-16.*data.csv.encoding"):
        read(write(tmp_path, "id,title\n1,Tea\n".encode("utf-16-le")))
    with pytest.raises(ValueError, match="no encoding that Python knows"):
        Csv(encoding="utf-99")


@pytest.mark.parametrize(
    "text",
    [
        'sep=;\r\n"id";"title"\r\n"1";"a, b"\r\n',
        '"id";"x, y, z";"title"\n1;2;"a, b"\n',
        "id|title\n1|a, b\n",
        '\ufeff"id","title"\n"1","a, b"\n',
        '"id","title","two\nlines;;;"\n1,"a, b",2\n',
    ],
)
def test_headers(tmp_path, text):
    assert read(write(tmp_path, text)) == [("1", "a, b")]


def test_a_separator_may_be_set(tmp_path):
    assert read(write(tmp_path, "id^title\n1^a,b\n"), separator="^") == [("1", "a,b")]


def test_a_column_that_is_there_twice(tmp_path):
    path = write(tmp_path, "id,title,title\n1,a,b\n")
    with pytest.raises(DataError, match=r"t.csv: column 'title' \(items.text\[0\]\) is there 2 times"):
        read(path)
    assert read(write(tmp_path, "id,x,x,title\n1,2,3,a\n")) == [("1", "a")]  # nobody reads x


@pytest.mark.parametrize("name", ["t.csv.gz", "T.CSV.GZ", "t.csv"])
@pytest.mark.parametrize("packed", [True, False])
def test_gzip_by_content(tmp_path, name, packed):
    text = "id,title\n1,Tea\n"
    assert read(write(tmp_path, gzip.compress(text.encode()) if packed else text, name)) == [("1", "Tea")]


@pytest.mark.parametrize("name", ["t.csv.zst", "t.csv"])
def test_zstd_by_content(tmp_path, name):
    packed = pa.compress(b"id,title\n1,Tea\n", "zstd", asbytes=True)
    assert read(write(tmp_path, packed, name)) == [("1", "Tea")]


def test_a_truncated_file_is_named(tmp_path):
    text = "id,title\n" + "".join(f"{n},{random.Random(n).random()}\n" for n in range(20_000))
    path = write(tmp_path, gzip.compress(text.encode())[:-4000], "t.csv.gz")
    with pytest.raises(DataError, match=r"t.csv.gz: cannot be read \(.*\); correct the file"):
        read(path)


def test_a_row_of_too_many_cells_is_named(tmp_path):
    with pytest.raises(DataError, match=r"t.csv: cannot be read \(.*#3: Expected 2 columns, got 3"):
        read(write(tmp_path, "id,title\n1,Tea\n2,Milk, fresh\n"))
