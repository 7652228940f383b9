"""Which nodes a refreshed index re-uses, and from which run."""

import json

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.proto.orchestration import pipeline_pb2

from pipeline.run import refresh
from schema.errors import UserError

NODES = ["CatalogExampleGen", "EventSchema", "RetrievalTrainer", "CandidateIndex", "Pusher"]
REBUILT = {"CatalogExampleGen", "CandidateIndex", "Pusher"}
SETTINGS = {
    "retrieval": {"epochs": 2},
    "candidates": {"min_events": 10, "two_tower": 300},
    "items": {"path": "products.parquet", "item_id": "product_id"},
    "exposures": None,
}


@pytest.fixture
def path(tmp_path):
    """A store with four runs: pushed, pushed, not blessed, and stopped before its end."""
    make_store(tmp_path / "metadata.sqlite", [(NODES, 1), (NODES, 1), (NODES, 0), (NODES[:3], 0)])
    return tmp_path / "metadata.sqlite"


def make_store(path, runs):
    """Runs of (components, whether pushed). In one of (..., "refresh") the towers are those of the first run,
    in an execution as TFX's partial runs write it: without the configuration.
    """
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = metadata_store.MetadataStore(config)
    types = {n: store.put_context_type(mlmd.ContextType(name=n)) for n in ("pipeline_run", "node")}
    artifact_type = store.put_artifact_type(mlmd.ArtifactType(name="PushedModel"))
    towers = None
    for run, (names, pushed) in enumerate(runs, start=1):
        for name in names:
            kind = store.put_execution_type(mlmd.ExecutionType(name=f"components.{name}"))
            execution = mlmd.Execution(type_id=kind, last_known_state=mlmd.Execution.COMPLETE)
            pairs = []
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            artifact = mlmd.Artifact(type_id=artifact_type)
            if name == "RetrievalTrainer":
                refreshed = pushed == "refresh"
                if not refreshed:
                    execution.custom_properties["config"].string_value = json.dumps(SETTINGS)
                event.path.steps.add(key="model")
                pairs = [(store.get_artifacts_by_id([towers])[0] if refreshed else artifact, event)]
            if name == "Pusher":
                artifact.custom_properties["pushed"].int_value = int(bool(pushed))
                event.path.steps.add(key="pushed_model")
                pairs = [(artifact, event)]
            contexts = [
                mlmd.Context(type_id=types["pipeline_run"], name=f"run-{run}"),
                mlmd.Context(type_id=types["node"], name=f"shop.{name}"),
            ]
            _, made, _ = store.put_execution(execution, pairs, contexts, reuse_context_if_already_exist=True)
            if name == "RetrievalTrainer" and towers is None:
                (towers,) = made


def compiled(nodes=NODES, **changes):
    """A compiled pipeline; `changes` replace whole sections of RetrievalTrainer's configuration."""
    pipeline = pipeline_pb2.Pipeline()
    for name in nodes:
        node = pipeline.nodes.add().pipeline_node
        node.node_info.id = name
        if name == "RetrievalTrainer":
            value = node.parameters.parameters["config"].field_value
            value.string_value = json.dumps(SETTINGS | changes)
    return pipeline


def test_what_was_trained_comes_from_the_latest_run_that_pushed(path):
    pipeline = compiled()
    refresh.mark(pipeline, REBUILT, path)
    assert pipeline.runtime_spec.snapshot_settings.base_pipeline_run_strategy.base_run_id == "run-2"
    options = {n.pipeline_node.node_info.id: n.pipeline_node.execution_options for n in pipeline.nodes}
    required = pipeline_pb2.NodeExecutionOptions.Skip.REQUIRED
    for name in ("EventSchema", "RetrievalTrainer"):
        assert options[name].skip.reuse_artifacts_mode == required
    rebuilt = ("CatalogExampleGen", "CandidateIndex", "Pusher")
    assert [options[name].run.perform_snapshot for name in rebuilt] == [True, False, False]
    assert all(options[name].run.depends_on_snapshot for name in rebuilt)


def test_the_index_may_be_configured_anew(path):
    refresh.mark(compiled(candidates={"min_events": 3, "index": "ivf", "two_tower": 300}), REBUILT, path)


def test_the_catalogue_may_lie_elsewhere(path):
    refresh.mark(compiled(items=SETTINGS["items"] | {"path": "products_today.parquet"}), REBUILT, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrieval": {"epochs": 3}}, r"retrieval\.epochs: changed since RetrievalTrainer ran on run-2"),
        ({"candidates": {"two_tower": 9}}, r"candidates\.two_tower: changed"),
        ({"more": {"key": 1}}, "more: changed"),
        ({"items": {"path": "products.parquet", "item_id": "sku"}}, r"items\.item_id: changed"),
    ],
)
def test_a_trained_component_must_still_be_what_is_configured(path, changes, message):
    with pytest.raises(UserError, match=message):
        refresh.mark(compiled(**changes), REBUILT, path)


def test_a_shop_that_never_pushed_has_nothing_to_refresh(tmp_path):
    with pytest.raises(UserError, match="no run has pushed a model"):
        refresh.mark(compiled(), REBUILT, tmp_path / "metadata.sqlite")
    assert not (tmp_path / "metadata.sqlite").exists()


def test_a_component_that_the_run_lacks(path):
    with pytest.raises(UserError, match="the run of run-2 has no UserTransform"):
        refresh.mark(compiled([*NODES, "UserTransform"]), REBUILT, path)


def test_a_refresh_after_a_refresh_still_knows_the_trained_settings(tmp_path):
    path = tmp_path / "metadata.sqlite"
    make_store(path, [(NODES, 1), (NODES, "refresh")])
    pipeline = compiled()
    refresh.mark(pipeline, REBUILT, path)
    assert pipeline.runtime_spec.snapshot_settings.base_pipeline_run_strategy.base_run_id == "run-2"
    with pytest.raises(UserError, match=r"retrieval\.epochs: changed since RetrievalTrainer ran"):
        refresh.mark(compiled(retrieval={"epochs": 3}), REBUILT, path)
