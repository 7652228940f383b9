"""tf.Examples as Arrow columns, both ways."""

import numpy as np
import pyarrow as pa
import pytest

from models.data import example_io
from schema.errors import DataError
from tests.shops.tiny_shop import record_batch

ROWS = {
    "name": [["a", "b"], [], ["é"]],
    "number": [[1], [2, 3], []],
    "share": [[], [0.5], [1.5, 2.5]],
}


@pytest.fixture
def folder(tmp_path):
    assert example_io.write_records(str(tmp_path / "Split-x"), [record_batch(ROWS)]) == 3
    return str(tmp_path / "Split-x")


def test_what_is_written_is_read(folder):
    table = example_io.read_table(folder)
    assert example_io.flat(table, "name").tolist() == ["a", "b", "é"]
    assert example_io.lengths(table, "name").tolist() == [2, 0, 1]
    assert example_io.first(table, "name", "none").tolist() == ["a", "none", "é"]
    assert example_io.flat(table, "number").tolist() == [1, 2, 3]
    assert example_io.first(table, "number", -1).tolist() == [1, 2, -1]
    np.testing.assert_array_equal(example_io.flat(table, "share"), [0.5, 1.5, 2.5])
    assert example_io.lengths(table, "share").tolist() == [0, 1, 2]


def test_splits_follow_each_other_in_the_order_given(folder, tmp_path):
    example_io.write_records(str(tmp_path / "Split-y"), [record_batch({"number": [[9], [8]]})])
    table = example_io.read_table([str(tmp_path / "Split-y"), folder], ["number", "name"])
    assert table.schema.names == ["number", "name"]
    assert example_io.first(table, "number", 0).tolist() == [9, 8, 1, 2, 0]
    assert example_io.first(table, "name", "").tolist() == ["", "", "a", "", "é"]


def test_several_files_and_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(example_io, "_READ_BATCH", 2)
    for part in range(2):
        rows = [[part * 10 + i] if i % 4 else [] for i in range(5)]
        example_io.write_records(str(tmp_path), [record_batch({"n": rows, "s": [["x"]] * 5})], f"part{part}")
    table = example_io.read_table(str(tmp_path))
    assert example_io.lengths(table, "n").tolist() == [0, 1, 1, 1, 0] * 2
    assert example_io.flat(table, "n").tolist() == [1, 2, 3, 11, 12, 13]


def test_a_feature_without_any_value_reads_as_empty(tmp_path):
    columns = {"name": pa.array([["a"], ["b"]], pa.large_list(pa.string()))}
    columns["gone"] = pa.array([[], []], pa.large_list(pa.int64()))
    columns["name"] = columns["name"].cast(pa.large_list(pa.large_binary()))
    example_io.write_records(str(tmp_path), [pa.RecordBatch.from_pydict(columns)])
    table = example_io.read_table(str(tmp_path))
    for missing in ("gone", "never heard of"):
        assert len(example_io.flat(table, missing)) == 0
        assert example_io.lengths(table, missing).tolist() == [0, 0]
        assert example_io.first(table, missing, 7).tolist() == [7, 7]


def test_an_empty_split_is_an_empty_table(tmp_path):
    assert example_io.write_records(str(tmp_path), []) == 0
    table = example_io.read_table(str(tmp_path))
    assert table.num_rows == 0
    assert example_io.flat(table, "x").tolist() == []


def test_missing_split_says_what_there_is(folder):
    root = folder.removesuffix("/Split-x")
    assert example_io.split_folder(root, "x") == folder
    with pytest.raises(DataError, match=r"no split 'y'; it has \['Split-x'\]"):
        example_io.split_folder(root, "y")
    with pytest.raises(DataError, match="no TFRecord file"):
        example_io.read_table(root + "/Split-y")
