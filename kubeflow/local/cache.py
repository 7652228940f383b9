"""Executions that succeeded, by the key under which a Kubeflow back end looks for them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from kubeflow.local.plan import Task
from kubeflow.local.task import Values, to_value


class Cache:
    """A folder with one file an execution that succeeded.

    Args:
      folder: made when the first execution is kept.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def find(self, key: str) -> Values | None:
        """The outputs of an execution, None if there was none or an artifact of it was deleted."""
        try:
            tree = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if not all(os.path.exists(uri) for uri in tree["there"]):
            return None
        return Values.from_json(tree["outputs"])

    def keep(self, key: str, outputs: Values) -> None:
        """Keeps the outputs of an execution that succeeded."""
        there = [artifact.uri for artifact in outputs.artifacts.values() if os.path.exists(artifact.uri)]
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f"{key}.{os.getpid()}.part"  # a killed run leaves no half a file
        part.write_text(json.dumps({"there": there, "outputs": outputs.to_json()}), encoding="utf-8")
        os.replace(part, self._folder / f"{key}.json")


def key(task: Task, given: Values, planned: pb.ExecutorInput) -> str:
    """The key of an execution, of the same parts as in open-source Kubeflow Pipelines.

    These are the names of the input artifacts, the values of the input parameters, names and types of the
    outputs, image, command and arguments (with their placeholders).

    Args:
      task: the task.
      given: its inputs.
      planned: its executor input; of its outputs, names and types count.

    Returns:
      64 hexadecimal digits.
    """
    types = {
        name: json_format.MessageToDict(artifacts.artifacts[0].type)
        for name, artifacts in planned.outputs.artifacts.items()
    }
    definitions = task.component.output_definitions.parameters
    parts = {
        "inputArtifactNames": {name: [value.name] for name, value in given.artifacts.items()},
        "inputParameterValues": {name: to_value(value) for name, value in given.parameters.items()},
        "outputArtifactsSpec": types,
        "outputParametersSpec": {name: definitions[name].parameter_type for name in definitions},
        "containerSpec": {
            "image": task.container.image,
            "cmdArgs": [*task.container.command, *task.container.args],
        },
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
