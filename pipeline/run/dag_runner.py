"""TFX's LocalDagRunner with progress, timing and readable failures.

Importing this module imports TFX (about 15 s).
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import absl.logging
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import local_dag_runner, runner_utils
from tfx.orchestration.portable import launcher, partial_run_utils, runtime_parameter_utils
from tfx.proto.orchestration import local_deployment_config_pb2, pipeline_pb2
from tfx.utils import telemetry_utils

from pipeline import record as run_record
from pipeline.record import Stage
from pipeline.report import findings
from pipeline.run.progress import MemorySampler, Progress


class ComponentError(Exception):
    """A component failed; its exception, if it raised one, is the cause.

    Attributes:
      component: its id.
    """

    def __init__(self, component: str, message: str):
        super().__init__(message)
        self.component = component


class ProgressDagRunner(local_dag_runner.LocalDagRunner):
    """Runs the components one after the other and says what each found.

    Only `run_with_ir` is overridden, so that the TFX command line, which replaces
    ``LocalDagRunner.run`` while it registers a pipeline, works with it.

    Args:
      make_progress: makes the display when the components' ids are known.
      memory: measures the process tree.
      mark: changes the compiled pipeline before it runs, e.g. marks nodes to be skipped.

    Attributes:
      run_id: set when the run starts.
      components: ids in order, set when the run starts.
      stages: what ran, also when `run` raised.
    """

    def __init__(
        self,
        make_progress: Callable[[list[str]], Progress],
        memory: MemorySampler,
        mark: Callable[[pipeline_pb2.Pipeline], None] | None = None,
    ):
        super().__init__()
        self._mark = mark
        self._make_progress = make_progress
        self._memory = memory
        self.run_id: str | None = None
        self.components: list[str] = []
        self.stages: list[Stage] = []

    def run_with_ir(
        self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None
    ) -> None:
        """Runs a compiled pipeline.

        Raises:
          ComponentError: a component failed; those after it have not run.
        """
        absl.logging.set_verbosity(absl.logging.INFO)
        self.run_id = dt.datetime.now().isoformat()
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: self.run_id}
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        kind = deployment.metadata_connection_config.WhichOneof("connection_config")
        connection = getattr(deployment.metadata_connection_config, kind)
        if run_options:
            options = run_options.partial_run
            partial_run_utils.mark_pipeline(
                pipeline,
                from_nodes=options.from_nodes or None,
                to_nodes=options.to_nodes or None,
                snapshot_settings=options.snapshot_settings,
            )
        if self._mark is not None:
            self._mark(pipeline)
        nodes = [node.pipeline_node for node in pipeline.nodes]
        self.components = [node.node_info.id for node in nodes]
        progress = self._make_progress(self.components)
        with telemetry_utils.scoped_labels({telemetry_utils.LABEL_TFX_RUNNER: "local"}):
            for index, node in enumerate(nodes, start=1):
                self._memory.stage_peak()
                started, processor = time.monotonic(), _processor_seconds()
                stage = Stage(node.node_info.id, 0.0, False, "failed")
                try:
                    with progress.running(index):
                        if node.execution_options.HasField("skip"):
                            # another run's outputs stand for its own
                            options = node.execution_options
                            stage.cached = partial_run_utils.should_attempt_to_reuse_artifact(options)
                            stage.state = "cached" if stage.cached else "skipped"
                        else:
                            self._launch(pipeline, node, deployment, connection, stage)
                finally:
                    stage.seconds = time.monotonic() - started
                    stage.processor_seconds = _processor_seconds() - processor
                    stage.peak_memory_bytes = self._memory.stage_peak()
                    self.stages.append(stage)
                    shown = "" if stage.state == "complete" else stage.state
                    progress.finished(index, stage.seconds, shown, stage.found)

    def _launch(
        self,
        pipeline: pipeline_pb2.Pipeline,
        node: pipeline_pb2.PipelineNode,
        deployment: local_deployment_config_pb2.LocalDeploymentConfig,
        connection: Any,
        stage: Stage,
    ) -> None:
        """Runs one component and fills in `stage`."""
        node_id = node.node_info.id
        if node.execution_options.run.perform_snapshot:
            with metadata.Metadata(connection) as handle:
                partial_run_utils.snapshot(handle, pipeline)
        logging.info("component %s starts", node_id)
        try:
            info = launcher.Launcher(
                pipeline_node=node,
                mlmd_connection=metadata.Metadata(connection),
                pipeline_info=pipeline.pipeline_info,
                pipeline_runtime_spec=pipeline.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
            ).launch()
        except Exception as error:
            raise ComponentError(node_id, str(error)) from error
        if info is None or not info.execution_id:
            stage.state = "skipped"  # its condition does not hold
            return
        with metadata.Metadata(connection) as handle:
            execution = handle.store.get_executions_by_id([info.execution_id])[0]
            record = run_record.read_node(handle.store, execution)
            if record.state == "FAILED":
                # The launcher records an input that cannot be resolved and returns quietly.
                last = record.result_message.strip().rsplit("\n", 1)[-1]
                raise ComponentError(node_id, f"its inputs cannot be resolved: {last}")
            outputs = {artifact.id for artifact in record.artifacts()}
            if record.state == "CACHED":
                stage.cached = True
            elif record.kind == "Resolver":
                # A resolver is never CACHED in the metadata store: it does no work to re-use.
                # It counts as cached when it found what it found the last time.
                stage.cached = run_record.previous_outputs(handle.store, str(self.run_id), node_id) == outputs
        stage.state = "cached" if stage.cached else "complete"
        stage.found = findings.describe(record)
        logging.info("component %s: %s, %s", node_id, stage.state, stage.found)


def _processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
