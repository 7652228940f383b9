"""What benchmarks/serving.py works with: a server process, load with checked answers, tables, plots."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402
from rich.table import Table  # noqa: E402

from serving.model_server.process import child  # noqa: E402

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MODEL = "shelfwise"
MONITORING = ROOT / "serving" / "deploy" / "configs" / "monitoring.config"
_GRAPH_TIME = re.compile(r"^:tensorflow:serving:runtime_latency_(sum|count){.*} (\S+)$", re.MULTILINE)
_CALL_SECONDS = 60.0
_START_SECONDS = 1200.0  # for a model to be loaded, on a machine that others use
WRONG = "WRONG"


class Server(child.ModelServer):
    """The model server on a folder of links to version folders.

    Args:
      base: the folder.
      flags: more flags.
      port: 0 for a free one.
      full_disk: what it prints and logs goes to a device that is full.
    """

    def __init__(self, base: Path, flags: Sequence[str], port: int = 0, full_disk: bool = False) -> None:
        self._logs = Path(tempfile.mkdtemp(prefix="shelfwise-bench-"))
        super().__init__(
            base,
            "/dev/full" if full_disk else self._logs / "log.txt",
            *(f"--port={port}", "--rest_api_port=-1", f"--monitoring_config_file={MONITORING}"),
            *("--file_system_poll_wait_seconds=0.2", *flags),
            model_name=MODEL,
            scratch=[self._logs],
        )
        self._metrics = f"http://localhost:{self.rest_port}/monitoring/prometheus/metrics"
        self.channel = grpc.insecure_channel(self.address, [("grpc.max_reconnect_backoff_ms", 200)])

    def graph_time(self) -> tuple[float, float]:
        """(seconds in the graph, runs of the graph) since the start, as the server counts them."""
        with urllib.request.urlopen(self._metrics, timeout=_CALL_SECONDS) as page:
            found = dict(_GRAPH_TIME.findall(page.read().decode()))
        return float(found.get("sum", 0)) / 1e6, float(found.get("count", 0))

    def processor_seconds(self) -> float:
        """Processor time of the server since its start."""
        used = psutil.Process(self.process.pid).cpu_times()
        return used.user + used.system

    def wait_serving(self, version: int) -> Server:
        """Waits until the version takes the traffic, also one that was refused and is whole again."""
        self.wait(lambda: self.states().get(version, (0, ""))[0] == child.AVAILABLE)
        return self

    def wait_refused(self, version: int) -> str:
        """Waits until the version has been given up; gives the reason."""
        self.wait(lambda: self.states().get(version, (0, ""))[0] == child.END)
        return self.states()[version][1]

    def wait(self, condition: Callable[[], bool], seconds: float = _START_SECONDS) -> None:
        """As `ModelServer.wait`, but ends the benchmark."""
        try:
            super().wait(condition, seconds)
        except child.NotServing as error:
            raise SystemExit(f"the server did not get there: {error}") from error

    def stop(self, grace_seconds: float = 40) -> int:
        """SIGTERM, and SIGKILL when it does not help; removes the log."""
        self.channel.close()
        status = super().stop(grace_seconds)
        shutil.rmtree(self._logs, ignore_errors=True)
        return status


class CpuUse:
    """Who used the machine's processors since this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def shares(self) -> tuple[float, float]:
        """Shares of all processors' time: (stolen by the hypervisor, used by other processes than
        this one and those that it started).
        """
        total, stolen, busy, own = (
            now - before for now, before in zip(self._now(), self._before, strict=True)
        )
        if not total:
            return 0.0, 0.0
        return stolen / total, max(busy - own, 0.0) / total

    @staticmethod
    def _now() -> tuple[float, float, float, float]:
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + times.irq + times.softirq
        own = os.times()
        used = own.user + own.system + own.children_user + own.children_system
        for started in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # then it counts as waited for
                of_child = started.cpu_times()
                used += of_child.user + of_child.system
        return busy + times.idle + times.iowait + times.steal, times.steal, busy, used


@dataclasses.dataclass
class Result:
    """What some seconds of load gave; times in milliseconds.

    `stolen` and `others` are shares of all processors' time (see `CpuUse`): where they are not
    near 0, the times say more about the machine than about the server.
    """

    model: str
    section: str
    signature: str
    concurrency: int
    batch: int
    requests: int
    failed: int
    wrong: int
    per_second: float
    rows_per_second: float
    p50: float
    p95: float
    p99: float
    stolen: float
    others: float
    note: str = ""


