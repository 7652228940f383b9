"""Starts a real model server on the candidate model, and checks its answers and its latency."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

import grpc
import numpy as np
import psutil
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the TF Text ops that the graph may use
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc

from schema import names as F
from schema.config import InfraValidation
from serving.model_server.process import child

_CALL_SECONDS = 60.0
_MEASURE_SECONDS = 30.0  # after which no further round of requests is sent for the latency
_VECTOR_ERROR = 0.03  # of a vector's length; cosine similarity above .9995
_MEASUREMENTS = 3  # of a signature, before the model is refused for it
_MODEL = "shelfwise"
_WARMUP = os.path.join("assets.extra", "tf_serving_warmup_requests")


class _Refused(Exception):
    """The model cannot be served; the message says why."""


def validate(folder: str, settings: InfraValidation) -> tuple[bool, str]:
    """Sends every warm-up request to a server on the model.

    The answers must be the graph's own (as `tf.saved_model.load` runs it in this process), finite, and
    lists must not be empty; and no signature's p99, one request at a time, may exceed the limit.

    Args:
      folder: SavedModel.
      settings: which server, and how slow it may be.

    Returns:
      (whether all is well, a line for a person).
    """
    try:
        requests = requests_of(folder)
        with model_server(folder, settings) as server, grpc.insecure_channel(server.address) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            answers = [_read(predict(request, timeout=_CALL_SECONDS)) for request in requests]
            _check_answers(folder, requests, answers)
            times = _latencies(predict, requests, psutil.Process(server.process.pid), settings)
    except (_Refused, FileNotFoundError) as error:
        return False, str(error)[:500]
    except (tf.errors.OpError, grpc.RpcError) as error:
        text = error.details() if isinstance(error, grpc.Call) else str(error)
        return False, " ".join((text or "").split())[:500]
    slowest = max(times, key=lambda name: times[name].judged)
    found = times[slowest]
    if found.judged > settings.max_p99_ms:
        return False, (
            f"signature {slowest}: p99 {found.wall:.1f} ms, {found.cpu:.1f} ms of processor time, "
            f"over {len(found.walls)} requests, above infra_validator.max_p99_ms {settings.max_p99_ms:g}; "
            "make the model smaller or allow more"
        )
    median = np.median(np.concatenate([one.walls for one in times.values()]))
    return True, (
        f"{len(requests)} requests answered over gRPC as by the graph, median {median:.1f} ms, "
        f"p99 {found.wall:.1f} ms, {found.cpu:.1f} ms of processor time ({slowest})"
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
def model_server(folder: str, settings: InfraValidation) -> Iterator[child.ModelServer]:
    """Runs `serving.model_server` or TensorFlow Serving on one SavedModel in its own process.

    Args:
      folder: SavedModel; it is served as version 1 from a link to it.
      settings: which server.

    Yields:
      The server, once the version is available.
    """
    program = (settings.binary,) if settings.server == "tensorflow_serving" else child.OURS
    with tempfile.TemporaryDirectory() as base, contextlib.ExitStack() as stack:
        os.symlink(os.path.abspath(folder), os.path.join(base, "1"), target_is_directory=True)
        log_path = os.path.join(base, "server.log")
        try:
            server = stack.enter_context(
                child.ModelServer(base, log_path, program=program, model_name=_MODEL, scratch=[base])
            )
        except OSError as error:
            raise _Refused(
                f"infra_validator.binary: {settings.binary} cannot be started ({error.strerror}); "
                "give the path of tensorflow_model_server"
            ) from error
        try:
            server.wait_serving()
        except child.NotServing as error:
            raise _Refused(f"the model server did not serve the model: {error}") from error
        yield server


# What a search may have nothing to say on.
_OPTIONAL = (
    *(F.NOTICE, F.CORRECTED_QUERY, F.RELAXED_QUERY, F.FACET_NAME, F.FACET_VALUE),
    *(F.INTENT_CATEGORY, F.INTENT_BRAND),
)
_SEARCH_ERROR = 0.05


def _read(answer: predict_pb2.PredictResponse) -> dict[str, np.ndarray]:
    return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}


def _check_answers(
    folder: str,
    requests: Sequence[predict_pb2.PredictRequest],
    answers: Sequence[Mapping[str, np.ndarray]],
) -> None:
    # Not by the server's own loader, which changes the graph: what it does wrong would be right here.
    graph = tf.saved_model.load(folder)
    for request, answer in zip(requests, answers, strict=True):
        call = graph.signatures[request.model_spec.signature_name]
        given = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        expected = {name: value.numpy() for name, value in call(**given).items()}
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
                if not _equal(request.model_spec.signature_name, name, value, own):
                    raise _Refused(
                        f"{where} '{name}' differs from the graph's by {np.abs(value - own).max():.3g}"
                    )
            # Which of two equal scores comes first may differ from one build of TensorFlow to the
            # next, so that texts are not compared; but there must be some.
            elif value.dtype == object and name not in _OPTIONAL and not (value != b"").any():
                raise _Refused(f"{where} '{name}' has no text for a request that should have some")


def _equal(signature: str, name: str, value: np.ndarray, own: np.ndarray) -> bool:
    """Whether an answer is the graph's own, float [...], up to the rounding of another order of ops."""
    if name == F.PRICE:
        return True  # they stand where their items do, and equal scores may change places
    if signature == F.SEARCH:
        # The ranks of two texts that are as near to the query are features: one may be the other's.
        return np.allclose(value, own, atol=_SEARCH_ERROR)
    if name == F.EMBEDDING:
        # The encoder may compute in bfloat16 (8 bits): small elements of a vector differ, the vector hardly.
        apart = np.linalg.norm(value - own, axis=-1)
        return bool((apart <= _VECTOR_ERROR * np.linalg.norm(own, axis=-1) + 1e-4).all())
    return np.allclose(value, own, rtol=1e-2, atol=1e-4)


