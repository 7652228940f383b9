"""The server process: flags, threads, signals, readiness and shutdown."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any

from serving.model_server.process import flags, logs

if TYPE_CHECKING:  # TensorFlow takes seconds to import: only once the flags are right
    from serving.model_server.core.metrics import Metrics
    from serving.model_server.core.servable import Servable

_log = logging.getLogger("serving.model_server")
_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_PORT_ERROR = "--{}: {} is in use or not allowed; give another"


class _CountingPool(futures.ThreadPoolExecutor):
    """A thread pool that knows whether any call is queued or running."""

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers, thread_name_prefix="grpc")
        self._count_lock = threading.Lock()
        self.pending = 0

    def submit(self, *arguments: object, **more: object) -> futures.Future:
        with self._count_lock:
            self.pending += 1
        future = super().submit(*arguments, **more)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: futures.Future) -> None:
        with self._count_lock:
            self.pending -= 1


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m serving.model_server") -> int:
    """Runs the server until SIGTERM or SIGINT.

    Args:
      arguments: the command line without the program name; None reads `sys.argv`.
      prog: the program's name in its help.

    Returns:
      The exit status: 0 after a drained shutdown, 1 when a port cannot be had or a file of
      the command line is wrong.
    """
    config = flags.parse(arguments, prog)
    # Before TensorFlow is imported (seconds): its start-up chatter would bury our lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    logs.configure(config.log_format)
    stop = threading.Event()
    # Before the slow imports.
    if not _is_free(config.port):
        return _refuse(_PORT_ERROR.format("port", config.port))
    if config.rest_api_port > 0 and not _is_free(config.rest_api_port):
        return _refuse(_PORT_ERROR.format("rest_api_port", config.rest_api_port))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return _serve(config, stop)


def _serve(config: flags.Config, stop: threading.Event) -> int:
    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    from serving.model_server.core import predictor
    from serving.model_server.core.batching import Batcher
    from serving.model_server.core.errors import StatusError
    from serving.model_server.core.metrics import Metrics
    from serving.model_server.core.server_core import ServerCore, single_model
    from serving.model_server.core.version_manager import Policy, VersionManager
    from serving.model_server.grpc_api import service_descriptors
    from serving.model_server.grpc_api.model_service import ModelService
    from serving.model_server.grpc_api.prediction_service import PredictionService
    from serving.model_server.http_api.rest import RestApi, RestServer
    from serving.model_server.process import config_files

    def read(flag: str, reader: Callable[[str], Any], default: Any) -> Any:
        path = getattr(config, flag)
        try:
            return reader(path) if path else default
        except StatusError as error:
            raise _WrongFile(f"--{flag}: {error.message}") from error

    try:
        models = read(
            "model_config_file",
            config_files.read_models,
            single_model(config.model_name, config.model_base_path),
        )
        batching = read("batching_parameters_file", config_files.read_batching, config_files.Batching())
        ssl = read("ssl_config_file", config_files.read_ssl, None)
        metrics_path = read("monitoring_config_file", config_files.read_monitoring, None)
    except _WrongFile as error:
        return _refuse(str(error))

    # What is imported by now never becomes garbage; collections after a version swap would
    # walk all of it while requests wait.
    gc.freeze()

    metrics = Metrics()

    def execute(
        version: Servable, signature: str, inputs: predictor.Arrays, deadline: float | None = None
    ) -> predictor.Arrays:
        begun = time.monotonic()
        outputs = predictor.execute(version, signature, inputs, deadline)
        metrics.runtime(version.model, "Predict", time.monotonic() - begun)
        return outputs

    executor: predictor.Executor = Batcher(batching, execute, metrics) if config.enable_batching else execute

    pool = _CountingPool(config.grpc_max_threads)
    server = grpc.server(
        pool,
        options=[
            ("grpc.max_receive_message_length", min(config.max_request_bytes, 2**31 - 1)),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a helper
            *flags.channel_arguments(config.grpc_channel_arguments),
        ],
    )
    health_servicer = health.HealthServicer()
    _set_health(health_servicer, health_pb2.HealthCheckResponse.NOT_SERVING)
    address = f"[::]:{config.port}"
    try:
        if ssl is None:
            port = server.add_insecure_port(address)
        else:
            credentials = grpc.ssl_server_credentials(
                [(ssl.server_key, ssl.server_certificate)],
                root_certificates=ssl.client_authority,
                require_client_auth=ssl.client_authority is not None,
            )
            port = server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if not port:
        if ssl is not None and _is_free(config.port):
            return _refuse(f"--ssl_config_file: {config.ssl_config_file}: gRPC refuses its keys")
        return _refuse(_PORT_ERROR.format("port", config.port))

    def make_manager(name: str, base_path: str, policy: Policy) -> VersionManager:
        def announce(version: int) -> None:
            if not stop.is_set() and core.all_serve():
                _set_health(health_servicer, health_pb2.HealthCheckResponse.SERVING)
            print(f"serving {name} version {version} on port {port}", flush=True)

        return VersionManager(
            name,
            base_path,
            functools.partial(_load, metrics, name, config),
            config.file_system_poll_wait_seconds,
            announce,
            policy,
            config.max_concurrent_requests_per_model,
        )

    core = ServerCore(make_manager, config.allow_version_labels_for_unavailable_models)
    rest = None
    if config.rest_api_port:
        api = RestApi(
            core, executor, metrics, metrics_path, lambda: metrics.page(core.states(), pool.pending)
        )
        try:
            rest = RestServer(
                api,
                max(config.rest_api_port, 0),
                config.rest_api_num_threads,
                config.rest_api_timeout_in_ms / 1000,
                config.max_request_bytes,
                config.rest_api_enable_cors_support,
            )
        except OSError:
            return _refuse(_PORT_ERROR.format("rest_api_port", config.rest_api_port))

    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(core, metrics, config.enable_serialization_as_tensor_content, executor), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core, metrics), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = [*filter(None, _SERVICES), health.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server, service_descriptors.pool())
    server.start()
    if rest is not None:
        rest.start()
        _log.info("REST on port %d", rest.port)
        if config.rest_api_port_file:
            _write(config.rest_api_port_file, f"{rest.port}\n")
    if config.port_file:
        _write(config.port_file, f"{port}\n")
    try:
        core.reload(models)
    except StatusError as error:
        return _refuse(f"--model_config_file: {config.model_config_file}: {error.message}")
    if config.model_config_file and config.model_config_file_poll_wait_seconds > 0:
        core.watch_file(config.model_config_file, config.model_config_file_poll_wait_seconds)

    stop.wait()
    _log.info("stopping: %d requests to finish", pool.pending + (rest.in_work if rest else 0))
    core.stop()
    health_servicer.enter_graceful_shutdown()
    until = time.monotonic() + config.shutdown_grace_seconds
    _drain(server, pool, config.shutdown_grace_seconds)
    if rest is not None:
        rest.stop(until)
    _log.info("stopped")
    logging.shutdown()
    sys.stdout.flush()
    # A version may be half-way through loading in its thread, and tearing TensorFlow down
    # under it crashes. Everything that matters has ended.
    os._exit(0)


class _WrongFile(Exception):
    """A file that the command line names is wrong; the message is one line."""


def _load(metrics: Metrics, name: str, config: flags.Config, path: str, version: int) -> Servable:
    """Loads a version and verifies that it answers its warm-up requests."""
    from serving.model_server.core import servable, warmup
    from serving.model_server.core.errors import StatusError

    started = time.monotonic()
    try:
        loaded = servable.load(
            path,
            version,
            name,
            config.tensorflow_intra_op_parallelism,
            config.tensorflow_inter_op_parallelism,
        )
        begun = time.monotonic()
        warmed = warmup.warm_up(loaded) if config.enable_model_warmup else 0
    except StatusError as error:
        metrics.loaded(path, error.code.name)
        raise
    metrics.loaded(path, "OK")
    metrics.warmed(path, "OK", time.monotonic() - begun)
    seconds = time.monotonic() - started
    _log.info("loaded version %d of %s in %.1f s, %d warm-up requests", version, name, seconds, warmed)
    return loaded


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _set_health(servicer: object, status: int) -> None:
    for service in _SERVICES:
        servicer.set(service, status)


def _drain(server: object, pool: _CountingPool, grace_seconds: float) -> None:
    # stop() refuses new calls at once but also waits for health watchers, who never leave, so
    # our own count says when the real work has ended.
    stopped = server.stop(grace_seconds)
    end = time.monotonic() + grace_seconds
    while pool.pending and time.monotonic() < end and not stopped.is_set():
        time.sleep(0.01)
    stopped.wait(0.2)  # lets the last answers leave
    server.stop(None).wait(1)


def _write(path: str, text: str) -> None:
    partial = f"{path}.partial"
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(partial, path)  # a reader sees no file or the whole of it
