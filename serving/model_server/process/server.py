"""The whole server: both ports, the models behind them, health, and an orderly end."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, NoReturn

import grpc
import tensorflow as tf
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.core import predictor, servable, warmup
from serving.model_server.core.batching import Batcher, Batching
from serving.model_server.core.errors import StatusError
from serving.model_server.core.metrics import Metrics
from serving.model_server.core.predictor import Executor
from serving.model_server.core.servable import Servable
from serving.model_server.core.server_core import ServerCore, single_model
from serving.model_server.core.version_manager import VersionManager
from serving.model_server.core.versions import Policy
from serving.model_server.core.workers import Workers
from serving.model_server.grpc_api import service_descriptors
from serving.model_server.grpc_api.model_service import ModelService
from serving.model_server.grpc_api.prediction_service import PredictionService
from serving.model_server.http_api.http_server import Limits, RestServer
from serving.model_server.http_api.rest import RestApi
from serving.model_server.process import config_files, flags, ports

_log = logging.getLogger("serving.model_server")
_LOOK_SECONDS = 0.2  # between two looks at whether a signal has come
_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")


class Refused(Exception):
    """The server cannot start; the message is one line."""


def serve(config: flags.Config, stop: threading.Event) -> NoReturn:
    """Loads the first models, then answers until `stop` is set, and ends the process with status 0.

    The status is 1, after a line on stderr, when somebody took a port while the models were loaded.

    Raises:
      Refused: a file of the command line is wrong.
    """
    files = _read_files(config)
    # What is imported by now never becomes garbage; collections after a version swap would
    # walk all of it while requests wait.
    gc.freeze()
    server = _Server(config, files, stop)
    try:
        server.core.reload(files.models)
    except StatusError as error:
        raise Refused(f"--model_config_file: {config.model_config_file}: {error.message}") from error
    if config.model_config_file and config.model_config_file_poll_wait_seconds > 0:
        server.core.watch_file(
            config.model_config_file, config.model_config_file_poll_wait_seconds, config_files.read_models
        )
    # As in TensorFlow Serving, nobody is answered before the first models can answer.
    server.core.wait_looked(stop)
    status = 0
    if not stop.is_set():
        try:
            server.start()
            # Python handles a signal in this thread, but the kernel may give it to another one, and then
            # nothing would end an endless wait.
            while not stop.wait(_LOOK_SECONDS):
                pass
        except (Refused, ports.NotWritable) as error:
            print(error, file=sys.stderr)
            status = 1
    server.stop()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # its disk is full
            stream.flush()
    # A version may be half-way through loading in its thread, and tearing TensorFlow down
    # under it crashes. Everything that matters has ended.
    os._exit(status)


@dataclasses.dataclass(frozen=True)
class _Files:
    """What the files say that the command line names."""

    models: model_server_config_pb2.ModelServerConfig
    batching: Batching
    ssl: config_files.Ssl | None
    metrics_path: str | None


def _read_files(config: flags.Config) -> _Files:
    """Reads them.

    Raises:
      Refused: one is wrong.
    """

    def read(flag: str, reader: Callable[[str], Any], default: Any) -> Any:
        path = getattr(config, flag)
        try:
            return reader(path) if path else default
        except StatusError as error:
            raise Refused(f"--{flag}: {error.message}") from error

    single = single_model(config.model_name, config.model_base_path)
    return _Files(
        models=read("model_config_file", config_files.read_models, single),
        batching=read("batching_parameters_file", config_files.read_batching, Batching()),
        ssl=read("ssl_config_file", config_files.read_ssl, None),
        metrics_path=read("monitoring_config_file", config_files.read_monitoring, None),
    )


class _CountingPool(Workers):
    """A thread pool that knows whether any call is queued or running."""

    def __init__(self, count: int) -> None:
        super().__init__(count, "grpc")
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


class _Server:
    """Both ports, the models behind them, and health.

    The models are there first: `core` takes a configuration before `start` opens the ports.

    Args:
      config: the command line.
      files: what its files say.
      stop: set when the process is to end.

    Raises:
      Refused: gRPC refuses the keys.
    """

    def __init__(self, config: flags.Config, files: _Files, stop: threading.Event) -> None:

        self._config = config
        self._files = files
        self._stopping = stop
        self._metrics = Metrics()
        self._pool = _CountingPool(config.grpc_max_threads)
        self._health = health.HealthServicer()
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.core = ServerCore(self._make_manager, config.allow_version_labels_for_unavailable_models)
        self._executor = _executor(config, files.batching, self._metrics)
        self._grpc: grpc.Server | None = None
        self._rest: RestServer | None = None
        self._announcing = threading.Lock()
        self._held: list[tuple[str, int]] | None = []  # what serves, until there is a port to tell
        self._port = 0
        if files.ssl is not None:
            _check_keys(config, files.ssl)

    def start(self) -> None:
        """Opens the ports, begins to answer, and writes the files that say at which ports.

        Raises:
          Refused: a port, or the unix socket, cannot be had.
          ports.NotWritable: a file cannot be written.
        """
        if self._config.profiler_port:
            tf.profiler.experimental.server.start(self._config.profiler_port)
            _log.info("profiler on port %d", self._config.profiler_port)
        self._grpc, self._port = _bind_grpc(self._config, self._pool, self._files.ssl)
        if self._config.rest_api_port:
            self._rest = self._bind_rest(self._executor, self._files.metrics_path)
        self._add_services(self._grpc, self._executor)
        self._grpc.start()
        _log.info("gRPC on port %d", self._port)
        if self._rest is not None:
            self._rest.start()
            _log.info("REST on port %d", self._rest.port)
            if self._config.rest_api_port_file:
                ports.write(self._config.rest_api_port_file, self._rest.port)
        if self._config.port_file:
            ports.write(self._config.port_file, self._port)
        with self._announcing:
            held, self._held = self._held or [], None
            for name, version in held:
                self._say(name, version)

    def stop(self) -> None:
        """Takes no more requests and lets those in work end, as long as the grace time allows."""
        rest, grace = self._rest, self._config.shutdown_grace_seconds
        _log.info("stopping: %d requests to finish", self._pool.pending + (rest.in_work if rest else 0))
        self.core.stop()
        self._health.enter_graceful_shutdown()
        if rest is not None:
            rest.drain()
        until = time.monotonic() + grace
        if self._grpc is not None:
            _drain(self._grpc, self._pool, grace)
        if rest is not None:
            rest.stop(until)
        _log.info("stopped")

    def _bind_rest(self, executor: Executor, metrics_path: str | None) -> RestServer:

        def page() -> bytes:
            return self._metrics.page(self.core.states(), self._pool.pending)

        config = self._config
        try:
            return RestServer(
                RestApi(self.core, executor, self._metrics, metrics_path, page, config.max_rows),
                config.host,
                max(config.rest_api_port, 0),
                Limits(
                    config.rest_api_num_threads,
                    config.rest_api_timeout_in_ms / 1000,
                    min(config.max_request_bytes, config.max_json_bytes),
                    config.rest_api_max_connections,
                ),
                config.rest_api_enable_cors_support,
            )
        except OSError as error:
            raise Refused(ports.PORT_ERROR.format("rest_api_port", config.rest_api_port)) from error

    def _add_services(self, server: grpc.Server, executor: Executor) -> None:

        as_content = self._config.enable_serialization_as_tensor_content
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(
                self.core, self._metrics, as_content, executor, self._config.max_filled_elements
            ),
            server,
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(self.core, self._metrics, self._config.enable_reload_config), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*filter(None, _SERVICES), health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server, service_descriptors.pool())

    def _make_manager(self, name: str, base_path: str, policy: Policy) -> VersionManager:

        def announce(version: int) -> None:
            if not self._stopping.is_set() and self.core.all_serve():
                self._set_health(health_pb2.HealthCheckResponse.SERVING)
            with self._announcing:
                if self._held is None:
                    self._say(name, version)
                else:
                    self._held.append((name, version))

        return VersionManager(
            name,
            base_path,
            functools.partial(_load, self._metrics, name, self._config),
            self._config.file_system_poll_wait_seconds,
            announce,
            policy,
            self._config.max_concurrent_requests_per_model,
        )

    def _say(self, name: str, version: int) -> None:
        # A full disk under what is printed is no reason not to answer.
        with contextlib.suppress(OSError):
            print(f"serving {name} version {version} on port {self._port}", flush=True)

    def _set_health(self, status: int) -> None:
        for service in _SERVICES:
            self._health.set(service, status)


def _executor(config: flags.Config, batching: Batching, metrics: Metrics) -> Executor:
    """What runs a signature: at once, or in batches; the graph's time is counted."""

    def execute(
        version: Servable, signature: str, inputs: predictor.Arrays, deadline: float | None = None
    ) -> predictor.Arrays:
        begun = time.monotonic()
        outputs = predictor.execute(version, signature, inputs, deadline)
        metrics.runtime(version.model, "Predict", time.monotonic() - begun)
        return outputs

    executor = Batcher(batching, execute, metrics) if config.enable_batching else execute
    return predictor.limit_rows(executor, config.max_rows)