class Load:
    """Asks serialized requests and checks the answers against the first one each got.

    Args:
      port: the server's.
      contents: serialized requests, well-formed.
      malformed: malformed requests, each with the gRPC code that it deserves.
    """

    def __init__(
        self, port: int, contents: Sequence[bytes], malformed: Sequence[tuple[bytes, str]] = ()
    ) -> None:
        from tensorflow_serving.apis import predict_pb2

        self._parse = predict_pb2.PredictResponse.FromString
        channel = grpc.insecure_channel(
            f"localhost:{port}",
            [("grpc.max_receive_message_length", -1), ("grpc.max_reconnect_backoff_ms", 200)],
        )
        self._ask = channel.unary_unary(PREDICT)
        self.contents = contents
        self.malformed = malformed
        self.malformed_share = 0.0
        self._expected = [
            self._read(self._ask(content, timeout=_CALL_SECONDS, wait_for_ready=True))[1]
            for content in contents
        ]
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forgets what was measured."""
        self.times: list[float] = []
        self.ends: list[float] = []
        self.failures: collections.Counter[str] = collections.Counter()
        self.failed_at: list[float] = []
        self.refused = 0
        self.wrong = 0
        self.versions: set[int] = set()
        self.use = CpuUse()

    def _read(self, content: bytes) -> tuple[int, dict[str, np.ndarray]]:
        from tensorflow import make_ndarray

        response = self._parse(content)
        outputs = {name: make_ndarray(proto) for name, proto in response.outputs.items()}
        return response.model_spec.version.value, outputs

    def one(self, number: int, random_: random.Random, check: bool) -> None:
        """One request."""
        if random_.random() < self.malformed_share:
            self._one_malformed(random_)
            return
        which = number % len(self.contents)
        started = time.perf_counter()
        try:
            answer = self._ask(self.contents[which], timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            with self._lock:
                self.failures[error.code().name] += 1
                self.failed_at.append(time.monotonic())
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                time.sleep(0.05)  # a dead server refuses at once; asking without pause starves its restart
            return
        ended = time.perf_counter()
        self.times.append(ended - started)
        self.ends.append(time.monotonic())
        if check:
            version, outputs = self._read(answer)
            if not _same(outputs, self._expected[which]):
                self.wrong += 1
            self.versions.add(version)

    def _one_malformed(self, random_: random.Random) -> None:
        found, wanted = self.ask_malformed(random_)
        with self._lock:
            self.refused += 1
            if found not in wanted.split(" or "):
                self.failures[f"malformed: {found} instead of {wanted}"] += 1

    def ask_malformed(self, random_: random.Random) -> tuple[str, str]:
        """Sends one of the malformed requests; gives (its gRPC code, the code or codes that it deserves)."""
        content, wanted = random_.choice(self.malformed)
        try:
            self._ask(content, timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            return error.code().name, wanted
        return "OK", wanted

    def ask(self, number: int) -> tuple[str, int]:
        """Sends a well-formed request; gives (OK, WRONG or its gRPC code, the version that answered or 0)."""
        which = number % len(self.contents)
        try:
            answer = self._ask(self.contents[which], timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            return error.code().name, 0
        version, outputs = self._read(answer)
        return "OK" if _same(outputs, self._expected[which]) else WRONG, version

    def closed(self, concurrency: int, until: Callable[[], bool], check_every: int = 7) -> float:
        """`concurrency` clients without pauses until `until()`; gives the seconds that it took."""
        self.reset()
        started = time.perf_counter()

        def client(seed: int) -> None:
            random_, number = random.Random(seed), seed
            while not until():
                self.one(number, random_, check=number % check_every == 0)
                number += 1

        threads = [threading.Thread(target=client, args=(seed,), daemon=True) for seed in range(concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    def open(self, rate: float, seconds: float) -> float:
        """Requests at random times, `rate` a second on average, whatever the answers do.

        A request's time counts from when it was due, so a stall of the server counts for all
        that it held up. Two threads do it all: client and server share the cores, and a thread
        for every request under way takes time that a client elsewhere would not take from them.
        """
        self.reset()
        random_, ended = random.Random(0), threading.Semaphore(0)
        started = time.perf_counter()
        at, number = started, 0
        while at < started + seconds:
            time.sleep(max(at - time.perf_counter(), 0))
            call = self._ask.future(self.contents[number % len(self.contents)], timeout=_CALL_SECONDS)
            call.add_done_callback(functools.partial(self._ended, at, ended))
            at += random_.expovariate(rate)
            number += 1
        for _ in range(number):
            ended.acquire()
        return time.perf_counter() - started

    def _ended(self, due: float, ended: threading.Semaphore, call: grpc.Future) -> None:
        if call.exception() is None:
            self.times.append(time.perf_counter() - due)
        else:
            with self._lock:
                self.failures[call.code().name] += 1
        ended.release()


def _same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    if found.keys() != wanted.keys():
        return False
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            return False
        if value.dtype.kind == "f":
            if not np.allclose(found[name], value, rtol=1e-3, atol=1e-4, equal_nan=True):
                return False
        elif not (found[name] == value).all():
            return False
    return True


def for_seconds(seconds: float) -> Callable[[], bool]:
    """A condition that is true from so many seconds on."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def requests_of(version: Path) -> dict[str, list]:
    """Warm-up requests of a version by signature, batch of one each."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    path = version / "assets.extra" / "tf_serving_warmup_requests"
    if not path.exists():
        raise SystemExit(f"{path}: the model carries no warm-up requests to ask")
    found: dict[str, list] = {}
    for record in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name or "serving_default"
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        found.setdefault(name, []).append(inputs)
    return found


def serialized(signature: str, requests: Sequence[dict[str, np.ndarray]], batch: int = 1) -> list[bytes]:
    """Requests of `batch` rows each."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    contents = []
    for inputs in requests[:16]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = MODEL, signature
        for name, value in inputs.items():
            if value.ndim:
                value = np.repeat(value[:1], batch, axis=0)
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        contents.append(request.SerializeToString())
    return contents


