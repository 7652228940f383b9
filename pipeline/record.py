"""What one pipeline run did, read from its metadata store.

Only `ml_metadata` and `tensorflow_metadata` are imported here (0.2 s), never TFX or TensorFlow,
so that a report can be regenerated at once. Artifacts that a cached component re-used are part
of the run like those it made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

_OUTPUT_EVENTS = (
    metadata_store_pb2.Event.OUTPUT,
    metadata_store_pb2.Event.INTERNAL_OUTPUT,
    metadata_store_pb2.Event.DECLARED_OUTPUT,
)
_VALUE_FIELDS = {"int_value", "double_value", "string_value", "bool_value"}


@dataclasses.dataclass(frozen=True)
class ArtifactRecord:
    """One artifact: its MLMD id, type name, folder and (custom) properties as Python values."""

    id: int
    type: str
    uri: str
    properties: dict[str, Any]

    @property
    def path(self) -> Path:
        """Its folder."""
        return Path(self.uri)


@dataclasses.dataclass(frozen=True)
class NodeRecord:
    """One component of a run.

    Attributes:
      id: the component's id.
      type: name of its class, e.g. "tfx.components.statistics_gen.component.StatisticsGen".
      state: MLMD execution state: COMPLETE, CACHED, FAILED, RUNNING, CANCELED.
      execution_id: MLMD id of the execution.
      outputs: artifacts by output key.
      result_message: what the launcher stored about a failure, or "".
    """

    id: str
    type: str
    state: str
    execution_id: int
    outputs: dict[str, list[ArtifactRecord]]
    result_message: str = ""

    def artifacts(self) -> Iterator[ArtifactRecord]:
        """All output artifacts, by output key."""
        for key in sorted(self.outputs):
            yield from self.outputs[key]

    def first(self, key: str) -> ArtifactRecord | None:
        """The first artifact under an output key."""
        found = self.outputs.get(key)
        return found[0] if found else None

    @property
    def kind(self) -> str:
        """The component's class name without its module."""
        return self.type.rsplit(".", 1)[-1]


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """All components that one run reached, in the order in which they started."""

    run_id: str
    nodes: dict[str, NodeRecord]

    def of_kind(self, kind: str) -> list[NodeRecord]:
        """The components of a class, by its name without module."""
        return [node for node in self.nodes.values() if node.kind == kind]

    def find_file(self, key: str, name: str) -> list[tuple[NodeRecord, Path]]:
        """Files called `name` in the artifacts under output key `key`, with their component."""
        found = []
        for node in self.nodes.values():
            for artifact in node.outputs.get(key, []):
                if (artifact.path / name).is_file():
                    found.append((node, artifact.path / name))
        return found


@dataclasses.dataclass
class Stage:
    """One component of a run.

    Attributes:
      name: component id.
      seconds: wall time, also of a cached one.
      cached: whether it re-used the outputs of an earlier run.
      state: "complete", "cached", "failed" or "skipped".
      found: one line of what it found.
      peak_memory_bytes: of the process tree while it ran.
      processor_seconds: user and system time of this process and of those that ended while it ran; on a
        busy machine they say what a component costs, and `seconds` do not.
    """

    name: str
    seconds: float
    cached: bool
    state: str
    found: str = ""
    peak_memory_bytes: int = 0
    processor_seconds: float = 0.0


def open_store(metadata_path: str | Path) -> metadata_store.MetadataStore:
    """Opens an existing SQLite metadata store.

    Raises:
      FileNotFoundError: there is no such file (opening would silently create one).
    """
    if not Path(metadata_path).is_file():
        raise FileNotFoundError(metadata_path)
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(metadata_path)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE
    return metadata_store.MetadataStore(config)


