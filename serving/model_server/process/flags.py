"""The server's command line: flags named as those of `tensorflow_model_server`."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence

from serving.model_server.process.foreign_flags import FLAGS as FOREIGN


@dataclasses.dataclass(frozen=True)
class Config:
    """What the server was asked to do. Field names are the flags' names."""

    model_base_path: str = ""
    model_name: str = "shelfwise"
    model_config_file: str | None = None
    model_config_file_poll_wait_seconds: float = 0.0
    allow_version_labels_for_unavailable_models: bool = False
    file_system_poll_wait_seconds: float = 1.0
    enable_model_warmup: bool = True
    enable_reload_config: bool = False
    host: str = ""
    port: int = 8500
    port_file: str | None = None
    grpc_socket_path: str | None = None
    grpc_max_threads: int = 8
    grpc_max_concurrent_rpcs: int = 1024
    grpc_channel_arguments: str = ""
    ssl_config_file: str | None = None
    rest_api_port: int = 0
    rest_api_port_file: str | None = None
    rest_api_num_threads: int = 8
    rest_api_timeout_in_ms: int = 30_000
    rest_api_max_connections: int = 512
    rest_api_enable_cors_support: bool = False
    monitoring_config_file: str | None = None
    enable_batching: bool = False
    batching_parameters_file: str | None = None
    max_request_bytes: int = 128 << 20
    max_json_bytes: int = 8 << 20
    max_rows: int = 1024
    max_filled_elements: int = 1 << 16
    max_concurrent_requests_per_model: int = 0
    enable_serialization_as_tensor_content: bool = False
    tensorflow_intra_op_parallelism: int = 1
    tensorflow_inter_op_parallelism: int = -1
    profiler_port: int = 0
    shutdown_grace_seconds: float = 30.0
    log_format: str = "text"
    # Lines for the log: flags of TensorFlow Serving that were given and mean nothing here.
    ignored: tuple[str, ...] = ()


_HELP: dict[str, str] = {
    "model_base_path": "folder with one numbered folder per version (required without --model_config_file)",
    "model_name": "name that requests use",
    "model_config_file": "text proto ModelServerConfig: several models, version policies, labels; "
    "--model_name and --model_base_path are then ignored",
    "model_config_file_poll_wait_seconds": "seconds between looks at --model_config_file; 0 reads it once",
    "allow_version_labels_for_unavailable_models": "let a new label name a version that does not serve yet",
    "file_system_poll_wait_seconds": "seconds between looks for new versions; 0 looks only once",
    "enable_model_warmup": "replay assets.extra/tf_serving_warmup_requests before a version serves",
    "enable_reload_config": "let whoever reaches the gRPC port replace the configuration "
    "(HandleReloadConfigRequest)",
    "host": "name or address that both ports listen at; nothing for every interface",
    "port": "TCP port for gRPC; 0 picks a free one",
    "port_file": "file to write the port to as soon as the server listens: when its first models are loaded",
    "grpc_socket_path": "unix socket on which gRPC listens too",
    "grpc_max_threads": "gRPC requests worked on at the same time",
    "grpc_max_concurrent_rpcs": "gRPC requests that are in work or wait for a thread; more are refused",
    "grpc_channel_arguments": "comma-separated name=value arguments of the gRPC server",
    "ssl_config_file": "text proto SSLConfig: TLS, and mTLS with client_verify, for gRPC",
    "rest_api_port": "TCP port for REST; 0 switches it off, -1 picks a free one",
    "rest_api_port_file": "file to write the REST port to, likewise",
    "rest_api_num_threads": "REST requests worked on at the same time",
    "rest_api_timeout_in_ms": "time a REST request may take, and a connection may be silent",
    "rest_api_max_connections": "REST connections at the same time; more are refused",
    "rest_api_enable_cors_support": "answer preflight requests and send CORS headers",
    "monitoring_config_file": "text proto MonitoringConfig: Prometheus metrics on the REST port",
    "enable_batching": "merge concurrent requests of one signature",
    "batching_parameters_file": "text proto BatchingParameters",
    "max_request_bytes": "longest request that is read, gRPC and REST",
    "max_json_bytes": "longest body of a REST request that is read, packed and unpacked",
    "max_rows": "rows of a request, the first size of each input; 0 for any number",
    "max_filled_elements": "elements of an input that a request may have filled by its last value",
    "max_concurrent_requests_per_model": "requests in work at the same time for one model; more are refused; "
    "0 for any number",
    "enable_serialization_as_tensor_content": "answer with packed tensor_content, not typed value fields",
    "tensorflow_intra_op_parallelism": "threads inside one op; 0 lets TensorFlow choose. "
    "Requests beside each other fill the cores",
    "tensorflow_inter_op_parallelism": "ops that run at the same time; 0 lets TensorFlow choose; "
    "-1 runs all of a request in one thread",
    "profiler_port": "port of TensorFlow's profiler, on every interface and without keys; 0 switches it off",
    "shutdown_grace_seconds": "on SIGTERM, how long running requests may take to end",
    "log_format": "text, or json: one object a line",
}
# Least value of each number.
_LEAST = {
    "model_config_file_poll_wait_seconds": 0,
    "file_system_poll_wait_seconds": 0,
    "grpc_max_threads": 1,
    "grpc_max_concurrent_rpcs": 1,
    "rest_api_num_threads": 1,
    "rest_api_timeout_in_ms": 1,
    "rest_api_max_connections": 1,
    "max_request_bytes": 1,
    "max_json_bytes": 1,
    "max_rows": 0,
    "max_filled_elements": 0,
    "max_concurrent_requests_per_model": 0,
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": -1,
    "shutdown_grace_seconds": 0,
}


