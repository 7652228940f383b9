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
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    # Run as a file (the TFX command line does), the first place to import from is this folder.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT / "kubeflow"]
    sys.path.insert(0, str(_ROOT))

from kubeflow import inputs  # noqa: E402
from kubeflow import spec as spec_lib  # noqa: E402
from pipeline.run.command import Parser, add_config_arguments, error_line, load_config  # noqa: E402
from schema.config import Config  # noqa: E402
from schema.errors import ConfigError  # noqa: E402

_EXAMPLE_GENS = ("CatalogExampleGen", "EventExampleGen")
# They read the folder of pushed versions, of which no cache key knows. What follows gets their answer
# as a parameter, and is cached by its value.
_REGISTRY = ("BaselineModel", "WarmStartModel")


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
        compile_spec(load_config(args), Path(args.output))
    except Exception as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 1
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
    fingerprints = inputs.Fingerprints(config)
    from kubeflow import dag_runner
    from pipeline.pipeline import create_pipeline

    pipeline = create_pipeline(
        shop, pipeline_root=root, metadata_path=None, serving_dir=serving_dir, fingerprint=fingerprints
    )
    uncached = (*_REGISTRY, *(_EXAMPLE_GENS if fingerprints.unreachable else ()))
    runner = dag_runner.KubeflowDagRunner(config.kubeflow, output.absolute(), uncached)
    spec = runner.run(pipeline)["pipelineSpec"]
    steps = spec_lib.containers(spec)
    image = next(iter(steps.values()))["image"]
    print(f"{runner.output}: pipeline {shop.name}, {len(steps)} containers of {image}, root {root}")
    if fingerprints.unreachable:
        print(
            f"note: not reachable from here: {', '.join(fingerprints.unreachable)}; "
            f"{' and '.join(_EXAMPLE_GENS)} will read the data in every run, without caching"
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
        default=os.environ.get("SHELFWISE_SPEC") or "pipeline.yaml",
        help="file to write: .yaml for the KFP SDK, .json for a PipelineJob (default: pipeline.yaml)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
