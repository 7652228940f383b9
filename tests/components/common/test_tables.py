"""Reading and checking shop tables; every error is one line with file, row, key and what to do."""

import datetime as dt
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.common import tables
from components.common.columns import (
    as_strings,
    deserialize,
    partition_by,
    ranked_codes,
    serialize,
    to_micros,
)
from components.common.tables import Chunk, Role
from schema.errors import DataError

USER = Role("user_id", "household_id", "events.columns.user_id", "id")
TIME = Role("timestamp", "ts", "events.columns.timestamp", "timestamp")
QUANTITY = Role("quantity", "qty", "events.columns.quantity", "number")
STORE = Role("context_store", "store", "events.context.store", "category", required=False)


def chunk(first_row=0, **columns):
    return Chunk(pa.RecordBatch.from_pydict(columns), "shop/events.parquet", 0, first_row)


def read_all(path, roles, batch_rows=tables.BATCH_ROWS):
    units = tables.open_table(str(path), "events.path", roles)
    return [c for unit in units for c in tables.read(unit, roles, batch_rows)]


def test_missing_file_names_key():
    with pytest.raises(DataError, match=r"^/nowhere/e.parquet: no such file \(events.path\); correct"):
        tables.open_table("/nowhere/e.parquet", "events.path", [USER])


