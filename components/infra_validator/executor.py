"""Starts a real model server on the candidate model and sends it real requests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc

_START_SECONDS = 180.0
_CALL_SECONDS = 60.0
_STOP_SECONDS = 20.0
_MODEL = "shelfwise"
# What the server logs of a version that it cannot load. (A bare "failed" also stands in
# TensorFlow's own log of a healthy start, e.g. where a GPU build finds no driver.)
_REFUSED = "does not serve: "
_WARMUP = os.path.join("assets.extra", "tf_serving_warmup_requests")


def requests_of(folder: str) -> list[predict_pb2.PredictRequest]:
    """The warm-up requests inside a SavedModel.

    Raises:
      FileNotFoundError: it has none.
    """
    path = os.path.join(folder, _WARMUP)
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(f"{path}: the model carries no warm-up requests to validate it with")
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset([path]).as_numpy_iterator()
    ]
    return [log.predict_log.request for log in logs]


@contextlib.contextmanager
def model_server(folder: str) -> Iterator[str]:
    """Runs `serving.model_server` on one SavedModel in its own process.

    Args:
      folder: SavedModel; it is served as version 1 from a link to it.

    Yields:
      The server's address.

    Raises:
      RuntimeError: it does not become ready; the message has the end of its log.
    """
    with tempfile.TemporaryDirectory() as base:
        os.symlink(os.path.abspath(folder), os.path.join(base, "1"), target_is_directory=True)
        log_path, port_path = os.path.join(base, "server.log"), os.path.join(base, "port")
        command = [sys.executable, "-m", "serving.model_server", "--port=0", f"--port_file={port_path}"]
        command += [
            f"--model_name={_MODEL}",
            f"--model_base_path={base}",
            "--file_system_poll_wait_seconds=1",
        ]
        with open(log_path, "w", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield f"localhost:{_ready_port(process, log_path, port_path)}"
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready_port(process: subprocess.Popen, log_path: str, port_path: str) -> int:
    """The port, once the server says that it serves the model."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with open(log_path, encoding="utf-8", errors="replace") as log:
            text = log.read()
        if f"serving {_MODEL} version" in text and os.path.exists(port_path):
            with open(port_path, encoding="utf-8") as file:
                return int(file.read())
        if process.poll() is not None or _REFUSED in text:
            break
        time.sleep(0.2)
    with open(log_path, encoding="utf-8", errors="replace") as log:
        lines = [line for line in log.read().splitlines() if line.strip()]
    told = [line for line in lines if _REFUSED in line] or lines[-3:]
    raise RuntimeError("the model server did not serve the model: " + " | ".join(told))


def validate(folder: str) -> tuple[bool, str]:
    """Sends every warm-up request to a server and checks the answers.

    Args:
      folder: SavedModel.

    Returns:
      (whether all answers were sound, a line for a person).
    """
    try:
        requests = requests_of(folder)
        with model_server(folder) as address, grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            times = []
            for request in requests:
                started = time.perf_counter()
                answer = stub.Predict(request, timeout=_CALL_SECONDS)
                times.append(time.perf_counter() - started)
                for name, value in answer.outputs.items():
                    array = tf.make_ndarray(value)
                    if array.dtype.kind == "f" and not np.isfinite(array).all():
                        return (
                            False,
                            f"signature {request.model_spec.signature_name}: output '{name}' is not finite",
                        )
                    if not array.size:
                        return (
                            False,
                            f"signature {request.model_spec.signature_name}: output '{name}' is empty",
                        )
    except (RuntimeError, FileNotFoundError, grpc.RpcError) as error:
        return False, " ".join(str(error).split())[:500]
    return True, f"{len(requests)} requests answered over gRPC, median {np.median(times) * 1000:.1f} ms"
