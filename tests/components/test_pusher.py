"""A push is complete or it is nothing."""

import os
import time

import pytest
import tensorflow as tf

from components.common import registry
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


RECORD = registry.PushRecord(
    model="/runs/ServableBuilder/model/17",
    identity="0123456789abcdef",
    pushed_at="2026-11-27T12:00:00+00:00",
    learned_until=None,
    window=(1_500_000_000, 1_502_419_200),
    baseline=None,
    figures={"all/ndcg@20": 0.2, "auc": 0.8},
    standing={"all/ndcg@20": 1.0, "auc": 1.0},
    software={"tensorflow": "2.17"},
)


def push(model, base, weights=None):
    return executor.push(str(model), str(base), RECORD, weights)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def versions(base):
    return sorted(int(name) for name in os.listdir(base) if name.isdigit()) if base.exists() else []


def test_a_push_copies_everything_into_a_new_version(model, tmp_path):
    base = tmp_path / "deep" / "serving"
    before = int(time.time())
    version = push(model, base)
    assert before <= version <= time.time()
    assert os.listdir(base) == [str(version)]
    pushed = contents(base / str(version))
    assert registry.PushRecord.model_validate_json(pushed.pop(registry.RECORD)) == RECORD
    assert pushed == contents(model)


def test_the_weights_lie_in_the_version_and_warm_up_requests_stay(model, tmp_path):
    (tmp_path / "weights.npz").write_bytes(b"towers")
    version = push(model, tmp_path / "serving", str(tmp_path / "weights.npz"))
    extra = tmp_path / "serving" / str(version) / "assets.extra"
    assert {path.name for path in extra.iterdir()} == {
        *("tf_serving_warmup_requests", "push_record.json", "weights.npz")
    }
    assert (tmp_path / "serving" / str(version) / registry.WEIGHTS).read_bytes() == b"towers"


@pytest.mark.parametrize("broken", [False, True])
def test_in_an_object_store_the_main_file_comes_last(model, broken, monkeypatch):
    """TensorFlow's in-memory file system has no rename of folders, like a bucket."""
    base = f"ram://{model}/serving"
    order = []
    copy = tf.io.gfile.copy

    def watched(source, target, overwrite=False):
        if broken and target.endswith("variables.index"):
            raise tf.errors.UnavailableError(None, None, "the network is gone")
        copy(source, target, overwrite)
        order.append(target)
        if not target.endswith(f"{version_of(target)}/saved_model.pb"):
            assert registry.read(base) == []  # not complete yet

    def version_of(target):
        return target.removeprefix(f"{base}/").split("/")[0]

    monkeypatch.setattr(tf.io.gfile, "copy", watched)
    if broken:
        with pytest.raises(UserError, match="the network is gone"):
            push(model, base)
        assert registry.versions(base) == []
        return
    version = push(model, base)
    assert order[-1] == f"{base}/{version}/saved_model.pb"
    assert len(order) == len(contents(model))
    (found,) = registry.read(base)
    assert (found.version, found.record) == (version, RECORD)


def test_on_a_file_system_no_version_is_seen_before_it_is_whole(model, tmp_path, monkeypatch):
    """Whoever looks meanwhile, also when the push is killed half-way."""
    base = tmp_path / "serving"
    first = push(model, base)
    copy, seen = tf.io.gfile.copy, []

    def watched(source, target, overwrite=False):
        seen.append(versions(base))
        copy(source, target, overwrite)
        if killed and len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(versions(base))

    monkeypatch.setattr(tf.io.gfile, "copy", watched)
    killed = True
    with pytest.raises(KeyboardInterrupt):
        push(model, base)
    assert versions(base) == [first]
    killed = False
    second = push(model, base)
    assert versions(base) == [first, second]
    assert len(seen) > 2 * len(contents(model))
    assert all(found == [first] for found in seen)


def test_on_a_file_system_a_version_appears_in_one_step(model, tmp_path, monkeypatch):
    base = tmp_path / "serving"
    copy, seen = tf.io.gfile.copy, []

    def watched(source, target, overwrite=False):
        copy(source, target, overwrite)
        seen.append(versions(base))

    monkeypatch.setattr(tf.io.gfile, "copy", watched)
    version = push(model, base)
    assert seen == [[]] * 4  # until the last file is there, no server sees a folder
    assert versions(base) == [version]


@pytest.mark.parametrize("slash", ["", "/"])
def test_versions_only_grow(model, tmp_path, slash):
    base = tmp_path / "serving"
    pushed = [push(f"{model}{slash}", f"{base}{slash}") for _ in range(3)]
    assert pushed == sorted(set(pushed)) == versions(base)
    (base / "99999999999").mkdir()  # a clock that ran ahead
    (base / "not a version").mkdir()
    assert push(model, base) == 100000000000


def test_what_a_killed_push_left_is_no_part_of_the_next_one(model, tmp_path):
    base = tmp_path / "serving"
    (base / "99999999999").mkdir(parents=True)  # a clock that ran ahead: numbers no longer follow the time
    left = base / ".100000000000.part"
    (left / "variables").mkdir(parents=True)
    (left / "variables" / "variables.index").write_bytes(b"of another model")
    (left / "assets").mkdir()
    (left / "assets" / "old.txt").write_bytes(b"a vocabulary that the graph would find")
    assert push(model, base) == 100000000000
    pushed = contents(base / "100000000000")
    del pushed[registry.RECORD]
    assert pushed == contents(model)


def test_a_failure_leaves_no_version(model, tmp_path):
    base = tmp_path / "serving"
    first = push(model, base)
    (model / "saved_model.pb").unlink()
    with pytest.raises(UserError, match="cannot be pushed .*; check the path and its rights"):
        push(model, base)
    assert versions(base) == [first]
    assert os.listdir(base) == [str(first)]  # nor half a copy


def test_a_failure_in_the_middle_of_the_copy(model, tmp_path):
    base = tmp_path / "serving"
    (model / "variables" / "variables.data").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="cannot be pushed"):
        push(model, base)
    assert versions(base) == []


def test_a_missing_model(tmp_path):
    with pytest.raises(UserError, match="cannot be pushed"):
        push(tmp_path / "none", tmp_path / "serving")
    assert versions(tmp_path / "serving") == []


def test_a_destination_that_is_a_file(model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=f"{tmp_path / 'file'}: the model cannot be pushed"):
        push(model, tmp_path / "file")