def read_run(metadata_path: str | Path, run_id: str | None = None) -> RunRecord | None:
    """Reads one run.

    Args:
      metadata_path: the SQLite file.
      run_id: the run; the latest one if None.

    Returns:
      The run, or None if the store knows no such run (it stopped before its first component).
    """
    if not Path(metadata_path).is_file():
        return None
    store = open_store(metadata_path)
    runs = store.get_contexts_by_type("pipeline_run") if _has_type(store, "pipeline_run") else []
    runs = [run for run in runs if run_id in (None, run.name)]
    if not runs:
        return None
    run = max(runs, key=lambda context: (context.create_time_since_epoch, context.id))
    nodes = {}
    for execution in sorted(store.get_executions_by_context(run.id), key=lambda e: e.id):
        node = read_node(store, execution)
        nodes[node.id] = node
    return RunRecord(run.name, nodes)


def run_ids(metadata_path: str | Path) -> list[str]:
    """All runs of a store, the latest first; none if there is no such file."""
    if not Path(metadata_path).is_file():
        return []
    store = open_store(metadata_path)
    runs = store.get_contexts_by_type("pipeline_run") if _has_type(store, "pipeline_run") else []
    return [run.name for run in sorted(runs, key=lambda run: (-run.create_time_since_epoch, -run.id))]


def read_node(store: metadata_store.MetadataStore, execution: metadata_store_pb2.Execution) -> NodeRecord:
    """Reads one execution with its output artifacts."""
    node_id = execution.name or str(execution.id)
    for context in store.get_contexts_by_execution(execution.id):
        if context.type == "node":
            node_id = context.name.rsplit(".", 1)[-1]
    keys: dict[int, tuple[str, int]] = {}
    for event in store.get_events_by_execution_ids([execution.id]):
        if event.type in _OUTPUT_EVENTS:
            key = next((step.key for step in event.path.steps if step.HasField("key")), "")
            index = next((step.index for step in event.path.steps if step.HasField("index")), 0)
            keys[event.artifact_id] = (key, index)
    outputs: dict[str, list[ArtifactRecord]] = {}
    for artifact in sorted(store.get_artifacts_by_id(list(keys)), key=lambda a: keys[a.id]):
        record = ArtifactRecord(artifact.id, artifact.type, artifact.uri, _properties(artifact))
        outputs.setdefault(keys[artifact.id][0], []).append(record)
    return NodeRecord(
        node_id,
        execution.type,
        metadata_store_pb2.Execution.State.Name(execution.last_known_state),
        execution.id,
        outputs,
        _result_message(execution),
    )


def previous_outputs(store: metadata_store.MetadataStore, run_id: str, node_id: str) -> set[int] | None:
    """Ids of the artifacts that `node_id` gave in the latest finished execution before `run_id`.

    Returns:
      None when it never ran before.
    """
    this_run = {
        e.id
        for run in store.get_contexts_by_type("pipeline_run")
        if run.name == run_id
        for e in store.get_executions_by_context(run.id)
    }
    earlier: list[metadata_store_pb2.Execution] = []
    for context in store.get_contexts_by_type("node"):
        if context.name.rsplit(".", 1)[-1] == node_id:
            earlier += [
                execution
                for execution in store.get_executions_by_context(context.id)
                if execution.id not in this_run
                and execution.last_known_state
                in (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
            ]
    if not earlier:
        return None
    latest = max(earlier, key=lambda execution: execution.id)
    return {artifact.id for artifact in read_node(store, latest).artifacts()}


def _properties(artifact: metadata_store_pb2.Artifact) -> dict[str, Any]:
    values = {}
    for properties in (artifact.properties, artifact.custom_properties):
        for name, value in properties.items():
            field = value.WhichOneof("value")
            if field in _VALUE_FIELDS:
                values[name] = getattr(value, field)
            elif field == "struct_value":  # TFX wraps JSON values so
                values[name] = dict(value.struct_value).get("__value__")
    return values


def _result_message(execution: metadata_store_pb2.Execution) -> str:
    # Reading a missing key of a protobuf map adds it, and ML Metadata aborts on such an empty value.
    if "__execution_result__" not in execution.custom_properties:
        return ""
    text = execution.custom_properties["__execution_result__"].string_value
    try:
        return json.loads(text).get("resultMessage", "")
    except ValueError:
        return text


def _has_type(store: metadata_store.MetadataStore, name: str) -> bool:
    return any(context_type.name == name for context_type in store.get_context_types())