@dataclasses.dataclass(frozen=True, eq=False)
class _Latency:
    """What one signature's requests took, in milliseconds.

    Attributes:
      walls: of each request, by the clock on the wall.
      wall: p99 by the clock on the wall. On a busy machine it also has the time in which others ran.
      cpu: p99 of the processor time that the server used; the system counts it in steps of 10 ms.
      judged: p99 of the smaller of the two, request by request: what the model itself costs. The
        processor time is the larger one where several cores work on a request.
    """

    walls: np.ndarray
    wall: float
    cpu: float
    judged: float


def _latencies(
    predict: grpc.UnaryUnaryMultiCallable,
    requests: Sequence[predict_pb2.PredictRequest],
    server: psutil.Process,
    settings: InfraValidation,
) -> dict[str, _Latency]:
    """Measures all signatures, and those above the limit again: the best measurement counts.

    Args:
      predict: sends a request and waits for the answer.
      requests: of all signatures.
      server: the server's process.
      settings: `max_p99_ms`, the limit of `_Latency.judged`, and `rounds`.
    """
    found = _measure(predict, requests, server, settings.rounds)
    for _ in range(_MEASUREMENTS - 1):
        slow = [one for one in requests if found[one.model_spec.signature_name].judged > settings.max_p99_ms]
        if not slow:
            break
        for name, again in _measure(predict, slow, server, settings.rounds).items():
            found[name] = min(found[name], again, key=lambda one: one.judged)
    return found


def _measure(
    predict: grpc.UnaryUnaryMultiCallable,
    requests: Sequence[predict_pb2.PredictRequest],
    server: psutil.Process,
    rounds: int,
) -> dict[str, _Latency]:
    # Milliseconds by signature: (on the wall, of the processor).
    times: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    end = time.monotonic() + _MEASURE_SECONDS
    for _ in range(rounds):
        for request in requests:
            used, started = _processor_seconds(server), time.perf_counter()
            predict(request, timeout=_CALL_SECONDS)
            wall = time.perf_counter() - started
            used = _processor_seconds(server) - used
            times[request.model_spec.signature_name].append((wall * 1000, used * 1000))
        if time.monotonic() > end:
            break
    latencies = {}
    for name, pairs in times.items():
        wall, cpu = np.array(pairs).T
        judged = np.minimum(wall, cpu)
        p99 = [float(np.percentile(one, 99)) for one in (wall, cpu, judged)]
        latencies[name] = _Latency(wall, *p99)
    return latencies


def _processor_seconds(server: psutil.Process) -> float:
    """Processor time of the server so far; its program may be a script that starts the server."""
    total = 0.0
    for process in [server, *server.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system
    return total
