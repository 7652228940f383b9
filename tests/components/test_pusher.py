"""A push is complete or it is nothing."""

import os
import time

import pytest

from components.pusher import executor
from schema.errors import UserError


@pytest.fixture
def model(tmp_path):
    """Files as a SavedModel has them; a file deeper down also bears the main file's name."""
    files = {
        "saved_model.pb": b"graph",
        "variables/variables.index": b"index",
        "assets.extra/tf_serving_warmup_requests": b"warm",
        "assets/saved_model.pb": b"a vocabulary",
    }
    for name, content in files.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "model"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def versions(base):
    return sorted(int(name) for name in os.listdir(base) if name.isdigit()) if base.exists() else []


def test_a_push_copies_everything_into_a_new_version(model, tmp_path):
    base = tmp_path / "deep" / "serving"
    before = int(time.time())
    version = executor.push(str(model), str(base))
    assert before <= version <= time.time()
    assert os.listdir(base) == [str(version)]
    assert contents(base / str(version)) == contents(model)


@pytest.mark.parametrize("slash", ["", "/"])
def test_versions_only_grow(model, tmp_path, slash):
    base = tmp_path / "serving"
    pushed = [executor.push(str(model) + slash, str(base) + slash) for _ in range(3)]
    assert pushed == sorted(set(pushed)) == versions(base)
    (base / "99999999999").mkdir()  # a clock that ran ahead
    (base / "not a version").mkdir()
    assert executor.push(str(model), str(base)) == 100000000000


def test_a_failure_leaves_no_version(model, tmp_path):
    base = tmp_path / "serving"
    first = executor.push(str(model), str(base))
    (model / "saved_model.pb").unlink()
    with pytest.raises(UserError, match="cannot be pushed .*; check the path and its rights"):
        executor.push(str(model), str(base))
    assert versions(base) == [first]
    assert os.listdir(base) == [str(first)]  # nor half a copy


def test_a_failure_in_the_middle_of_the_copy(model, tmp_path):
    base = tmp_path / "serving"
    (model / "variables" / "variables.data").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="cannot be pushed"):
        executor.push(str(model), str(base))
    assert versions(base) == []


def test_a_missing_model(tmp_path):
    with pytest.raises(UserError, match="cannot be pushed"):
        executor.push(str(tmp_path / "none"), str(tmp_path / "serving"))
    assert versions(tmp_path / "serving") == []


def test_a_destination_that_is_a_file(model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=f"{tmp_path / 'file'}: the model cannot be pushed"):
        executor.push(str(model), str(tmp_path / "file"))
