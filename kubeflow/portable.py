"""What a spec may contain so that open-source Kubeflow Pipelines runs it as Vertex AI does.

TFX's compiler was written for Vertex AI. Some of what it can write is ignored or refused by the
open-source back end, at the latest when the run is submitted; this says so when it is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from schema.errors import ConfigError


def check(spec: Mapping[str, Any]) -> None:
    """Looks through a PipelineSpec (JSON form, one level, as TFX compiles it).

    Raises:
      ConfigError: it contains what only Vertex AI runs; all findings, in one line.
    """
    found = list(findings(spec))
    if found:
        raise ConfigError(f"not every back end runs this pipeline: {'; '.join(found)}")


def findings(spec: Mapping[str, Any]) -> Iterator[str]:
    """What only one of the two back ends understands, a line each."""
    if not str(spec.get("schemaVersion", "")).startswith("2.1"):
        yield f"schema version {spec.get('schemaVersion')} instead of 2.1"
    executors = spec["deploymentSpec"]["executors"]
    tasks = spec["root"]["dag"]["tasks"]
    for name, task in tasks.items():
        component = spec["components"][task["componentRef"]["name"]]
        if "executorLabel" not in component:
            yield f"{name} is a pipeline of its own"
            continue
        yield from _of_executor(name, executors[component["executorLabel"]])
        yield from _of_task(name, task, tasks)
        yield from _of_component(name, component)


def _of_executor(name: str, executor: Mapping[str, Any]) -> Iterator[str]:
    for kind in executor:
        if kind != "container":
            yield f"{name} is a {kind} task, which asks a metadata store or a service of Google Cloud"
    if "lifecycle" in executor.get("container", {}):
        yield f"{name} has a driver (lifecycle.preCacheCheck), which only Vertex AI calls"


def _of_task(name: str, task: Mapping[str, Any], tasks: Mapping[str, Any]) -> Iterator[str]:
    if task.get("triggerPolicy"):
        yield f"{name} runs on a condition, or although another task failed"
    for kind in ("parameterIterator", "artifactIterator", "iteratorPolicy"):
        if kind in task:
            yield f"{name} is a loop"
    inputs = task.get("inputs", {})
    for key, source in inputs.get("parameters", {}).items():
        if "constantValue" in source.get("runtimeValue", {}):
            yield f"{name}.{key} has a constant in the form of schema version 2.0"
    of_parameters = [value.get("taskOutputParameter") for value in inputs.get("parameters", {}).values()]
    of_artifacts = [value.get("taskOutputArtifact") for value in inputs.get("artifacts", {}).values()]
    for source in [*of_parameters, *of_artifacts]:
        if source is None:
            continue
        producer = source["producerTask"]
        if producer not in tasks:
            yield f"{name} waits for {producer}, which is no task"
        elif producer not in task.get("dependentTasks", []):
            yield f"{name} uses {producer} and does not wait for it"


def _of_component(name: str, component: Mapping[str, Any]) -> Iterator[str]:
    for side in ("inputDefinitions", "outputDefinitions"):
        definitions = component.get(side, {})
        for key, artifact in definitions.get("artifacts", {}).items():
            kind = artifact["artifactType"]
            titled = "instanceSchema" in kind and (yaml.safe_load(kind["instanceSchema"]) or {}).get("title")
            if not titled and "schemaTitle" not in kind:
                yield f"{name}.{key} has an artifact type without a title"
        for key, parameter in definitions.get("parameters", {}).items():
            if "parameterType" not in parameter:
                yield f"{name}.{key} has a type in the form of schema version 2.0"
