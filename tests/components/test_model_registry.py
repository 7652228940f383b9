"""BaselineModel and WarmStartModel in TFX's own local runner: what they find, and what they re-run."""

import shutil

import pytest
from tfx.orchestration.local.local_dag_runner import LocalDagRunner

from components.common import registry
from components.model_registry import executor
from pipeline.run import record as run_record
from tests.components import registry_pipeline

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
    assert third.record.learned_until == second.record.learned_until + 28 * registry_pipeline.DAY
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


@pytest.mark.parametrize("driven", [True, False])
def test_the_executor_asks_where_no_driver_did(tmp_path, driven):
    """Kubeflow runs no driver of ours."""
    from tfx.types import standard_artifacts

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
