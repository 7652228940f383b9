"""Starts a real model server on the candidate model, and checks its answers and its latency."""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from schema.config import InfraValidation
from serving.model_server.core import predictor, servable
from serving.model_server.core.errors import StatusError

_START_SECONDS = 180.0
_CALL_SECONDS = 60.0
_STOP_SECONDS = 20.0
_ROUNDS, _MEASURE_SECONDS = 25, 30.0  # requests are repeated so often, at most so long, for the latency
_MODEL = "shelfwise"
_WARMUP = os.path.join("assets.extra", "tf_serving_warmup_requests")
_STATES = get_model_status_pb2.ModelVersionStatus


class _Refused(Exception):
    """The model cannot be served; the message says why."""


def validate(folder: str, settings: InfraValidation) -> tuple[bool, str]:
    """Sends every warm-up request to a server on the model.

    The answers must be the graph's own (as it answers in this process), finite, and lists must
    not be empty; and no signature's p99, one request at a time, may exceed the limit.

    Args:
      folder: SavedModel.
      settings: which server, and how slow it may be.

    Returns:
      (whether all is well, a line for a person).
    """
    try:
        requests = requests_of(folder)
        with model_server(folder, settings) as address, grpc.insecure_channel(address) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            answers = [_read(predict(request, timeout=_CALL_SECONDS)) for request in requests]
            _check_answers(folder, requests, answers)
            times = _latencies(predict, requests)
    except (_Refused, FileNotFoundError) as error:
        return False, str(error)[:500]
    except (StatusError, grpc.RpcError) as error:
        text = error.details() if isinstance(error, grpc.Call) else str(error)
        return False, " ".join(text.split())[:500]
    p99 = {name: float(np.percentile(of_one, 99)) for name, of_one in times.items()}
    slowest = max(p99, key=lambda name: p99[name])
    if p99[slowest] > settings.max_p99_ms:
        return False, (
            f"signature {slowest}: p99 {p99[slowest]:.1f} ms over {len(times[slowest])} requests, above "
            f"infra_validator.max_p99_ms {settings.max_p99_ms:g}; make the model smaller or allow more"
        )
    median = np.median(np.concatenate(list(times.values())))
    return True, (
        f"{len(requests)} requests answered over gRPC as by the graph, median {median:.1f} ms, "
        f"p99 {p99[slowest]:.1f} ms ({slowest})"
    )


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
def model_server(folder: str, settings: InfraValidation) -> Iterator[str]:
    """Runs `serving.model_server` or TensorFlow Serving on one SavedModel in its own process.

    Args:
      folder: SavedModel; it is served as version 1 from a link to it.
      settings: which server.

    Yields:
      The server's address, once the version is available.
    """
    program = [sys.executable, "-m", "serving.model_server"]
    if settings.server == "tensorflow_serving":
        program = [settings.binary]
    port = _free_port()
    with tempfile.TemporaryDirectory() as base:
        os.symlink(os.path.abspath(folder), os.path.join(base, "1"), target_is_directory=True)
        flags = [f"--port={port}", f"--model_name={_MODEL}", f"--model_base_path={base}"]
        log_path = os.path.join(base, "server.log")
        with open(log_path, "wb") as log:
            try:
                process = subprocess.Popen([*program, *flags], stdout=log, stderr=subprocess.STDOUT)
            except OSError as error:
                raise _Refused(
                    f"infra_validator.binary: {settings.binary} cannot be started ({error.strerror}); "
                    "give the path of tensorflow_model_server"
                ) from error
        try:
            address = f"localhost:{port}"
            _wait_available(address, process, log_path)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    # TensorFlow Serving does not choose one (its port 0 is off).
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _wait_available(address: str, process: subprocess.Popen, log_path: str) -> None:
    """Waits until the server says that the model is available; it may also say why it is not."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = _MODEL
    reason = f"not available after {_START_SECONDS:g} s"
    end = time.monotonic() + _START_SECONDS
    with grpc.insecure_channel(address, [("grpc.max_reconnect_backoff_ms", 500)]) as channel:
        ask = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
        while time.monotonic() < end:
            if process.poll() is not None:
                reason = f"it ended with status {process.returncode}"
                break
            with contextlib.suppress(grpc.RpcError):  # not listening, or has not looked yet
                for version in ask(request, timeout=5).model_version_status:
                    if version.state == _STATES.AVAILABLE:
                        return
                    if version.state == _STATES.END:
                        raise _Refused(
                            f"the model server did not serve the model: {version.status.error_message}"
                        )
            time.sleep(0.2)
    with open(log_path, encoding="utf-8", errors="replace") as log:
        lines = [line.strip() for line in log if line.strip()]
    raise _Refused(f"the model server did not serve the model: {reason}: " + " | ".join(lines[-3:]))


def _read(answer: predict_pb2.PredictResponse) -> dict[str, np.ndarray]:
    return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}


def _check_answers(
    folder: str,
    requests: Sequence[predict_pb2.PredictRequest],
    answers: Sequence[Mapping[str, np.ndarray]],
) -> None:
    graph = servable.load(folder, 1, _MODEL)
    for request, answer in zip(requests, answers, strict=True):
        expected = _read(predictor.run(graph, request))
        where = f"signature {request.model_spec.signature_name}: output"
        if answer.keys() != expected.keys():
            raise _Refused(f"{where}s are {sorted(answer)}, not {sorted(expected)}")
        for name, value in answer.items():
            own = expected[name]
            if not value.size:
                raise _Refused(f"{where} '{name}' is empty")
            if value.shape != own.shape:
                raise _Refused(f"{where} '{name}' has shape {value.shape}, the graph gives {own.shape}")
            if value.dtype.kind == "f":
                if not np.isfinite(value).all():
                    raise _Refused(f"{where} '{name}' is not finite")
                if not np.allclose(value, own, rtol=1e-2, atol=1e-4):
                    raise _Refused(
                        f"{where} '{name}' differs from the graph's by {np.abs(value - own).max():.3g}"
                    )
            # Which of two equal scores comes first may differ from one build of TensorFlow to the
            # next, so that texts are not compared; but there must be some.
            elif value.dtype == object and not (value != b"").any():
                raise _Refused(f"{where} '{name}' has no text for a request that should have some")


def _latencies(
    predict: grpc.UnaryUnaryMultiCallable, requests: Sequence[predict_pb2.PredictRequest]
) -> dict[str, list[float]]:
    """Milliseconds of each request, by signature."""
    times: dict[str, list[float]] = collections.defaultdict(list)
    end = time.monotonic() + _MEASURE_SECONDS
    for _ in range(_ROUNDS):
        for request in requests:
            started = time.perf_counter()
            predict(request, timeout=_CALL_SECONDS)
            times[request.model_spec.signature_name].append((time.perf_counter() - started) * 1000)
        if time.monotonic() > end:
            break
    return times