def malformed(contents: Sequence[bytes]) -> list[tuple[bytes, str]]:
    """Malformed relatives of well-formed requests, with the code (or one of the codes) that each deserves."""
    return [case for content in contents for case in _malformed(content)]


def _malformed(content: bytes) -> Iterator[tuple[bytes, str]]:
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import predict_pb2

    for share in (0.2, 0.5, 0.7, 0.9):
        cut = content[: int(len(content) * share)]
        try:
            predict_pb2.PredictRequest.FromString(cut)
        except DecodeError:  # most places are within a message
            yield cut, "INTERNAL"
    yield content.replace(MODEL.encode(), b"shelf\xff\xfee", 1), "INTERNAL"

    def changed(change: Callable[[predict_pb2.PredictRequest], object]) -> bytes:
        request = predict_pb2.PredictRequest.FromString(content)
        change(request)
        return request.SerializeToString()

    def spec(**values: object) -> Callable[[predict_pb2.PredictRequest], object]:
        def change(request: predict_pb2.PredictRequest) -> None:
            for name, value in values.items():
                field = request.model_spec
                if name == "version":
                    field, name = field.version, "value"
                setattr(field, name, value)

        return change

    yield changed(spec(name="nobody")), "NOT_FOUND"
    yield changed(spec(version=2**40)), "NOT_FOUND"
    yield changed(spec(version_label="none")), "INVALID_ARGUMENT"
    yield changed(spec(signature_name="guess")), "FAILED_PRECONDITION"
    yield changed(lambda request: request.output_filter.append("price")), "INVALID_ARGUMENT"
    names = list(predict_pb2.PredictRequest.FromString(content).inputs)
    for name in names:
        yield changed(lambda request, name=name: request.inputs.pop(name)), "INVALID_ARGUMENT"
        proto = tf.make_tensor_proto(np.ones([1], np.float64))
        yield (
            changed(lambda request, name=name, proto=proto: request.inputs[name].CopyFrom(proto)),
            "INVALID_ARGUMENT",
        )
        for sizes in ([2**40, 2**40], [1, 1, 1, 1], [-1]):

            def reshape(request: predict_pb2.PredictRequest, name: str = name, sizes: list = sizes) -> None:
                del request.inputs[name].tensor_shape.dim[:]
                for size in sizes:
                    request.inputs[name].tensor_shape.dim.add(size=size)

            # About a shape that is only unlike the signature's, the graph decides.
            wanted = "OK or INVALID_ARGUMENT" if sizes == [1, 1, 1, 1] else "INVALID_ARGUMENT"
            yield changed(reshape), wanted
    if "history_age_days" in names:
        ages = tf.make_tensor_proto(np.ones([1, 3], np.float32))
        yield (
            changed(lambda request: request.inputs["history_age_days"].CopyFrom(ages)),
            "INVALID_ARGUMENT",
        )


