"""A new index and servable of today's catalogue, with everything that was trained as it is.

`python -m pipeline.local_runner --refresh-index` runs the nodes that their stage marks as `rebuilt`
and takes the outputs of all others from the latest run that pushed a model. (TFX's own partial runs
take a contiguous part of the graph only.) Items that were added are encoded by the trained item tower
from their text and categories and are candidates at once; items that were withdrawn are gone.
The gates are those of every run.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ml_metadata import metadata_store
from tfx.orchestration.portable import partial_run_utils
from tfx.proto.orchestration import pipeline_pb2

from pipeline import record as run_record
from schema.errors import UserError

# Settings that a trained model does not depend on: what is found with it, and where today's files lie.
_FREE = {
    "candidates": ("index", "index_recall", "min_events"),
    "items": ("path",),
    "exposures": ("path",),
}


def mark(pipeline: pipeline_pb2.Pipeline, rebuilt: Collection[str], metadata_path: str | Path) -> None:
    """Makes a compiled pipeline re-use what was trained.

    Args:
      pipeline: changed in place.
      rebuilt: ids of the nodes that run again, see `pipeline.stages.nodes.rebuilt_ids`.
      metadata_path: the metadata store of the runs.

    Raises:
      UserError: no run has pushed a model, or the configuration of a trained component has changed
        since.
    """
    reused = [node.pipeline_node for node in pipeline.nodes if node.pipeline_node.node_info.id not in rebuilt]
    base = _latest_pushed(metadata_path)
    if base is None:
        raise UserError(
            f"{metadata_path}: no run has pushed a model whose parts could be used; run the pipeline once "
            "without --refresh-index"
        )
    store = run_record.open_store(metadata_path)
    for node in reused:
        name = node.node_info.id
        if name not in base.nodes:
            raise UserError(
                f"the run of {base.run_id} has no {name}; run the pipeline without --refresh-index"
            )
        if "config" not in node.parameters.parameters:
            continue
        then = _settings(_config_of(store, base.nodes[name]))
        now = _settings(node.parameters.parameters["config"].field_value.string_value)
        if then != now:
            raise UserError(
                f"{', '.join(_differences(then, now))}: changed since {name} ran on {base.run_id}; set it "
                "back, or run the pipeline without --refresh-index"
            )
    names = {node.node_info.id for node in reused}
    first = True
    for wrapped in pipeline.nodes:
        options = wrapped.pipeline_node.execution_options
        if wrapped.pipeline_node.node_info.id in names:
            options.skip.reuse_artifacts_mode = pipeline_pb2.NodeExecutionOptions.Skip.REQUIRED
        else:
            options.run.perform_snapshot, options.run.depends_on_snapshot = first, True
            first = False
    partial_run_utils.set_base_pipeline_run_strategy(pipeline.runtime_spec.snapshot_settings, base.run_id)


def _latest_pushed(metadata_path: str | Path) -> run_record.RunRecord | None:
    """The latest run that pushed a model."""
    for run_id in run_record.run_ids(metadata_path):
        record = run_record.read_run(metadata_path, run_id)
        for node in record.of_kind("Pusher") if record else []:
            model = node.first("pushed_model")
            if model is not None and model.properties.get("pushed") == 1:
                return record
    return None


def _config_of(store: metadata_store.MetadataStore, node: run_record.NodeRecord) -> str:
    """The configuration with which a component made what it gave to a run.

    Where an earlier refresh took the outputs over, its own execution knows no configuration: it is
    that of another execution with the same outputs.

    Raises:
      UserError: the store has no such execution.
    """
    outputs = {artifact.id for artifact in node.artifacts()}
    executions = [store.get_executions_by_id([node.execution_id])[0]]
    for context in store.get_contexts_by_type("node"):
        if context.name.rsplit(".", 1)[-1] == node.id:
            executions += store.get_executions_by_context(context.id)
    for execution in executions:
        if "config" in execution.custom_properties:
            record = run_record.read_node(store, execution)
            if {artifact.id for artifact in record.artifacts()} == outputs:
                return execution.custom_properties["config"].string_value
    raise UserError(
        f"the metadata store does not know with which settings {node.id} was trained; run the pipeline "
        "without --refresh-index"
    )


def _settings(text: str) -> dict[str, Any]:
    """A component's configuration without what a trained model does not depend on."""
    sections = json.loads(text)
    for section, keys in _FREE.items():
        for key in keys:
            (sections.get(section) or {}).pop(key, None)
    return sections


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Dotted paths of the settings that differ."""
    out = []
    for key in sorted({*then, *now}):
        one, other = then.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            out += _differences(one, other, f"{path}{key}.")
        elif one != other:
            out.append(f"{path}{key}")
    return out