def parse(arguments: Sequence[str] | None = None, prog: str = "python -m serving.model_server") -> Config:
    """Reads the command line.

    Args:
      arguments: without the program name; None reads `sys.argv`.
      prog: the program's name in its help.

    Returns:
      The checked configuration.

    Raises:
      SystemExit: a flag is unknown, missing or out of range (status 2, reason on stderr), or
        `--help` was asked for (status 0).
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serves versions of SavedModels over gRPC and REST, as TensorFlow Serving does.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    threads = 4 * (os.cpu_count() or 1)  # TF Serving's own default
    for field in dataclasses.fields(Config):
        if field.name not in _HELP:
            continue
        default = threads if field.name in ("grpc_max_threads", "rest_api_num_threads") else field.default
        kind = {"int": int, "float": float}.get(field.type, str)
        more = {"type": kind}
        if field.type == "bool":
            more = {"type": _boolean, "nargs": "?", "const": True, "metavar": "true|false"}
        if field.name == "log_format":
            more["choices"] = ("text", "json")
        parser.add_argument(f"--{field.name}", default=default, help=_HELP[field.name], **more)
    for name, (kind, _) in FOREIGN.items():
        more = {"type": _boolean, "nargs": "?", "const": True} if kind is bool else {"type": kind}
        parser.add_argument(f"--{name}", default=None, help=argparse.SUPPRESS, **more)
    parser.add_argument(
        "--use_alts_credentials", default=False, type=_boolean, nargs="?", const=True, help=argparse.SUPPRESS
    )
    given = vars(parser.parse_args(arguments))
    if given.pop("use_alts_credentials"):  # to go on without would leave the port open to anybody
        parser.error("--use_alts_credentials: is not done here; see --ssl_config_file")
    foreign = {name: given.pop(name) for name in FOREIGN}
    ignored = [
        f"--{name} has no effect here: {FOREIGN[name][1]}"
        for name, value in foreign.items()
        if value is not None
    ]
    config = Config(**given, ignored=tuple(ignored))

    if not config.model_base_path and not config.model_config_file:
        parser.error("--model_base_path: is required, or --model_config_file")
    if not 0 <= config.port <= 65535:
        parser.error(f"--port: {config.port} is not a port; give 0 to 65535")
    if not -1 <= config.rest_api_port <= 65535:
        parser.error(f"--rest_api_port: {config.rest_api_port} is not a port; give -1 to 65535")
    if config.rest_api_port == config.port and config.port:
        parser.error(f"--rest_api_port: {config.port} is the gRPC port too; give another")
    if not 0 <= config.profiler_port <= 65535:
        parser.error(f"--profiler_port: {config.profiler_port} is not a port; give 0 to 65535")
    if config.profiler_port and config.profiler_port in (config.port, config.rest_api_port):
        parser.error(f"--profiler_port: {config.profiler_port} is a port of the server; give another")
    if not config.model_name:
        parser.error("--model_name: is empty; give the name that requests use")
    if config.batching_parameters_file and not config.enable_batching:
        parser.error("--batching_parameters_file: needs --enable_batching")
    if config.monitoring_config_file and not config.rest_api_port:
        parser.error("--monitoring_config_file: metrics are on the REST port; give --rest_api_port too")
    for name, least in _LEAST.items():
        if not getattr(config, name) >= least:  # also refuses NaN
            parser.error(f"--{name}: {getattr(config, name)} is too small; give {least} or more")
    try:
        channel_arguments(config.grpc_channel_arguments)
    except ValueError as error:
        parser.error(f"--grpc_channel_arguments: {error}")
    return config


def channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """The (name, value) pairs of `--grpc_channel_arguments`.

    Raises:
      ValueError: a part is not name=value.
    """
    pairs: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        name, separator, value = part.partition("=")
        if not separator or not name:
            raise ValueError(f"'{part}' is not name=value")
        pairs.append((name, int(value) if value.lstrip("-").isdigit() else value))
    return pairs


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return values[text.lower()]
