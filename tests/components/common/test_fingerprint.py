"""The cache keys change with the data and the code, and with nothing else."""

import os
import sys

import pytest

from components.common.fingerprint import code_version, data_version
from schema.errors import DataError


def test_data_version_changes_with_size_and_time(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("a\n")
    os.utime(path, (1, 1))
    first = data_version([str(path)])
    assert data_version([str(path)]) == first
    assert data_version({"events.path": str(path)}) == first
    os.utime(path, (2, 2))
    second = data_version([str(path)])
    path.write_text("ab\n")
    os.utime(path, (2, 2))
    assert len({first, second, data_version([str(path)])}) == 3


def test_data_version_sees_new_files_of_a_pattern(tmp_path):
    (tmp_path / "e-1.csv").write_text("a\n")
    first = data_version([str(tmp_path / "e-*.csv")])
    (tmp_path / "e-2.csv").write_text("a\n")
    assert data_version([str(tmp_path / "e-*.csv")]) != first


def test_data_version_names_key_of_missing_file():
    with pytest.raises(
        DataError, match=r"^/nowhere/items.csv: no such file \(items.path\); correct the path or data"
    ):
        data_version({"items.path": "/nowhere/items.csv"})


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "shelfwise_probe"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "inner" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "inner" / "work.py").write_text("x = 1\n")
    (folder / "other.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop("shelfwise_probe", None)


def test_code_version_follows_only_the_named_sources(package):
    names = ("shelfwise_probe.inner", "shelfwise_probe.other")
    first = code_version(*names)
    assert code_version(*reversed(names)) == first
    (package / "unrelated.py").write_text("y = 1\n")
    assert code_version(*names) == first
    (package / "inner" / "work.py").write_text("x = 2\n")
    second = code_version(*names)
    (package / "other.py").write_text("z = 1\n")
    assert len({first, second, code_version(*names)}) == 3


def test_code_version_of_unknown_module():
    with pytest.raises(ModuleNotFoundError, match="code_version: 'components.nothing'"):
        code_version("components.nothing")
