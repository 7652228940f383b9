"""The server's command line: flags named as those of `tensorflow_model_server`."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Config:
    """What the server was asked to do. Field names are the flags' names."""

    model_base_path: str
    model_name: str = "shelfwise"
    port: int = 8500
    file_system_poll_wait_seconds: float = 1.0
    grpc_max_threads: int = 8
    enable_model_warmup: bool = True
    enable_serialization_as_tensor_content: bool = False
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    shutdown_grace_seconds: float = 30.0
    port_file: str | None = None


def parse(arguments: Sequence[str] | None = None) -> Config:
    """Reads the command line.

    Args:
      arguments: without the program name; None reads `sys.argv`.

    Returns:
      The checked configuration.

    Raises:
      SystemExit: a flag is unknown, missing or out of range (status 2, reason on stderr), or
        `--help` was asked for (status 0).
    """
    default = {field.name: field.default for field in dataclasses.fields(Config)}
    default["grpc_max_threads"] = 4 * (os.cpu_count() or 1)  # TF Serving's own default
    parser = argparse.ArgumentParser(
        prog="python -m serving.model_server",
        description="Serves the newest version of a SavedModel over gRPC, as TensorFlow Serving does.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )

    def add(name: str, kind: type, text: str, **more: object) -> None:
        if kind is bool:
            more |= {"type": _boolean, "nargs": "?", "const": True, "metavar": "true|false"}
        else:
            more["type"] = kind
        parser.add_argument(f"--{name}", default=default[name], help=text, **more)

    parser.add_argument(
        "--model_base_path",
        required=True,
        default=argparse.SUPPRESS,
        help="folder with one numbered folder per version (required)",
    )
    add("model_name", str, "name that requests use")
    add("port", int, "TCP port for gRPC; 0 picks a free one")
    add("port_file", str, "file to write the port to as soon as the server listens")
    add("file_system_poll_wait_seconds", float, "seconds between looks for new versions; 0 looks only once")
    add("grpc_max_threads", int, "requests worked on at the same time")
    add("enable_model_warmup", bool, "replay assets.extra/tf_serving_warmup_requests before a version serves")
    add(
        "enable_serialization_as_tensor_content",
        bool,
        "answer with packed tensor_content instead of typed value fields",
    )
    add("tensorflow_intra_op_parallelism", int, "threads inside one op; 0 lets TensorFlow choose")
    add("tensorflow_inter_op_parallelism", int, "ops that run at the same time; 0 lets TensorFlow choose")
    add("shutdown_grace_seconds", float, "on SIGTERM, how long running requests may take to end")
    config = Config(**vars(parser.parse_args(arguments)))

    if not 0 <= config.port <= 65535:
        parser.error(f"--port: {config.port} is not a port; give 0 to 65535")
    if config.grpc_max_threads < 1:
        parser.error(f"--grpc_max_threads: {config.grpc_max_threads} is too few; give 1 or more")
    if not config.model_name:
        parser.error("--model_name: is empty; give the name that requests use")
    for name in (
        "file_system_poll_wait_seconds",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
        "shutdown_grace_seconds",
    ):
        if not getattr(config, name) >= 0:  # also refuses NaN
            parser.error(f"--{name}: {getattr(config, name)} is negative; give 0 or more")
    return config


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return values[text.lower()]
