"""What TFX's compiler leaves out of a Kubeflow Pipelines spec: root, resources, retries, caching.

Pure functions of the spec as a dictionary (the JSON form of the PipelineSpec message); nothing
here imports TFX.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from schema.config import Kubeflow, Step
from schema.errors import ConfigError

ENTRYPOINT = ["python", "-m", "kubeflow.entrypoint"]
_TFX_ENTRYPOINT = ["python", "-m", "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"]
DEFAULT = "default"  # in kubeflow.steps: what holds for all components


def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The container of each task that runs one, by task; a task is named like its component."""
    return {name: body["container"] for name, body in _executors(spec).items() if "container" in body}


def tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The tasks by name."""
    return spec["root"]["dag"]["tasks"]


def apply_settings(spec: dict[str, Any], settings: Kubeflow, uncached: Collection[str] = ()) -> None:
    """Writes pipeline root, commands, images, resources, retries and caching into a spec, in place.

    It also corrects the task that a parameter comes from: TFX 1.21 writes the producer's name with
    "_task" behind it, which no task of the spec has.

    Args:
      spec: a PipelineSpec of one level, as TFX compiles it.
      settings: the configuration's section `kubeflow`.
      uncached: components that run every time, whatever the settings say.

    Raises:
      ConfigError: `kubeflow.steps` names a component that the pipeline has no container of.
    """
    found = containers(spec)
    for name in settings.steps:
        if name != DEFAULT and name not in found:
            raise ConfigError(
                f"kubeflow.steps.{name}: the pipeline runs no component of this id; "
                f"known: {DEFAULT}, {', '.join(found)}"
            )
    spec["defaultPipelineRoot"] = settings.pipeline_root.rstrip("/")
    for name, container in found.items():
        step = step_of(settings, name)
        _apply_to_container(container, step)
        task = tasks(spec)[name]
        if retries := settings.retries if step.retries is None else step.retries:
            task["retryPolicy"] = {"maxRetryCount": retries}
        if not (settings.caching if step.caching is None else step.caching) or name in uncached:
            task["cachingOptions"] = {}  # how the KFP SDK writes enable_cache = false
        for parameter in task.get("inputs", {}).get("parameters", {}).values():
            if "taskOutputParameter" in parameter:
                source = parameter["taskOutputParameter"]
                source["producerTask"] = source["producerTask"].removesuffix("_task")


def step_of(settings: Kubeflow, name: str) -> Step:
    """What a component asks for: its own settings, and the default's for all that it does not say."""
    default = settings.steps.get(DEFAULT) or Step()
    own = settings.steps.get(name) or Step()
    return default.model_copy(update={field: getattr(own, field) for field in own.model_fields_set})


def platforms(spec: dict[str, Any], settings: Kubeflow) -> dict[str, Any] | None:
    """The second document of a compiled file: what only Kubernetes knows about each task.

    Args:
      spec: the compiled PipelineSpec.
      settings: the configuration's section `kubeflow`.

    Returns:
      A SinglePlatformSpec by platform in JSON form, as kfp-kubernetes writes it (executor configurations
      by executor label); None if no step asks for anything of this kind.
    """
    executors = {}
    for name in containers(spec):
        label = spec["components"][tasks(spec)[name]["componentRef"]["name"]]["executorLabel"]
        if wanted := _executor_config(step_of(settings, name)):
            executors[label] = wanted
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}} if executors else None


def _apply_to_container(container: dict[str, Any], step: Step) -> None:
    if container.get("command") == _TFX_ENTRYPOINT:
        container["command"] = list(ENTRYPOINT)
    if step.image is not None:
        container["image"] = step.image
    if step.env:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(step.env.items())]
    if resources := _resources(step):
        container["resources"] = resources


def _resources(wanted: Step) -> dict[str, Any]:
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


def _executor_config(step: Step) -> dict[str, Any]:
    """A KubernetesExecutorConfig in JSON; empty fields are left out."""
    tolerations = [
        {
            "key": each.key,
            "operator": each.operator,
            "value": each.value,
            "effect": each.effect,
            "tolerationSeconds": None if each.seconds is None else str(each.seconds),
        }
        for each in step.tolerations
    ]
    config = {
        "nodeSelector": {"labels": dict(step.node_selector)} if step.node_selector else None,
        "tolerations": [_filled(each) for each in tolerations],
        "secretAsEnv": [
            _secret(secret.name)
            | {"keyToEnv": [{"secretKey": key, "envVar": name} for name, key in sorted(secret.env.items())]}
            for secret in step.secrets
            if secret.env
        ],
        "secretAsVolume": [
            _secret(secret.name) | {"mountPath": secret.path} for secret in step.secrets if secret.path
        ],
        "pvcMount": [
            _filled(
                {
                    "constant": volume.claim,
                    "pvcNameParameter": _constant(volume.claim),
                    "mountPath": volume.path,
                    "subPath": volume.sub_path,
                }
            )
            for volume in step.volumes
        ],
        "imagePullSecret": [_secret(name) for name in step.image_pull_secrets],
    }
    return _filled(config)


def _secret(name: str) -> dict[str, Any]:
    """A secret by its name: once for back ends of today, once for those before Kubeflow Pipelines 2.4."""
    return {"secretName": name, "secretNameParameter": _constant(name)}


def _constant(value: str) -> dict[str, Any]:
    return {"runtimeValue": {"constant": value}}


def _filled(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if value not in (None, [], {})}


def _executors(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Task -> the body of its executor."""
    executors = spec["deploymentSpec"]["executors"]
    labels = {
        name: spec["components"][task["componentRef"]["name"]]["executorLabel"]
        for name, task in sorted(tasks(spec).items())
    }
    return {name: executors[label] for name, label in labels.items()}
