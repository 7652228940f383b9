"""How the steps run on Kubeflow Pipelines or Vertex AI."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schema.config.base import Section


class Toleration(Section):
    """A taint of nodes on which a step may run nevertheless (open-source Kubeflow Pipelines)."""

    key: str | None = None
    """Of the taint; every taint if not given (with operator Exists)."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the taint's value counts."""
    value: str | None = None
    """Of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Of the taint; every effect if not given."""
    seconds: int | None = Field(None, ge=0)
    """How long a running step is tolerated after a NoExecute taint; for ever if not given."""


class Secret(Section):
    """A Kubernetes secret that a step sees (open-source Kubeflow Pipelines)."""

    name: str
    """Of the secret, in the namespace of the runs."""
    env: dict[str, str] = {}
    """Environment variable -> key of the secret."""
    path: str | None = Field(None, pattern="^/")
    """Folder in the container with one file a key."""


class Volume(Section):
    """A persistent volume claim that is mounted in a step (open-source Kubeflow Pipelines)."""

    claim: str
    """Name of the claim, in the namespace of the runs."""
    path: str = Field(pattern="^/")
    """Folder in the container."""
    sub_path: str | None = None
    """Folder of the volume; the whole volume if not given."""


class Step(Section):
    """What one step asks for. What is not given is as in `kubeflow.steps.default`."""

    image: str | None = None
    """Container image; `kubeflow.image` if not given."""
    cpu: float | None = Field(None, gt=0)
    """Number of cores."""
    memory_gb: float | None = Field(None, gt=0)
    """Memory in GB."""
    accelerator: str | None = None
    """Kind of accelerator.

    Vertex AI: NVIDIA_TESLA_T4, for example. Kubernetes: nvidia.com/gpu or google.com/tpu.
    """
    accelerator_count: int = Field(1, ge=1)
    """Number of accelerators."""
    retries: int | None = Field(None, ge=0)
    """Further attempts after a failure; `kubeflow.retries` if not given."""
    caching: bool | None = None
    """Whether the step is skipped when its inputs are unchanged; `kubeflow.caching` if not given."""
    env: dict[str, str] = {}
    """Environment variables."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes on which the step runs (open-source Kubeflow Pipelines)."""
    tolerations: list[Toleration] = []
    """Taints of nodes on which it may run (open-source Kubeflow Pipelines)."""
    secrets: list[Secret] = []
    """Secrets that it sees (open-source Kubeflow Pipelines)."""
    volumes: list[Volume] = []
    """Volumes that are mounted (open-source Kubeflow Pipelines)."""
    image_pull_secrets: list[str] = []
    """Secrets with which the image is pulled (open-source Kubeflow Pipelines)."""


class Kubeflow(Section):
    """How the steps run on Kubeflow Pipelines or Vertex AI; see kubeflow/README.md."""

    image: str = "shelfwise:latest"
    """Container image of the steps."""
    project_dir: str = "/opt/shelfwise"
    """Folder in the image that holds this project."""
    pipeline_root: str = "gs://my-bucket/shelfwise"
    """URL of the artifacts."""
    serving_dir: str | None = None
    """URL of the pushed versions; `<pipeline_root>/serving/shelfwise` if not given."""
    caching: bool = True
    """Whether steps whose inputs are unchanged are skipped."""
    retries: int = Field(1, ge=0)
    """Further attempts of a step that failed."""
    parameters: list[str] = []
    """Numbers of the configuration, such as `split.test_days`, that are given when a run is started.

    The configuration's value is the default. The parameter's name has `_` in place of the dots.
    """
    steps: dict[str, Step] = {}
    """Component id -> what it asks for; "default" is for all, as far as they do not say otherwise."""
