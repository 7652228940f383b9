"""Hostile requests below 1 MB, and what each costs the server: `benchmarks/serving.py --only=hostile`.

Requests come in families of growing size, over gRPC and REST. A family ends at the first request
that costs several times the bars: the next one could take the machine down, and tells nothing more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import http.client
import itertools
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import grpc
import numpy as np
import psutil

from benchmarks.serving_load import MODEL, PREDICT, Server

MAX_BYTES = 1_000_000
BAR_BYTES, BAR_SECONDS = 256e6, 2.0
_ENOUGH = 3  # times a bar
_CALL_SECONDS = 60.0
_TICK_SECONDS = 0.02  # to which the processors' time is counted, in user and system
_ROWS = (1, 16, 32, 64, 128, 256, 512, 1024)
_SIZES = (32, 256, 1024, 4096, 65_536, 1 << 20)
# What a client may deserve; INTERNAL, UNKNOWN or no answer at all are faults of the server.
DESERVED = {
    *("OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION"),
    *("200", "400", "404", "408", "411", "413", "415", "429", "503", "504"),
}
TIMEOUT = "TIMEOUT"  # of the client, over REST


@dataclasses.dataclass(frozen=True)
class Hostile:
    """A request; `headers` None: a Predict request over gRPC, else a body to POST."""

    name: str
    content: bytes
    headers: dict[str, str] | None = None


@dataclasses.dataclass
class Cost:
    """What one request cost.

    Attributes:
      name: of family and size.
      sent: bytes of the request.
      status: of the answer; gRPC's or HTTP's.
      seconds: until it came, without what other processes took of it: where the server's own time
        on the processors is shorter, that.
      grown: bytes that the server's memory grew by at its peak.
    """

    name: str
    sent: int
    status: str
    seconds: float
    grown: float

    @property
    def deserved(self) -> bool:
        """Whether the server gave an answer that is no fault of its own."""
        return self.status in DESERVED


def measure(server: Server, requests: Mapping[str, list[dict[str, np.ndarray]]]) -> list[Cost]:
    """Sends every request alone.

    Args:
      server: which serves the model.
      requests: well-formed ones by signature, one row each; the hostile ones are made of them.

    Returns:
      Costs, in the order of asking.
    """
    sender = Sender(server)
    costs = []
    for family in families(requests):
        for hostile in family:
            with _Use(server.process.pid) as use:
                started = time.perf_counter()
                status = sender.status(hostile)
                seconds = time.perf_counter() - started
            seconds = min(seconds, use.worked + _TICK_SECONDS)
            costs.append(Cost(hostile.name, len(hostile.content), status, seconds, use.grown))
            if use.grown > _ENOUGH * BAR_BYTES or seconds > _ENOUGH * BAR_SECONDS:
                break
    return costs


@contextlib.contextmanager
def giving_back() -> Iterator[None]:
    """A server that is started meanwhile gives memory back to the system as soon as it is free."""
    settings = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 20))
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Use:
    """What a process took while the block ran: bytes at the peak, and seconds of the processors.

    Linux counts the peak itself, from when it is told to; elsewhere it is looked at all the time.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._folder = Path("/proc", str(pid))
        self._ended = threading.Event()
        self._most = 0
        self.grown = 0.0
        self.worked = 0.0

    def __enter__(self) -> _Use:
        self._before = self._process.memory_info().rss
        self._worked_before = self._processor_seconds()
        self._counted = False
        with contextlib.suppress(OSError):
            (self._folder / "clear_refs").write_text("5")
            self._counted = True
        self._thread = threading.Thread(target=self._look, daemon=True)
        if not self._counted:
            self._thread.start()
        return self

    def _processor_seconds(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def __exit__(self, *_: object) -> None:
        self.worked = self._processor_seconds() - self._worked_before
        if self._counted:
            found = re.search(r"VmHWM:\s+(\d+) kB", (self._folder / "status").read_text())
            self._most = 1024 * int(found[1]) if found else 0
        else:
            self._ended.set()
            self._thread.join()
        self.grown = max(self._most - self._before, 0)

    def _look(self) -> None:
        while not self._ended.wait(0.002):
            self._most = max(self._most, self._process.memory_info().rss)


class Sender:
    """Sends hostile requests to a server; may be used by several threads."""

    def __init__(self, server: Server) -> None:
        self._ask = server.channel.unary_unary(PREDICT)
        self._url = f"http://localhost:{server.rest_port}/v1/models/{MODEL}:predict"

    def status(self, hostile: Hostile) -> str:
        """The answer's status: gRPC's, HTTP's, `TIMEOUT`, or the name of what went wrong on the wire."""
        if hostile.headers is None:
            try:
                self._ask(hostile.content, timeout=_CALL_SECONDS)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"
        request = urllib.request.Request(self._url, hostile.content, hostile.headers)
        try:
            with urllib.request.urlopen(request, timeout=_CALL_SECONDS) as answer:
                answer.read()
                return str(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return str(error.code)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            return TIMEOUT if isinstance(reason, TimeoutError) else type(reason).__name__


def families(requests: Mapping[str, list[dict[str, np.ndarray]]]) -> Iterator[Iterator[Hostile]]:
    """Requests below `MAX_BYTES` in families of growing size, made of well-formed ones by signature."""
    for family, members in _grpc_families(requests):
        yield _short(Hostile(f"{family} {size}", content) for size, content in members)
    for family, bodies in _rest_families(requests):
        yield _short(Hostile(f"{family} {size}".strip(), *content) for size, content in bodies)


def _short(members: Iterable[Hostile]) -> Iterator[Hostile]:
    return itertools.takewhile(lambda hostile: len(hostile.content) < MAX_BYTES, members)


def _grpc_families(
    requests: Mapping[str, list[dict[str, np.ndarray]]],
) -> Iterator[tuple[str, Iterator[tuple[str, bytes]]]]:
    for signature, own in requests.items():
        inputs = own[0]
        texts = [name for name, value in inputs.items() if value.dtype == object and value.ndim]
        wide = [name for name, value in inputs.items() if value.ndim == 2]

        def rows(signature: str = signature, inputs: Mapping = inputs) -> Iterator[tuple[str, bytes]]:
            for size in _SIZES:
                shapes = {name: (size, *value.shape[1:]) for name, value in inputs.items() if value.ndim}
                yield f"{size} filled rows", _request(signature, inputs, shapes)

        yield signature, rows()
        if wide:

            def width(signature: str = signature, inputs: Mapping = inputs) -> Iterator[tuple[str, bytes]]:
                for size in _SIZES:
                    shapes = {name: (1, size) for name, value in inputs.items() if value.ndim == 2}
                    yield f"inner size {size}, filled", _request(signature, inputs, shapes)

            def both(signature: str = signature, inputs: Mapping = inputs) -> Iterator[tuple[str, bytes]]:
                for side in (8, 16, 64, 256, 1024):
                    shapes = {
                        name: (side, side)[: value.ndim] for name, value in inputs.items() if value.ndim
                    }
                    yield f"{side} rows of inner size {side}, filled", _request(signature, inputs, shapes)

            def sent(signature: str = signature, inputs: Mapping = inputs) -> Iterator[tuple[str, bytes]]:
                for size in (1000, 10_000, 50_000, 200_000):
                    changed = {
                        name: np.repeat(value[:1, :1], size, axis=1) if value.ndim == 2 else value
                        for name, value in inputs.items()
                    }
                    if all(value.shape[-1] or value.ndim < 2 for value in changed.values()):
                        yield f"inner size {size}, sent", _request(signature, changed, {})

            yield from ((signature, width()), (signature, both()), (signature, sent()))
        if wide:
            short = {name: value[:, :1] if value.ndim == 2 else value for name, value in inputs.items()}
            empty = {name: value[:, :0] if value.ndim == 2 else value for name, value in inputs.items()}
            yield signature, _rows(signature, short, "rows of inner size 1")
            yield signature, _rows(signature, empty, "rows of empty lists")
            for name in wide:
                if not name.startswith("history_"):  # one alone does not fit the others
                    yield signature, _square(signature, empty, name)
        if "k" in inputs:
            greatest = np.full_like(inputs["k"], np.iinfo(inputs["k"].dtype).max)
            yield signature, _rows(signature, {**inputs, "k": greatest}, "rows, greatest k")
            if wide:
                yield signature, _rows(signature, {**empty, "k": greatest}, "rows of empty lists, greatest k")
        if "examples" in inputs:
            for candidates in (1, 100, 1000, 9000):
                yield signature, _examples(signature, candidates)
        if texts:

            def long(
                signature: str = signature, inputs: Mapping = inputs, name: str = texts[0]
            ) -> Iterator[tuple[str, bytes]]:
                value = np.full(inputs[name].shape, b"x" * 900_000, object)
                for size in (1, 16, 256, 1024):
                    shapes = {key: (size, *one.shape[1:]) for key, one in inputs.items() if one.ndim}
                    yield (
                        f"{size} rows of 900 kB text, filled",
                        _request(signature, {**inputs, name: value}, shapes),
                    )

            yield signature, long()


def _rows(signature: str, inputs: Mapping[str, np.ndarray], what: str) -> Iterator[tuple[str, bytes]]:
    for size in _ROWS:
        shapes = {name: (size, *value.shape[1:]) for name, value in inputs.items() if value.ndim}
        yield f"{size} {what}", _request(signature, inputs, shapes)


def _square(signature: str, empty: Mapping[str, np.ndarray], name: str) -> Iterator[tuple[str, bytes]]:
    """As many short ids as fit, really sent, for as many rows."""
    for side in (64, 128, 256, 512):
        shapes = {other: (side, *value.shape[1:]) for other, value in empty.items() if value.ndim}
        del shapes[name]
        sent = np.full((side, side), b"1", object)
        yield f"{side} x {side} {name}, sent", _request(signature, {**empty, name: sent}, shapes)


def _examples(signature: str, candidates: int) -> Iterator[tuple[str, bytes]]:
    import tensorflow as tf

    example = tf.train.Example()
    example.features.feature["candidate_item_id"].bytes_list.value.extend([b"1"] * candidates)
    inputs = {"examples": np.array([example.SerializeToString()], object)}
    return _rows(signature, inputs, f"rows of {candidates} candidates")


def _request(
    signature: str, inputs: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> bytes:
    """A Predict request; inputs in `shapes` claim that shape and give one value."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, signature
    for name, value in inputs.items():
        shape = shapes.get(name)
        flat = value.ravel()[:1]
        if shape is None:
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            continue
        if not flat.size:
            none = np.zeros([*shape[:1], *(0 for _ in shape[1:])], value.dtype)
            request.inputs[name].CopyFrom(tf.make_tensor_proto(none))
            continue
        proto = tf.make_tensor_proto(flat)
        del proto.tensor_shape.dim[:]
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        request.inputs[name].CopyFrom(proto)
    return request.SerializeToString()


def _rest_families(
    requests: Mapping[str, list[dict[str, np.ndarray]]],
) -> Iterator[tuple[str, Iterator[tuple[str, tuple[bytes, dict[str, str]]]]]]:
    most = MAX_BYTES - 100
    for signature, own in requests.items():
        columns = {name: _plain(value) for name, value in own[0].items()}

        def rows(
            signature: str = signature, columns: Mapping = columns
        ) -> Iterator[tuple[str, tuple[bytes, dict[str, str]]]]:
            for size in _SIZES:
                grown = {
                    name: value * size if isinstance(value, list) else value
                    for name, value in columns.items()
                }
                body = json.dumps({"signature_name": signature, "inputs": grown}).encode()
                yield f"{size} rows in columns", (body, {})

        yield f"REST {signature}", rows()

    def whole(body: bytes, **headers: str) -> Iterator[tuple[str, tuple[bytes, dict[str, str]]]]:
        yield "", (body, {name.replace("_", "-"): value for name, value in headers.items()})

    yield "REST empty lists", whole(b'{"inputs": [' + b"[]," * (most // 3 - 10) + b"[]]}")
    yield "REST empty objects", whole(b'{"instances": [' + b"{}," * (most // 3 - 10) + b"{}]}")
    yield "REST brackets", whole(b"[" * most)
    yield "REST 900 deep", whole(b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}")
    yield "REST digits", whole(b'{"inputs": [' + b"9" * (most - 50) + b"]}")
    yield "REST numbers", whole(b'{"inputs": [' + b"1," * (most // 2 - 30) + b"1]}")
    yield "REST strings", whole(b'{"inputs": [' + b'"",' * (most // 3 - 30) + b'""]}')
    keys = b",".join(b'"%d":0' % number for number in range(90_000))
    yield "REST keys", whole(b'{"instances": [{' + keys + b"}]}")
    yield "REST text", whole(b'{"inputs": ["' + b"x" * (most - 50) + b'"]}')
    bomb = gzip.compress(b'{"inputs": [' + b"[]," * 100_000_000)
    yield "REST gzip of 300 MB", whole(bomb, Content_Encoding="gzip")
    lists = gzip.compress(b'{"inputs": [' + b"[]," * 2_700_000 + b"[]]}")
    yield "REST gzip of 8 MB of lists", whole(lists, Content_Encoding="gzip")


def _plain(value: np.ndarray) -> object:
    """A tensor as JSON has it."""
    if value.dtype != object:
        return value.tolist()
    flat = np.empty(value.size, object)
    flat[:] = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in value.ravel()]
    return flat.reshape(value.shape).tolist()
