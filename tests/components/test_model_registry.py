"""BaselineModel and WarmStartModel in TFX's own local runner: what they find, and what they re-run."""

import shutil

import pytest
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.types import standard_artifacts

from components.common import registry
from components.common.windows import Windows
from components.model_registry import executor
from pipeline import record as run_record
from schema.config import Split
from tests.components import registry_pipeline
from tests.components.registry_pipeline import SETTINGS
from tests.shops.tiny_shop import DAY, START

NODES = {"Sessions", "WarmStartModel", "Trainer", "BaselineModel", "Judge", "Pusher"}


class Runs:
    """Runs of the pipeline in one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.nodes = {}

    def go(self, **settings):
        """Names of the components that did not come from the cache."""
        LocalDagRunner().run(registry_pipeline.create(self.folder, **settings))
        self.nodes = run_record.read_run(self.folder / "metadata.sqlite").nodes
        assert set(self.nodes) == NODES
        assert {node.state for node in self.nodes.values()} <= {"COMPLETE", "CACHED"}
        return {name for name, node in self.nodes.items() if node.state == "COMPLETE"}

    def found(self, name):
        """What one of the registry's nodes says."""
        return self.nodes[name].first("version").properties["summary"]

    def versions(self):
        return registry.read(str(self.folder / "serving"))


def test_the_line_of_a_shop(tmp_path):
    runs = Runs(tmp_path)
    assert runs.go() == NODES
    assert {runs.found(name) for name in ("BaselineModel", "WarmStartModel")} == {"no earlier model"}
    (first,) = runs.versions()
    assert (first.record.baseline, first.record.standing) == (None, {"auc": 1.0})
    assert first.record.model == runs.nodes["Trainer"].first("model").uri

    # the push of the first run must not change what the second one finds
    assert runs.go() == set()
    assert len(runs.versions()) == 1

    # another model of the same data: compared with the first, and not started from it
    assert runs.go(layers="large") == {"Trainer", "BaselineModel", "Judge", "Pusher"}
    assert runs.found("BaselineModel") == f"pushed version {first.version}"
    second = runs.versions()[1]
    assert (second.record.baseline, second.record.standing) == (str(first.version), {"auc": 0.985})
    assert runs.go(layers="large") == set()

    # later data: the towers start from the last of the models that learned from earlier ones
    assert runs.go(days=158, layers="large") == NODES
    assert runs.nodes["Trainer"].first("model").properties["started_from"] == str(second.version)
    third = runs.versions()[2]
    assert third.record.learned_until == second.record.learned_until + 28 * DAY
    assert third.record.standing == {"auc": pytest.approx(0.985**2)}
    assert runs.go(days=158, layers="large") == set()

    # the earlier data again: nothing is trained anew, and the later model is no start for it
    assert runs.go(layers="large") == {"BaselineModel", "Judge", "Pusher"}
    assert runs.found("WarmStartModel") == "no earlier model"
    assert runs.found("BaselineModel") == f"pushed version {third.version}"

    # without the artifacts of the runs, the versions still say everything
    shutil.rmtree(tmp_path / "artifacts")
    (tmp_path / "metadata.sqlite").unlink()
    assert runs.go(days=186) == NODES
    assert runs.found("WarmStartModel") == f"pushed version {third.version}"
    assert runs.found("BaselineModel") == f"pushed version {runs.versions()[3].version}"


def asked(serving, evaluate_on):
    """(version that a run would start from, until when its towers learn)."""
    sessions = standard_artifacts.Examples()
    for name, day in (("train_end", 100), ("eval_end", 115), ("data_end", 130)):
        sessions.set_int_custom_property(name, START + day * DAY)
    settings = SETTINGS.model_copy(update={"split": Split(evaluate_on=evaluate_on)})
    until = Windows.of(sessions, settings.split).label_starts(settings.ranking)[0]
    properties = {"destination": str(serving), "config": settings.to_json()}
    found = executor.WarmStartExecutor.ask({"raw_sessions": [sessions]}, properties)
    return found and found.version, until


def test_a_run_on_the_validation_window_does_not_start_from_one_on_the_test_window(tmp_path):
    tested, validated = (asked(tmp_path, name)[1] for name in ("test", "eval"))
    assert (tested, validated) == (START + 105 * DAY, START + 90 * DAY)
    for version, until in ((1, tested), (2, validated)):
        record = registry.PushRecord(
            **{"model": "/gone", "identity": "a", "pushed_at": "", "learned_until": until},
            **{"window": (1, 2), "baseline": None, "figures": {}, "standing": {}, "software": {}},
        )
        (tmp_path / str(version) / "assets.extra").mkdir(parents=True)
        (tmp_path / str(version) / "saved_model.pb").write_bytes(b"graph")
        (tmp_path / str(version) / registry.RECORD).write_text(record.model_dump_json())
    assert asked(tmp_path, "eval")[0] is None
    assert asked(tmp_path, "test")[0] == "2"


@pytest.mark.parametrize("driven", [True, False])
def test_the_executor_asks_where_no_driver_did(tmp_path, driven):
    """Kubeflow runs no driver of ours."""
    model, version = standard_artifacts.Model(), standard_artifacts.String()
    model.uri, version.uri = str(tmp_path / "model"), str(tmp_path / "deep" / "version")
    (tmp_path / "model" / "Format-Serving").mkdir(parents=True)
    (tmp_path / "model" / "Format-Serving" / "saved_model.pb").write_bytes(b"graph")
    properties = {"destination": str(tmp_path / "serving")}
    if driven:
        told = registry.Reference(folder="/serving/17", standing={"auc": 0.99})
        properties["answer"] = registry.write_reference(told)
    executor.BaselineExecutor().Do({"model": [model]}, {"version": [version]}, properties)
    assert registry.read_reference(version.read()) == (told if driven else None)
    summary = version.get_string_custom_property("summary")
    assert summary == ("pushed version 17" if driven else "no earlier model")
