"""TFX's compiler for Kubeflow Pipelines with this project's settings in the spec.

Importing this module imports TFX (about 10 s).
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pydantic
import yaml
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as tfx_runner

from kubeflow import parameters, portable
from kubeflow import spec as spec_lib
from schema.config import Config
from schema.errors import ConfigError


class KubeflowDagRunner(tfx_runner.KubeflowV2DagRunner):
    """Compiles a pipeline to a file; see `kubeflow.spec` and `kubeflow.parameters` for what it adds.

    The TFX command line (``--engine=vertex``) wraps ``KubeflowV2DagRunner.run``, and its
    ``create`` moves the output there: so `run` calls the base class's first and writes last.

    Args:
      config: the shop; its section `kubeflow` counts.
      output: file to write; `.yaml` for the KFP SDK (a PipelineSpec, and a second document with what only
        Kubernetes knows if a step asks for it), `.json` for a PipelineJob.
      build: the pipeline of a configuration; needed for `kubeflow.parameters`.
      uncached: components that run every time.
    """

    def __init__(
        self,
        config: Config,
        output: Path,
        build: Callable[[Config], tfx_pipeline.Pipeline],
        uncached: Collection[str] = (),
    ):
        super().__init__(
            # the KFP SDK refuses version 2.0
            tfx_runner.KubeflowV2DagRunnerConfig(
                default_image=config.kubeflow.image, use_pipeline_spec_2_1=True
            ),
            output_dir=str(output.parent),
            output_filename=output.name,
        )
        self._shop = config
        self._build = build
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
          ConfigError: `kubeflow.steps` names an unknown component, `kubeflow.parameters` what cannot be
            one, or the pipeline has a task that not every back end runs.
          OSError: the file cannot be written.
        """
        job = super().run(pipeline, parameter_values, write_out=False)
        if self._shop.kubeflow.parameters:
            job["pipelineSpec"] = self._with_parameters(job["pipelineSpec"])
        spec = job["pipelineSpec"]
        spec_lib.apply_settings(spec, self._shop.kubeflow, self._uncached)
        portable.check(spec)
        if write_out:
            _write(job, spec_lib.platforms(spec, self._shop.kubeflow), self.output)
        return job

    def _with_parameters(self, compiled: dict[str, Any]) -> dict[str, Any]:
        try:
            pipeline = self._build(parameters.marked(self._shop)[0])
        except pydantic.ValidationError as error:
            raise ConfigError(
                f"kubeflow.parameters: one of {', '.join(self._shop.kubeflow.parameters)} has an upper "
                "bound, so it cannot be told from other numbers; compile the pipeline for each value instead"
            ) from error
        # Not through the TFX command line's wrapper, which takes one call for one pipeline.
        run = inspect.unwrap(tfx_runner.KubeflowV2DagRunner.run)
        of_marks = run(self, pipeline, None, write_out=False)["pipelineSpec"]
        return parameters.apply(compiled, of_marks, self._shop)


def _write(job: dict[str, Any], platforms: dict[str, Any] | None, path: Path) -> None:
    if path.suffix == ".json":
        text = json.dumps(job, sort_keys=True)
    else:
        documents = [job["pipelineSpec"], *([platforms] if platforms else [])]
        text = yaml.safe_dump_all(documents, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")  # never half a spec
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
