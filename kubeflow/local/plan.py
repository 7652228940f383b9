"""A spec as a list of tasks, in an order in which they can run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.local import executor_output_utils, graph_utils
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

from kubeflow import portable
from schema.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Task:
    """A task that runs one container.

    Attributes:
      name: of the task, which is the component's id.
      spec: what it gets, and what it waits for.
      component: types of its inputs and outputs.
      container: image, command and arguments.
    """

    name: str
    spec: pb.PipelineTaskSpec
    component: pb.ComponentSpec
    container: pb.PipelineDeploymentConfig.PipelineContainerSpec

    @property
    def upstream(self) -> frozenset[str]:
        """The tasks that must have succeeded before."""
        return frozenset(self.spec.dependent_tasks)

    @property
    def cached(self) -> bool:
        """Whether the result of an earlier execution with the same inputs will do."""
        return self.spec.caching_options.enable_cache

    @property
    def attempts(self) -> int:
        """How often it is tried."""
        return 1 + self.spec.retry_policy.max_retry_count


@dataclasses.dataclass(frozen=True)
class Plan:
    """A pipeline of one level.

    Attributes:
      name: the pipeline's.
      tasks: each after those that it waits for; where there is a choice, the one first that most wait for.
      defaults: the pipeline's own parameters and their default values.
    """

    name: str
    tasks: list[Task]
    defaults: dict[str, Any]

    @classmethod
    def of_file(cls, path: Path) -> Plan:
        """Reads what `shelfwise compile` wrote as YAML.

        Raises:
          ConfigError: it holds no PipelineSpec, or asks for what only one back end has.
        """
        try:
            documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
            return cls.of_spec(documents[0])
        except (yaml.YAMLError, json_format.ParseError, IndexError, AttributeError, KeyError) as error:
            raise ConfigError(f"{path}: is no pipeline spec ({error}); compile it again") from error

    @classmethod
    def of_spec(cls, spec: dict[str, Any]) -> Plan:
        """Reads a PipelineSpec in its JSON form.

        Raises:
          ConfigError: it asks for what only one back end has.
        """
        portable.check(spec)
        message = json_format.ParseDict(spec, pb.PipelineSpec())
        deployment = json_format.ParseDict(spec["deploymentSpec"], pb.PipelineDeploymentConfig())
        tasks = dict(message.root.dag.tasks)
        order = graph_utils.topological_sort_tasks(tasks)[::-1]  # it gives a stack
        following = dict.fromkeys(order, 0)  # tasks in the longest chain behind each
        for name in reversed(order):
            for before in tasks[name].dependent_tasks:
                following[before] = max(following[before], following[name] + 1)
        found = []
        for name in sorted(order, key=lambda name: -following[name]):
            component = message.components[tasks[name].component_ref.name]
            executor = deployment.executors[component.executor_label]
            found.append(Task(name, tasks[name], component, executor.container))
        defaults = {
            name: executor_output_utils.pb2_value_to_python(parameter.default_value)
            for name, parameter in message.root.input_definitions.parameters.items()
        }
        return cls(message.pipeline_info.name, found, defaults)