def _bind_grpc(
    config: flags.Config, pool: _CountingPool, ssl: config_files.Ssl | None
) -> tuple[grpc.Server, int]:
    """The gRPC server, without services, and its port.

    Raises:
      Refused: the port cannot be had, or gRPC refuses the keys.
    """
    server = grpc.server(
        pool,
        maximum_concurrent_rpcs=config.grpc_max_concurrent_rpcs,
        options=[
            ("grpc.max_receive_message_length", min(config.max_request_bytes, 2**31 - 1)),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a helper
            *flags.channel_arguments(config.grpc_channel_arguments),
        ],
    )

    def bind(address: str) -> int:
        try:
            if ssl is None:
                return server.add_insecure_port(address)
            credentials = grpc.ssl_server_credentials(
                [(ssl.server_key, ssl.server_certificate)],
                root_certificates=ssl.client_authority,
                require_client_auth=ssl.client_authority is not None,
            )
            return server.add_secure_port(address, credentials)
        except RuntimeError:
            return 0

    port = bind(f"{_bracketed(config.host) or '[::]'}:{config.port}")
    if not port:
        if ssl is not None and ports.is_free(config.port):
            raise Refused(f"--ssl_config_file: {config.ssl_config_file}: gRPC refuses its keys")
        raise Refused(ports.PORT_ERROR.format("port", config.port))
    if config.grpc_socket_path and not bind(f"unix:{config.grpc_socket_path}"):
        raise Refused(f"--grpc_socket_path: {config.grpc_socket_path} cannot be a socket; give another path")
    return server, port


def _check_keys(config: flags.Config, ssl: config_files.Ssl) -> None:
    """Tells of wrong keys now, and not after the minutes that a model may take to load.

    Raises:
      Refused: gRPC refuses them.
    """
    trial = dataclasses.replace(config, port=0, grpc_socket_path=None)
    server, _ = _bind_grpc(trial, _CountingPool(1), ssl)
    server.start()  # only what was started lets go of its port
    server.stop(None).wait()


def _bracketed(host: str) -> str:
    """A host in the form that precedes a port."""
    return f"[{host}]" if ":" in host else host


def _load(metrics: Metrics, name: str, config: flags.Config, path: str, version: int) -> Servable:
    """Loads a version and verifies that it answers its warm-up requests."""
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


def _drain(server: grpc.Server, pool: _CountingPool, grace_seconds: float) -> None:
    # stop() refuses new calls at once but also waits for health watchers, who never leave, so
    # our own count says when the real work has ended.
    stopped = server.stop(grace_seconds)
    end = time.monotonic() + grace_seconds
    while pool.pending and time.monotonic() < end and not stopped.is_set():
        time.sleep(0.01)
    stopped.wait(0.2)  # lets the last answers leave
    server.stop(None).wait(1)