def table(results: Sequence[Result]) -> Table:
    """All rows, for a person."""
    made = Table(box=None, pad_edge=False)
    for header in (
        "model",
        "section",
        "signature",
        "clients",
        "batch",
        "requests",
        "failed",
        "wrong",
        "req/s",
        "rows/s",
    ):
        made.add_column(header, justify="left" if header in ("model", "section", "signature") else "right")
    for header in ("p50 ms", "p95 ms", "p99 ms", "stolen", "others"):
        made.add_column(header, justify="right")
    made.add_column("")
    for row in results:
        numbers = (row.batch, row.requests, row.failed, row.wrong)
        rates = (f"{rate:.0f}" for rate in (row.per_second, row.rows_per_second))
        times = (f"{time_:.2f}" for time_ in (row.p50, row.p95, row.p99))
        shares = (f"{share:.0%}" for share in (row.stolen, row.others))
        clients = str(row.concurrency or "-")
        made.add_row(
            *(row.model, row.section, row.signature, clients, *map(str, numbers)),
            *(*rates, *times, *shares, row.note),
        )
    return made


def plot(results: Sequence[Result]) -> str:
    """An SVG: latency (p50, p95, p99) against rows a second, by model and signature, a line a batch size."""
    rows = [row for row in results if row.section == "load" and row.requests]
    panels = list(dict.fromkeys((row.model, row.signature) for row in rows))
    width, height, margin = 420, 300, 60
    colours = ["#1b6ca8", "#d1495b", "#3a7d44", "#8d5a97", "#c77d0a"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * max(len(panels), 1)}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for place, (model, signature) in enumerate(panels):
        own = [row for row in rows if (row.model, row.signature) == (model, signature)]
        batches = list(dict.fromkeys(row.batch for row in own))
        low, high = np.log10(min(row.p50 for row in own)), np.log10(max(row.p99 for row in own) * 1.1)
        most = max(row.rows_per_second for row in own) * 1.05

        def x(row: Result, left: int = place * width, most: float = most) -> float:
            return left + margin + row.rows_per_second / most * (width - 1.4 * margin)

        def y(value: float, low: float = low, high: float = high) -> float:
            return (
                height
                - margin
                + 15
                - (np.log10(value) - low) / max(high - low, 0.1) * (height - 1.4 * margin)
            )

        parts.append(f'<text x="{place * width + margin}" y="18" font-size="13">{signature}, {model}</text>')
        for tick in np.linspace(low, high, 5):
            value = 10**tick
            parts.append(
                f'<line x1="{place * width + margin}" x2="{(place + 1) * width - 20}" y1="{y(value):.1f}" '
                f'y2="{y(value):.1f}" stroke="#ddd"/><text x="{place * width + margin - 5}" '
                f'y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g} ms</text>'
            )
        for share in (0, 0.5, 1):
            left = place * width + margin + share / 1.05 * (width - 1.4 * margin)
            parts.append(
                f'<text x="{left:.1f}" y="{height - 25}" text-anchor="middle">'
                f"{most / 1.05 * share:.0f}</text>"
            )
        parts.append(
            f'<text x="{place * width + width / 2}" y="{height - 8}" text-anchor="middle">'
            "rows a second</text>"
        )
        for colour, batch in zip(colours * 5, batches, strict=False):
            line = sorted((row for row in own if row.batch == batch), key=lambda row: row.concurrency)
            for name, dash in (("p50", ""), ("p95", "5 3"), ("p99", "1 3")):
                points = " ".join(f"{x(row):.1f},{y(getattr(row, name)):.1f}" for row in line)
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6" '
                    f'stroke-dasharray="{dash}"/>'
                )
                parts += [
                    f'<circle cx="{x(row):.1f}" cy="{y(getattr(row, name)):.1f}" r="2.5" fill="{colour}">'
                    f"<title>{name} {getattr(row, name):.2f} ms, {row.concurrency} clients</title></circle>"
                    for row in line
                ]
            parts.append(
                f'<text x="{(place + 1) * width - 90}" y="{20 + 14 * batches.index(batch)}" fill="{colour}">'
                f"batch {batch}</text>"
            )
    parts.append(f'<text x="10" y="{height - 8}">solid p50, dashed p95, dotted p99</text></svg>')
    return "\n".join(parts)