def test_unknown_suffix(tmp_path):
    (tmp_path / "events.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"events.xlsx: unknown kind of file; give .parquet or .csv"):
        tables.open_table(str(tmp_path / "events.xlsx"), "events.path", [USER])


def test_broken_parquet(tmp_path):
    (tmp_path / "e.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(DataError, match=r"e.parquet: cannot be read \(.*\); correct the file") as caught:
        tables.open_table(str(tmp_path / "e.parquet"), "events.path", [USER])
    assert "\n" not in str(caught.value)


def test_missing_column_lists_columns():
    schema = pa.schema([("household", pa.int64()), ("ts", pa.int64())])
    wanted = (
        r"e.parquet: column 'household_id' \(events.columns.user_id\) is missing; columns are household, ts$"
    )
    with pytest.raises(DataError, match=wanted):
        tables.check_schema(schema, "e.parquet", [TIME, USER])


@pytest.mark.parametrize(
    ("role", "found", "wanted"),
    [
        (TIME, pa.string(), "a timestamp, a date or integer unix seconds"),
        (TIME, pa.float64(), "a timestamp"),
        (QUANTITY, pa.string(), "a number"),
        (QUANTITY, pa.bool_(), "a number"),
        (USER, pa.float64(), "an integer or string id"),
        (USER, pa.decimal128(10, 2), "an integer or string id"),
        (STORE, pa.list_(pa.string()), "text or a number"),
        (Role("time", "week", "exposures.time.column", "period"), pa.string(), "an integer"),
    ],
)
def test_wrong_type(role, found, wanted):
    with pytest.raises(
        DataError, match=rf"column '{role.column}' \({role.key}\) has type {re.escape(str(found))}.*{wanted}"
    ) as e:
        tables.check_schema(pa.schema([(role.column, found)]), "e.parquet", [role])
    assert "name another column or convert" in str(e.value)


@pytest.mark.parametrize(
    ("role", "found"),
    [
        (TIME, pa.timestamp("ns")),
        (TIME, pa.timestamp("ms", "Europe/Zurich")),
        (TIME, pa.date32()),
        (TIME, pa.int32()),
        (QUANTITY, pa.float32()),
        (USER, pa.dictionary(pa.int32(), pa.string())),
        (USER, pa.large_string()),
        (STORE, pa.float64()),
        (USER, pa.null()),
        (USER, pa.decimal128(38, 0)),
        (QUANTITY, pa.decimal128(10, 2)),
        (STORE, pa.decimal128(10, 2)),
    ],
)
def test_right_type(role, found):
    tables.check_schema(pa.schema([(role.column, found)]), "e.parquet", [role])


@pytest.mark.parametrize(
    ("values", "row", "count"), [([1.0, float("nan"), None], "102", "2"), ([None, 2.0, 3.0], "101", "1")]
)
def test_missing_value_names_first_row_and_count(values, row, count):
    data = chunk(100, quantity=pa.array(values, pa.float64()))
    wanted = (
        rf"events.parquet: column 'qty' \(events.columns.quantity\) has no value \(null or NaN\) in "
        rf"row {row}, {count} times in rows 101 to 103; remove or fill"
    )
    with pytest.raises(DataError, match=wanted):
        tables.check_values(data, [QUANTITY])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_an_empty_id_is_missing(kind):
    ids = pa.array(["a", "", None, "b"])
    ids = ids.dictionary_encode() if pa.types.is_dictionary(kind) else ids.cast(kind)
    with pytest.raises(DataError, match="has no value .* in row 2, 2 times"):
        tables.check_values(chunk(user_id=ids), [USER])


def test_decimals_are_numbers_and_ids(tmp_path):
    from decimal import Decimal

    path = tmp_path / "e.parquet"
    ids = pa.array([Decimal(7), Decimal(8)], pa.decimal128(38, 0))
    price = pa.array([Decimal("1.50"), None], pa.decimal128(10, 2))
    pq.write_table(pa.table({"household_id": ids, "qty": price, "store": price}), path)
    (found,) = read_all(path, [USER, QUANTITY, STORE])
    columns = [as_strings(found.batch.column(name)).to_pylist() for name in ("user_id", "context_store")]
    assert columns == [["7", "8"], ["1.50", None]]
    assert found.batch.column("quantity").to_pylist() == [1.5, None]


def test_optional_role_may_be_missing():
    tables.check_values(chunk(context_store=pa.array([None, "a"])), [STORE])


def test_times_of_every_type_are_utc_microseconds():
    moment = dt.datetime(2017, 12, 4, 4, 1, 20, tzinfo=dt.UTC)
    seconds = int(moment.timestamp())
    naive = moment.replace(tzinfo=None)
    arrays = [
        pa.array([seconds]),
        pa.array([naive], pa.timestamp("ns")),
        pa.array([naive], pa.timestamp("s")),
        pa.array([moment], pa.timestamp("ms", "America/New_York")),
    ]
    for array in arrays:
        assert to_micros(chunk(timestamp=array), TIME).tolist() == [seconds * 1_000_000]
    day = to_micros(chunk(timestamp=pa.array([naive.date()])), TIME)
    assert day.tolist() == [(seconds - 4 * 3600 - 80) * 1_000_000]


def test_milliseconds_are_refused():
    data = chunk(timestamp=pa.array([1_512_360_080, 1_512_360_080_000]))
    with pytest.raises(
        DataError, match=r"'ts' \(events.columns.timestamp\) is 1512360080000 in row 2: too large"
    ):
        to_micros(data, TIME)


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (pa.array([7, 10**15, None]), ["7", "1000000000000000", None]),
        (pa.array([7.0, float("nan"), None]), ["7", None, None]),
        (pa.array([float("nan")]), [None]),
        (pa.array([0.5, 2.0]), ["0.5", "2"]),
        (pa.array(["b", None, "b"]).dictionary_encode(), ["b", None, "b"]),
        (pa.array(["é"], pa.large_string()), ["é"]),
        (pa.array([True]), ["true"]),
    ],
)
def test_as_strings(array, wanted):
    found = as_strings(array)
    assert found.type == pa.string()
    assert found.to_pylist() == wanted


def test_ranked_codes_sort_like_strings():
    values = ["10", "9", "a", "10", "B", "é", "9"]
    codes, names = ranked_codes(pa.array(values))
    assert names.to_pylist() == sorted(set(values))
    assert [names[int(c)].as_py() for c in codes] == values


def test_parts_keep_rows_and_agree_between_types():
    ids = np.random.default_rng(3).integers(0, 50, 400)
    batch = pa.RecordBatch.from_pydict({"id": ids, "row": np.arange(400)})
    parts = dict(partition_by(batch, "id", 5))
    assert len(parts) == 5
    assert sorted(row for part in parts.values() for row in part.column("row").to_pylist()) == list(
        range(400)
    )
    text = pa.RecordBatch.from_pydict({"id": as_strings(batch.column("id")), "row": batch.column("row")})
    for number, part in partition_by(text, "id", 5):
        assert part.column("row").to_pylist() == parts[number].column("row").to_pylist()
        assert part.column("row").to_pylist() == sorted(part.column("row").to_pylist())


