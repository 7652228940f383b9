"""Compiles the pipeline for Kubeflow Pipelines and Vertex AI.

As a command::

    python -m kubeflow.runner --config pipeline/configs/complete_journey.yaml --output pipeline.yaml

and as the file that the TFX command line compiles::

    tfx pipeline compile --engine=vertex --pipeline_path=kubeflow/runner.py

It is the `create_pipeline` of the local runner; the configuration's section `kubeflow` says what
Kubernetes needs to know. Nothing is submitted; kubeflow/README.md tells how to.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfx.orchestration.pipeline import Pipeline

_ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    # Run as a file (the TFX command line does), the first place to import from is this folder.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT / "kubeflow"]
    sys.path.insert(0, str(_ROOT))

from kubeflow import inputs, parameters  # noqa: E402
from kubeflow import spec as spec_lib  # noqa: E402
from pipeline.run.command import Parser, add_config_arguments, error_line, load_config  # noqa: E402
from schema.config import Config  # noqa: E402
from schema.config.loading import parse_settings  # noqa: E402
from schema.errors import ConfigError  # noqa: E402

# They look at the shop's files and at the folder of pushed versions, of which no cache key knows. What
# follows gets their answer as a parameter, and is cached by its value.
_UNCACHED = ("DataVersion", "BaselineModel", "WarmStartModel")


def main(argv: list[str] | None = None, *, prog: str = "python -m kubeflow.runner") -> int:
    """The command.

    Args:
      argv: arguments without the program's name; those of the process if None.
      prog: the program's name in its help.

    Returns:
      The exit status: 0, or 1 after an error (one line on stderr).
    """
    args = _parser(prog).parse_args(argv)
    _quiet()
    try:
        config = load_config(args)
        if args.run_local is None:
            compile_spec(config, Path(args.output or os.environ.get("SHELFWISE_SPEC") or "pipeline.yaml"))
            return 0
        given = parse_settings(args.parameter, "--parameter")
        return run_local(config, Path(args.run_local).absolute(), args.output, args.jobs, given)
    except Exception as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 1


def run_local(
    config: Config,
    folder: Path,
    output: str | None = None,
    jobs: int = 2,
    arguments: Mapping[str, Any] | None = None,
) -> int:
    """Compiles the pipeline with a folder of this machine as its bucket, and runs what was written.

    Args:
      config: the shop.
      folder: stands for the bucket; artifacts, pushed versions and the cache go there.
      output: the compiled file; ``<folder>/pipeline.yaml`` if None.
      jobs: tasks at the same time.
      arguments: values of `kubeflow.parameters`, by the parameter's name.

    Returns:
      The exit status: 0, 130 or 143 when interrupted.

    Raises:
      UserError: a setting that cannot work, or a task that failed.
      OSError: the folder cannot be written.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: expected at least 1")
    path = Path(output).absolute() if output else folder / "pipeline.yaml"
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--output {output}: expected a name that ends in .yaml, as that is what runs here")
    here = {
        "pipeline_root": str(folder / "artifacts"),
        "serving_dir": str(folder / "serving" / "shelfwise"),
        "project_dir": str(_ROOT),
    }
    compile_spec(config.model_copy(update={"kubeflow": config.kubeflow.model_copy(update=here)}), path)
    from kubeflow import local
    from pipeline.run import execution, signals

    execution.keep_private(folder)
    plan = local.Plan.of_file(path)
    run = local.LocalRun(plan, folder / "artifacts", _ROOT, jobs)
    with signals.as_exceptions() as interruption:
        try:
            run.run(arguments)
        except KeyboardInterrupt:
            print(execution.INTERRUPTED, file=sys.stderr)
            return interruption.status
    print(f"artifacts and logs: {run.folder}")
    print(f"pushed versions: {here['serving_dir']}")
    return 0


def compile_spec(config: Config, output: Path) -> None:
    """Writes the spec and says on stdout what it is and what to know about it.

    Args:
      config: the shop.
      output: file to write, `.yaml`, `.yml` or `.json`.

    Raises:
      UserError: a setting that cannot work in containers.
      OSError: the file cannot be written.
    """
    if output.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError(f"--output {output}: expected a name that ends in .yaml, .yml or .json")
    root, serving_dir = _folders(config)
    shop = inputs.as_in_image(config)
    # Kubeflow's names have no underscore.
    shop = shop.model_copy(update={"name": config.name.replace("_", "-")})
    inputs.check_places(shop)
    parameters.defaults(shop)  # what is wrong with them is said before TFX is imported
    from kubeflow import dag_runner
    from pipeline.pipeline import create_pipeline

    def build(of_shop: Config) -> Pipeline:
        return create_pipeline(
            of_shop, pipeline_root=root, metadata_path=None, serving_dir=serving_dir, fingerprint=None
        )

    pipeline = build(shop)
    uncached = [node.id for node in pipeline.components if node.id.endswith(_UNCACHED)]
    runner = dag_runner.KubeflowDagRunner(shop, output.absolute(), build, uncached)
    spec = runner.run(pipeline)["pipelineSpec"]
    steps = spec_lib.containers(spec)
    images = ", ".join(sorted({container["image"] for container in steps.values()}))
    print(f"{runner.output}: pipeline {shop.name}, {len(steps)} containers of {images}, root {root}")
    if output.suffix == ".json" and spec_lib.platforms(spec, shop.kubeflow):
        print(
            "note: node selectors, tolerations, secrets and volumes are for open-source Kubeflow Pipelines, "
            "which takes a .yaml; a PipelineJob has no place for them"
        )


def _folders(config: Config) -> tuple[str, str]:
    """Pipeline root and serving folder."""
    root = config.kubeflow.pipeline_root.rstrip("/")
    folders = {
        "pipeline_root": root,
        "serving_dir": (config.kubeflow.serving_dir or f"{root}/serving/shelfwise").rstrip("/"),
    }
    for name, folder in folders.items():
        if "://" not in folder and not folder.startswith("/"):
            raise ConfigError(
                f"kubeflow.{name}: '{folder}' means nothing to a container; give a URL such as "
                "gs://bucket/folder or an absolute path that all containers mount"
            )
    return folders["pipeline_root"], folders["serving_dir"]


def _quiet() -> None:
    """Keeps TensorFlow's, TFX's and Beam's log lines from the terminal; errors are raised."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # it logs as it starts; nothing is computed here
    logging.disable(logging.WARNING)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Compiles the pipeline to a spec for Kubeflow Pipelines and Vertex AI.",
        epilog="SHELFWISE_CONFIG, SHELFWISE_SAMPLE and SHELFWISE_SPEC in the environment are the defaults of "
        "--config, --sample and --output; `tfx pipeline compile --engine=vertex` is configured by them.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="file to write: .yaml for the KFP SDK, .json for a PipelineJob (default: pipeline.yaml)",
    )
    parser.add_argument(
        "--run-local",
        metavar="DIR",
        help="also run what was compiled, on this machine: each task by the command of its container, with "
        "DIR in place of the bucket",
    )
    parser.add_argument(
        "--parameter",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="with --run-local: the value of one of kubeflow.parameters; can be repeated",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=2, help="tasks that --run-local runs at once (default: 2)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
