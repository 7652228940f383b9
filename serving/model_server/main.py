"""The server process: flags, threads, signals, readiness and shutdown."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent import futures

from serving.model_server import flags

_log = logging.getLogger("serving.model_server")
_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_PORT_ERROR = "--port: {} is in use or not allowed; give another, or 0 for a free one"


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server until SIGTERM or SIGINT.

    Args:
      arguments: the command line without the program name; None reads `sys.argv`.

    Returns:
      The exit status: 0 after a drained shutdown, 1 when the port cannot be had.
    """
    config = flags.parse(arguments)
    # Before TensorFlow is imported (seconds): its start-up chatter would bury our lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    stop = threading.Event()
    if not _is_free(config.port):  # before the slow imports
        print(_PORT_ERROR.format(config.port), file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return _serve(config, stop)


def _serve(config: flags.Config, stop: threading.Event) -> int:
    import grpc
    import tensorflow as tf
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    from serving.model_server import config_files, servable, warmup
    from serving.model_server.errors import StatusError
    from serving.model_server.model_service import ModelService
    from serving.model_server.prediction_service import PredictionService
    from serving.model_server.server_core import ServerCore, single_model
    from serving.model_server.version_manager import Policy, VersionManager

    tf.config.threading.set_intra_op_parallelism_threads(config.tensorflow_intra_op_parallelism)
    tf.config.threading.set_inter_op_parallelism_threads(config.tensorflow_inter_op_parallelism)
    # What is imported by now never becomes garbage; collections after a version swap would
    # walk all of it while requests wait.
    gc.freeze()

    pool = _CountingPool(config.grpc_max_threads)
    server = grpc.server(
        pool,
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a helper
        ],
    )
    health_servicer = health.HealthServicer()
    _set_health(health_servicer, health_pb2.HealthCheckResponse.NOT_SERVING)
    try:
        port = server.add_insecure_port(f"[::]:{config.port}")
    except RuntimeError:
        port = 0
    if not port:
        print(_PORT_ERROR.format(config.port), file=sys.stderr)
        return 1

    def make_manager(name: str, base_path: str, policy: Policy) -> VersionManager:
        def load(path: str, version: int) -> servable.Servable:
            started = time.monotonic()
            loaded = servable.load(path, version)
            warmed = warmup.warm_up(loaded) if config.enable_model_warmup else 0
            seconds = time.monotonic() - started
            _log.info(
                "loaded version %d of %s in %.1f s, %d warm-up requests", version, name, seconds, warmed
            )
            return loaded

        def announce(version: int) -> None:
            if not stop.is_set() and core.all_serve():
                _set_health(health_servicer, health_pb2.HealthCheckResponse.SERVING)
            print(f"serving {name} version {version} on port {port}", flush=True)

        return VersionManager(
            name,
            base_path,
            load,
            config.file_system_poll_wait_seconds,
            announce,
            policy,
        )

    core = ServerCore(make_manager, config.allow_version_labels_for_unavailable_models)
    try:
        if config.model_config_file:
            models = config_files.read_models(config.model_config_file)
        else:
            models = single_model(config.model_name, config.model_base_path)
    except StatusError as error:
        print(f"--model_config_file: {error.message}", file=sys.stderr)
        return 1
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(core, config.enable_serialization_as_tensor_content), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    server.start()
    if config.port_file:
        _write(config.port_file, f"{port}\n")
    try:
        core.reload(models)
    except StatusError as error:
        print(f"--model_config_file: {config.model_config_file}: {error.message}", file=sys.stderr)
        return 1
    if config.model_config_file and config.model_config_file_poll_wait_seconds > 0:
        core.watch_file(config.model_config_file, config.model_config_file_poll_wait_seconds)

    stop.wait()
    _log.info("stopping: %d requests to finish", pool.pending)
    core.stop()
    health_servicer.enter_graceful_shutdown()
    _drain(server, pool, config.shutdown_grace_seconds)
    _log.info("stopped")
    logging.shutdown()
    sys.stdout.flush()
    # A version may be half-way through loading in its thread, and tearing TensorFlow down
    # under it crashes. Everything that matters has ended.
    os._exit(0)


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
