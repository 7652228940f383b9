"""One task: its executor input, its command, and what it says that it made."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.compiler import pipeline_spec_builder
from kfp.local import executor_input_utils, executor_output_utils, placeholder_utils
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from kubeflow.local.plan import Task
from schema.errors import DataError


@dataclasses.dataclass(frozen=True)
class Values:
    """Inputs or outputs of a task.

    Attributes:
      parameters: strings, numbers and booleans by name.
      artifacts: by name; `name` of each is the same for the same execution and for no other.
    """

    parameters: dict[str, Any]
    artifacts: dict[str, pb.RuntimeArtifact]

    def to_json(self) -> dict[str, Any]:
        """A tree for `json.dumps`."""
        artifacts = {name: json_format.MessageToDict(value) for name, value in self.artifacts.items()}
        return {"parameters": self.parameters, "artifacts": artifacts}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Values:
        """What :meth:`to_json` wrote."""
        artifacts = {
            name: json_format.ParseDict(value, pb.RuntimeArtifact())
            for name, value in tree["artifacts"].items()
        }
        return cls(dict(tree["parameters"]), artifacts)


def inputs(task: Task, done: Mapping[str, Values], arguments: Mapping[str, Any]) -> Values:
    """What a task gets.

    Args:
      task: the task.
      done: outputs of the tasks before it.
      arguments: values of the pipeline's parameters.
    """
    parameters: dict[str, Any] = {}
    for key, source in task.spec.inputs.parameters.items():
        kind = source.WhichOneof("kind")
        if kind == "task_output_parameter":
            output = source.task_output_parameter
            parameters[key] = done[output.producer_task].parameters[output.output_parameter_key]
        elif kind == "component_input_parameter":
            parameters[key] = arguments[source.component_input_parameter]
        else:
            parameters[key] = executor_output_utils.pb2_value_to_python(source.runtime_value.constant)
    artifacts = {}
    for key, source in task.spec.inputs.artifacts.items():
        output = source.task_output_artifact
        artifacts[key] = done[output.producer_task].artifacts[output.output_artifact_key]
    return Values(parameters, artifacts)


def executor_input(task: Task, found: Values, folder: Path) -> pb.ExecutorInput:
    """What takes the place of ``{{$}}`` in the task's arguments.

    Args:
      task: the task.
      found: its inputs.
      folder: of this execution; its outputs are below it.
    """
    # KFP's function takes its own artifact objects, which lose TFX's types: artifacts are added after it.
    component = pb.ComponentSpec()
    component.CopyFrom(task.component)
    component.input_definitions.artifacts.clear()
    message = executor_input_utils.construct_executor_input(
        component_spec=component,
        arguments=found.parameters,
        task_root=str(folder),
        block_input_artifact=False,
    )
    for key, artifact in found.artifacts.items():
        message.inputs.artifacts[key].artifacts.add().CopyFrom(artifact)
    for key in message.outputs.parameters:
        message.outputs.parameters[key].output_file = str(folder / "parameters" / key)
    return message


def command(task: Task, given: pb.ExecutorInput, *, pipeline: str, run: str, root: str) -> list[str]:
    """The container's command and arguments, without placeholders.

    Args:
      task: the task.
      given: its :func:`executor_input`.
      pipeline: the pipeline's name.
      run: id of the run.
      root: the pipeline root.
    """
    return placeholder_utils.replace_placeholders(
        full_command=[*task.container.command, *task.container.args],
        executor_input_dict=executor_input_utils.executor_input_to_dict(given, task.component),
        pipeline_resource_name=f"{pipeline}-{run}",
        task_resource_name=task.name,
        pipeline_root=root,
        unique_pipeline_id=run,
    )


def environment(task: Task) -> dict[str, str]:
    """The variables that the container's spec sets."""
    return {variable.name: variable.value for variable in task.container.env}


def outputs(task: Task, given: pb.ExecutorInput, folder: Path, root: Path) -> Values:
    """What a task that has succeeded made: the artifacts as planned, with what its output file adds.

    Args:
      task: the task.
      given: its :func:`executor_input`.
      folder: of this execution.
      root: the pipeline root.

    Raises:
      DataError: an output parameter is missing.
    """
    written = executor_output_utils.load_executor_output(given.outputs.output_file)
    written = executor_output_utils.merge_dsl_output_file_parameters_to_executor_output(
        executor_input=given, executor_output=written, component_spec=task.component
    )
    definitions = task.component.output_definitions.parameters
    parameters = {
        key: executor_output_utils.pb2_value_to_python(value)
        for key, value in written.parameter_values.items()
    }
    if missing := sorted(set(definitions) - set(parameters)):
        raise DataError(f"{task.name}: did not write its output parameter {missing[0]}")
    artifacts = {}
    for key, planned in given.outputs.artifacts.items():
        artifact = pb.RuntimeArtifact()
        artifact.CopyFrom(planned.artifacts[0])
        if key in written.artifacts and written.artifacts[key].artifacts:
            said = written.artifacts[key].artifacts[0]
            artifact.uri = said.uri or artifact.uri
            artifact.metadata.update(json_format.MessageToDict(said.metadata))
        # In the metadata store of a back end this is the artifact's number.
        artifact.name = os.path.relpath(folder / key, root)
        artifacts[key] = artifact
    return Values(executor_output_utils.cast_protobuf_numbers(parameters, definitions), artifacts)


def to_value(value: Any) -> Any:
    """A parameter's value as protobuf's JSON has it."""
    return json_format.MessageToDict(pipeline_spec_builder.to_protobuf_value(value))
