"""What TFX's compiler leaves out of a Kubeflow Pipelines spec: root, resources, retries, caching.

Pure functions of the spec as a dictionary (the JSON form of the PipelineSpec message); nothing
here imports TFX.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from schema.config import Kubeflow, Resources
from schema.errors import ConfigError

DEFAULT = "default"  # in kubeflow.resources: the components that are not named


def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The container of each task that runs one, by task; a task is named like its component."""
    return {name: body["container"] for name, body in _executors(spec).items() if "container" in body}


def apply_settings(spec: dict[str, Any], settings: Kubeflow, uncached: Collection[str] = ()) -> None:
    """Writes pipeline root, resources, retries and caching into a compiled spec, in place.

    It also corrects the task that a parameter comes from: TFX 1.21 writes the producer's name with
    "_task" behind it, which no task of the spec has.

    Args:
      spec: a PipelineSpec of one level, as TFX compiles it.
      settings: the configuration's section `kubeflow`.
      uncached: components that run every time, whatever `settings.caching` says.

    Raises:
      ConfigError: `kubeflow.resources` names a component that the pipeline has no container of.
    """
    found = containers(spec)
    for name in settings.resources:
        if name != DEFAULT and name not in found:
            raise ConfigError(
                f"kubeflow.resources.{name}: the pipeline runs no component of this id; "
                f"known: {DEFAULT}, {', '.join(found)}"
            )
    spec["defaultPipelineRoot"] = settings.pipeline_root.rstrip("/")
    for name, container in found.items():
        resources = _resources(settings.resources.get(name) or settings.resources.get(DEFAULT) or Resources())
        if resources:
            container["resources"] = resources
        task = _tasks(spec)[name]
        if settings.retries:
            task["retryPolicy"] = {"maxRetryCount": settings.retries}
        if not settings.caching or name in uncached:
            task["cachingOptions"] = {}  # how the KFP SDK writes enable_cache = false
        for parameter in task.get("inputs", {}).get("parameters", {}).values():
            if "taskOutputParameter" in parameter:
                source = parameter["taskOutputParameter"]
                source["producerTask"] = source["producerTask"].removesuffix("_task")


def _resources(wanted: Resources) -> dict[str, Any]:
    """A ResourceSpec in JSON; without a request, Kubernetes reserves the limit."""
    resources: dict[str, Any] = {}
    if wanted.cpu is not None:
        resources["cpuLimit"] = wanted.cpu
    if wanted.memory_gb is not None:
        resources["memoryLimit"] = wanted.memory_gb  # in GB (1e9 bytes)
    if wanted.accelerator is not None:
        # a string: protobuf's JSON writes 64-bit integers so
        resources["accelerator"] = {"type": wanted.accelerator, "count": str(wanted.accelerator_count)}
    return resources


def _tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return spec["root"]["dag"]["tasks"]


def _executors(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Task -> the body of its executor."""
    executors = spec["deploymentSpec"]["executors"]
    labels = {
        name: spec["components"][task["componentRef"]["name"]]["executorLabel"]
        for name, task in sorted(_tasks(spec).items())
    }
    return {name: executors[label] for name, label in labels.items()}
