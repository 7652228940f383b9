"""Which pushed version a run looks back at: by what it is and learned from, not by when it was made."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from components.common import registry
from components.common.registry import PushRecord, Reference
from components.pusher import executor as pusher
from models.retrieval import warm_start
from models.retrieval.warm_start import Weights

DAY = 86_400
UNTIL = 1_500_000_000


def record(identity="a", learned_until=None, **changes):
    fields = {
        "model": f"/gone/ServableBuilder/model/{identity}",
        "identity": identity,
        "pushed_at": "2026-11-27T12:00:00+00:00",
        "learned_until": learned_until,
        "window": (UNTIL, UNTIL + 28 * DAY),
        "baseline": None,
        "figures": {"all/ndcg@20": 0.2},
        "standing": {"all/ndcg@20": 1.0},
        "software": {},
    }
    return PushRecord(**(fields | changes))


@pytest.fixture
def base(tmp_path):
    return str(tmp_path / "serving")


def version(base, number, found=None):
    """A complete version, as Pusher leaves it."""
    folder = os.path.join(base, str(number))
    os.makedirs(os.path.join(folder, "assets.extra"))
    with open(os.path.join(folder, "saved_model.pb"), "wb") as file:
        file.write(b"graph")
    if found is not None:
        with open(os.path.join(folder, registry.RECORD), "w") as file:
            file.write(found.model_dump_json())
    return folder


def test_versions_are_read_oldest_first_and_by_number(base):
    for number in (100, 9, 20):
        version(base, number, record(str(number)))
    assert [found.version for found in registry.read(base)] == [9, 20, 100]
    assert registry.read(base)[0].record == record("9")
    assert registry.read(f"{base}/") == registry.read(base)


@pytest.mark.parametrize("kind", [registry.Line, PushRecord, registry.Pushed, Reference])
def test_what_was_recorded_does_not_change(kind):
    assert kind.model_config["frozen"]


def test_a_blessing_keeps_the_line_of_its_evaluator():
    line = registry.Line(
        figures={"auc": 0.8}, standing={"auc": 0.99}, window=(UNTIL, UNTIL + DAY), baseline="9"
    )
    blessing = standard_artifacts.ModelBlessing()
    registry.set_line(blessing, line)
    assert registry.line_of(blessing) == line


def test_no_folder_is_no_version(base):
    assert registry.read(base) == []
    assert registry.baseline([], "a") is None
    assert registry.warm_start([], UNTIL) is None


def test_what_is_not_a_whole_push_is_left_out_with_a_line(base, caplog):
    version(base, 1)  # of an earlier release
    os.remove(os.path.join(version(base, 2, record()), "saved_model.pb"))
    text = record().model_dump_json()
    for number, half in ((3, text[: len(text) // 2]), (4, "{}"), (5, "")):
        with open(os.path.join(version(base, number), registry.RECORD), "w") as file:
            file.write(half)
    version(base, 6, record())
    for name in (".7.part", "notes", "-8", "٩"):
        os.makedirs(os.path.join(base, name))
    assert [found.version for found in registry.read(base)] == [6]
    lines = [entry.getMessage() for entry in caplog.records]
    assert len(lines) == 5
    for number, why in enumerate(("no record", "not complete", "cannot be read", "cannot be read"), start=1):
        assert f"{base}/{number} is left out" in lines[number - 1]
        assert why in lines[number - 1]


def test_a_record_of_a_later_release_may_say_more(base):
    folder = version(base, 1, record())
    path = os.path.join(folder, registry.RECORD)
    with open(path) as file:
        fields = json.load(file)
    with open(path, "w") as file:
        json.dump(fields | {"country": "NL"}, file)
    assert registry.read(base)[0].record == record()


def pushed(*records):
    """The registry of these records, as versions 1, 2, ..."""
    return [
        registry.Pushed(folder=f"/serving/{number}", record=found)
        for number, found in enumerate(records, start=1)
    ]


def test_the_baseline_is_the_latest_other_model():
    line = pushed(record("a"), record("b"), record("c"))
    assert registry.baseline(line, "new").version == 3
    assert registry.baseline(line, "c").version == 2
    assert registry.baseline(line, "a").version == 3
    # a model that was pushed again is itself, however often
    assert registry.baseline(pushed(record("a"), record("b"), record("a")), "a").version == 2
    assert registry.baseline(pushed(record("a")), "a") is None


def test_a_push_does_not_change_what_its_own_run_finds():
    """The second run has the model of the first one, which is pushed by then."""
    line, runs = [], []
    for name in ("a", "b", "c"):
        first = registry.baseline(pushed(*line), name)
        line.append(record(name))
        assert registry.baseline(pushed(*line), name) == first
        runs.append(first.record.identity if first else None)
    assert runs == [None, "a", "b"]


def test_towers_start_from_the_latest_earlier_data():
    def found(*learned):
        version = registry.warm_start(
            pushed(*(record(str(number), until) for number, until in enumerate(learned))), UNTIL
        )
        return version.version if version else None

    assert found(UNTIL - 5 * DAY, UNTIL - 9 * DAY, UNTIL - DAY, UNTIL, UNTIL + DAY, None) == 3
    assert found(UNTIL - 5 * DAY, UNTIL - 9 * DAY) == 1
    assert found(UNTIL, UNTIL + DAY, None) is None
    assert found(UNTIL - DAY, UNTIL - DAY) == 2


def test_identity_is_of_the_export_and_not_of_its_place(tmp_path):
    def export(name, value):
        module = tf.Module()
        module.weight = tf.Variable(value)
        module.double = tf.function(lambda x: x * module.weight, input_signature=[tf.TensorSpec([])])
        tf.saved_model.save(module, str(tmp_path / name))
        return str(tmp_path / name)

    one, other = export("one", 1.0), export("other", 2.0)
    assert registry.identity(one) != registry.identity(other)
    serving = str(tmp_path / "serving")
    number = pusher.push(one, serving, record(registry.identity(one)))
    shutil.rmtree(one)  # the run's artifacts are gone: the version stands alone
    (found,) = registry.read(serving)
    assert registry.identity(found.folder) == found.record.identity
    assert found.version == number
    assert registry.baseline([found], found.record.identity) is None


def test_the_weights_of_a_version_say_until_when_they_learned(tmp_path):
    path = str(tmp_path / "weights.npz")
    Weights({"w": np.ones(2, np.float32)}, {}, UNTIL).save(path)
    assert warm_start.learned_until(path) == UNTIL


def test_a_reference_survives_the_way_through_a_parameter():
    reference = Reference(folder="gs://bucket/serving/17", standing={"auc": 0.99})
    assert registry.read_reference(registry.write_reference(reference)) == reference
    assert reference.version == "17"
    assert reference.weights == "gs://bucket/serving/17/assets.extra/weights.npz"
    assert registry.read_reference(registry.write_reference(None)) is None
