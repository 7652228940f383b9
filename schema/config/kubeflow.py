"""How the steps run on Kubeflow Pipelines or Vertex AI."""

from __future__ import annotations

from pydantic import Field

from schema.config.base import Section


class Resources(Section):
    """What one step asks of Kubernetes."""

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
    resources: dict[str, Resources] = {}
    """Component id -> resources; "default" is for those not named."""
