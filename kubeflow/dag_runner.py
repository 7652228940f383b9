"""TFX's compiler for Kubeflow Pipelines with this project's settings in the spec.

Importing this module imports TFX (about 10 s).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as tfx_runner

from kubeflow import spec as spec_lib
from schema.config import Kubeflow


class KubeflowDagRunner(tfx_runner.KubeflowV2DagRunner):
    """Compiles a pipeline to a file; see :func:`kubeflow.spec.apply_settings` for what it adds.

    The TFX command line (``--engine=vertex``) wraps ``KubeflowV2DagRunner.run``, and its
    ``create`` moves the output there: so `run` calls the base class's first and writes last.

    Args:
      settings: the configuration's section `kubeflow`.
      output: file to write; `.yaml` for the KFP SDK (a PipelineSpec), `.json` for a PipelineJob.
      uncached: components that run every time.
    """

    def __init__(self, settings: Kubeflow, output: Path, uncached: Collection[str] = ()):
        super().__init__(
            # the KFP SDK refuses version 2.0
            tfx_runner.KubeflowV2DagRunnerConfig(default_image=settings.image, use_pipeline_spec_2_1=True),
            output_dir=str(output.parent),
            output_filename=output.name,
        )
        self._settings = settings
        self._uncached = uncached

    @property
    def output(self) -> Path:
        """The file that `run` writes or has written."""
        return Path(self._output_dir) / self._output_filename

    def run(
        self,
        pipeline: tfx_pipeline.Pipeline,
        parameter_values: dict[str, Any] | None = None,
        write_out: bool | None = True,
    ) -> dict[str, Any]:
        """Compiles and, if `write_out`, writes the file.

        Returns:
          The PipelineJob in its JSON form; its `pipelineSpec` is what a `.yaml` file holds.

        Raises:
          ConfigError: `kubeflow.resources` names an unknown component.
          OSError: the file cannot be written.
        """
        job = super().run(pipeline, parameter_values, write_out=False)
        spec_lib.apply_settings(job["pipelineSpec"], self._settings, self._uncached)
        if write_out:
            _write(job, self.output)
        return job


def _write(job: dict[str, Any], path: Path) -> None:
    if path.suffix == ".json":
        text = json.dumps(job, sort_keys=True)
    else:
        text = yaml.safe_dump(job["pipelineSpec"], sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")  # never half a spec
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