def test_serialize_round_trip_of_dictionaries():
    parts = [
        pa.RecordBatch.from_pydict({"x": pa.array(v).dictionary_encode()}) for v in (["a", "b"], ["c", "a"])
    ]
    table = deserialize([serialize(part) for part in parts])
    assert table.column("x").to_pylist() == ["a", "b", "c", "a"]


def test_duplicated_id_names_rows_in_order():
    role = Role("item_id", "product_id", "items.item_id", "id")
    ids = pa.array(["5", "7", "5", "8", "7"])
    keys = np.array([4, 3, 9, 1, 6])  # shuffled rows: 7 comes first, in row 4
    with pytest.raises(
        DataError, match=r"items.csv: 'product_id' \(items.item_id\) 7 is in rows 4 and 7 \(1 more"
    ):
        tables.check_unique(ids, keys, ["items.csv"], role)
    tables.check_unique(pa.array(["5", "7"]), np.array([0, 1]), ["items.csv"], role)


def test_parquet_chunks_know_their_rows(tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"household_id": range(25), "qty": [1.0] * 25}), path, row_group_size=10)
    chunks = read_all(path, [USER, QUANTITY], batch_rows=4)
    assert [c.first_row for c in chunks] == [0, 4, 8, 10, 14, 18, 20, 24]
    assert chunks[3].batch.schema.names == ["user_id", "quantity"]
    assert np.concatenate([c.row_keys() for c in chunks]).tolist() == list(range(25))


def test_two_roles_may_share_a_column(tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"brand": ["x", "y"]}), path)
    roles = [
        Role("text_brand", "brand", "items.text[0]", "category"),
        Role("b", "brand", "items.brand", "category"),
    ]
    (found,) = read_all(path, roles)
    assert [as_strings(column).to_pylist() for column in found.batch.columns] == [["x", "y"]] * 2


def test_empty_parquet(tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"household_id": pa.array([], pa.int64())}), path)
    with pytest.raises(DataError, match=r"e.parquet: the file has no rows \(events.path\); give"):
        tables.open_table(str(path), "events.path", [USER])


@pytest.mark.parametrize("text", ["", "household_id\n"])
def test_empty_csv(tmp_path, text):
    path = tmp_path / "e.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"e.csv: (the file has no rows|cannot be read)"):
        read_all(path, [USER])


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_csv_keeps_ids_as_written(tmp_path, delimiter):
    path = tmp_path / "e.csv"
    rows = [
        ["household_id", "ts", "qty"],
        ["007", "2017-01-01 11:53:26", "1"],
        ["8", "2017-01-02 00:00:00", ""],
    ]
    path.write_text("\n".join(delimiter.join(row) for row in rows) + "\n")
    (found,) = read_all(path, [USER, TIME, QUANTITY])
    assert found.batch.column("user_id").to_pylist() == ["007", "8"]
    assert to_micros(found, TIME)[0] == 1483271606 * 1_000_000
    with pytest.raises(DataError, match="in row 2, 1 times"):
        tables.check_values(found, [QUANTITY])


def test_csv_wrong_type(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("household_id,ts\n1,yesterday\n")
    with pytest.raises(
        DataError, match=r"'ts' \(events.columns.timestamp\) is 'yesterday' in row 1; expected"
    ):
        read_all(path, [USER, TIME])


def test_gzipped_csv_and_patterns(tmp_path):
    import gzip

    for day in (2, 1):
        with gzip.open(tmp_path / f"e-{day}.csv.gz", "wt") as file:
            file.write(f"household_id,ts\nu{day},{day}\n")
    found = read_all(tmp_path / "e-*.csv.gz", [USER, TIME])
    assert [c.batch.column("user_id").to_pylist() for c in found] == [["u1"], ["u2"]]
    assert found[1].row_keys().tolist() == [1 << 40]
    assert tables.row_of_key(found[1].row_keys()[0]) == 1
