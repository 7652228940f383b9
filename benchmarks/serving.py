"""Load and faults of the model server: latency tables, swaps, malformed and slow clients, kill -9.

    python benchmarks/serving.py --model_base_path=runs/complete_journey/serving/shelfwise
    python benchmarks/serving.py --only=load --signatures=recommend --concurrency=1,4 --batch=1,8

The requests are those of the newest version's `assets.extra/tf_serving_warmup_requests`, repeated
to the batch size. The server is a process of its own; this process asks, so both share the cores.
Prints tables; writes the numbers (`--json`) and a plot of latency against throughput (`--plot`).
Exits with status 1 when a well-formed request failed or got another answer than before.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

PREDICT = "/tensorflow.serving.PredictionService/Predict"
SECTIONS = ("load", "overhead", "half", "swaps", "malformed", "slow", "files", "kill")
_CALL_SECONDS = 30.0
console = Console(width=None if sys.stdout.isatty() else 200)


class Server:
    """The model server on a folder of links to version folders."""

    def __init__(self, base: Path, flags: Sequence[str], port: int = 0) -> None:
        self.base, self.flags = base, flags
        self.folder = Path(tempfile.mkdtemp(prefix="shelfwise-bench-"))
        self.out = self.folder / "out.txt"
        port_file = self.folder / "port"
        command = [
            *(sys.executable, "-m", "serving.model_server", "--model_name=shelfwise"),
            *(f"--model_base_path={base}", f"--port={port}", f"--port_file={port_file}"),
            *("--file_system_poll_wait_seconds=0.2", *flags),
        ]
        with open(self.out, "wb") as out, open(self.folder / "log.txt", "wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=log)
        self._wait(port_file.exists)
        self.port = int(port_file.read_text())

    def wait_serving(self, version: int) -> Server:
        """Waits until the version takes the traffic."""
        line = f"serving shelfwise version {version} on port"
        self._wait(lambda: line in self.out.read_text())
        return self

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when it does not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def _wait(self, condition: Callable[[], bool], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(
                    f"the server did not start:\n{(self.folder / 'log.txt').read_text()[-3000:]}"
                )
            time.sleep(0.02)


@dataclasses.dataclass
class Result:
    """What some seconds of load gave; times in milliseconds."""

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
    note: str = ""


class Load:
    """Asks serialized requests and checks the answers against the first one each got.

    Args:
      port: the server's.
      contents: serialized requests, well-formed.
      malformed: share of requests that are malformed instead; those must fail.
    """

    def __init__(self, port: int, contents: Sequence[bytes], malformed: float = 0.0) -> None:
        from tensorflow_serving.apis import predict_pb2

        self._parse = predict_pb2.PredictResponse.FromString
        self.channel = grpc.insecure_channel(
            f"localhost:{port}",
            [("grpc.max_receive_message_length", -1), ("grpc.max_reconnect_backoff_ms", 200)],
        )
        self._ask = self.channel.unary_unary(PREDICT)
        self.contents = contents
        self._malformed = malformed
        self._expected = [self.answer(content) for content in contents]
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forgets what was measured."""
        self.times: list[float] = []
        self.ends: list[float] = []
        self.failures: collections.Counter[str] = collections.Counter()
        self.failed_at: list[float] = []
        self.wrong = 0
        self.versions: set[int] = set()

    def answer(self, content: bytes) -> dict[str, np.ndarray]:
        """The outputs for one request; waits for a server that is starting."""
        return self._read(self._ask(content, timeout=_CALL_SECONDS, wait_for_ready=True))[1]

    def _read(self, content: bytes) -> tuple[int, dict[str, np.ndarray]]:
        from tensorflow import make_ndarray

        response = self._parse(content)
        outputs = {name: make_ndarray(proto) for name, proto in response.outputs.items()}
        return response.model_spec.version.value, outputs

    def one(self, number: int, random_: random.Random, check: bool, due: float | None = None) -> None:
        """One request; its time counts from `due` (`perf_counter`), or from now."""
        which = number % len(self.contents)
        content = self.contents[which]
        if self._malformed and random_.random() < self._malformed:
            with contextlib.suppress(grpc.RpcError):
                self._ask(content[: len(content) * 2 // 3], timeout=_CALL_SECONDS)
            return
        started = due or time.perf_counter()
        try:
            answer = self._ask(content, timeout=_CALL_SECONDS)
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
        that it held up.
        """
        self.reset()
        random_ = random.Random(0)
        started = time.perf_counter()

        with futures.ThreadPoolExecutor(64) as pool:
            at, number = started, 0
            while at < started + seconds:
                time.sleep(max(at - time.perf_counter(), 0))
                pool.submit(self.one, number, random_, False, at)
                at += random_.expovariate(rate)
                number += 1
        return time.perf_counter() - started

    def result(
        self, section: str, signature: str, concurrency: int, batch: int, seconds: float, note: str = ""
    ) -> Result:
        """The row of what was measured since `reset`."""
        p50, p95, p99 = np.percentile(self.times, [50, 95, 99]) * 1000 if self.times else [float("nan")] * 3
        failed = sum(self.failures.values())
        if failed:
            note = f"{note} {dict(self.failures)}".strip()
        rate = len(self.times) / seconds
        return Result(
            section, signature, concurrency, batch, len(self.times) + failed, failed, self.wrong,
            rate, rate * batch, float(p50), float(p95), float(p99), note,
        )  # fmt: skip


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


def requests_of(version: Path, signatures: Sequence[str]) -> dict[str, list]:
    """Warm-up requests of a version by signature, batch of one each."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    path = version / "assets.extra" / "tf_serving_warmup_requests"
    if not path.exists():
        raise SystemExit(f"{path}: the model carries no warm-up requests to ask")
    found: dict[str, list] = {name: [] for name in signatures}
    for record in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name or "serving_default"
        if name in found:
            found[name].append({key: tf.make_ndarray(value) for key, value in request.inputs.items()})
    missing = [name for name, requests in found.items() if not requests]
    if missing:
        raise SystemExit(
            f"{path}: no warm-up request for {', '.join(missing)}; leave it out with --signatures"
        )
    return found


def serialized(signature: str, requests: list, batch: int) -> list[bytes]:
    """Requests of `batch` rows each."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    contents = []
    for inputs in requests[:16]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "shelfwise", signature
        for name, value in inputs.items():
            if value.ndim:
                value = np.repeat(value[:1], batch, axis=0)
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        contents.append(request.SerializeToString())
    return contents


class Bench:
    """All sections; each gives rows for the table."""

    def __init__(self, options: argparse.Namespace, version: Path, work: Path) -> None:
        self.options, self.version, self.work = options, version, work
        self.base = work / "models"
        self.base.mkdir()
        self.link(1)
        self.requests = requests_of(version, options.signatures)
        self.results: list[Result] = []
        self.server = self.start()

    def link(self, number: int) -> None:
        """Makes the model a version of this number."""
        (self.base / str(number)).symlink_to(self.version)

    def start(self, port: int = 0) -> Server:
        """A server on the versions."""
        return Server(self.base, self.options.server_flag, port)

    def load_of(self, signature: str, batch: int = 1, malformed: float = 0.0) -> Load:
        """Load on the running server."""
        return Load(self.server.port, serialized(signature, self.requests[signature], batch), malformed)

    def add(self, result: Result) -> None:
        """Keeps a row, and shows it at once."""
        self.results.append(result)
        console.print(
            f"[dim]{result.section} {result.signature} x{result.concurrency} batch {result.batch}: "
            f"{result.per_second:.0f}/s p50 {result.p50:.2f} p99 {result.p99:.2f} ms {result.note}[/dim]",
            highlight=False,
        )

    def load(self) -> None:
        """Throughput and latency by signature, batch and concurrency."""
        for signature in self.options.signatures:
            for batch in self.options.batch:
                load = self.load_of(signature, batch)
                load.closed(2, for_seconds(min(self.options.seconds, 1)))  # warm
                for concurrency in self.options.concurrency:
                    seconds = load.closed(concurrency, for_seconds(self.options.seconds))
                    self.add(load.result("load", signature, concurrency, batch, seconds))

    def overhead(self) -> None:
        """One client's latency less the time of the same graph in this process."""
        from serving.model_server import predictor, servable

        loaded = servable.load(str(self.version), 1, "shelfwise")
        for signature in self.options.signatures:
            load = self.load_of(signature)
            seconds = load.closed(1, for_seconds(self.options.seconds), check_every=10**9)
            whole = load.result("overhead", signature, 1, 1, seconds)
            times, requests, until = [], self.requests[signature], for_seconds(self.options.seconds)
            while not until() or len(times) < 10:
                started = time.perf_counter()
                predictor.execute(loaded, signature, requests[len(times) % len(requests)])
                times.append(time.perf_counter() - started)
            graph = float(np.percentile(times, 50)) * 1000
            whole.note = f"graph {graph:.2f} ms, server and wire {whole.p50 - graph:.2f} ms at p50"
            self.add(whole)

    def half(self) -> None:
        """Latency at half of the saturated rate, requests at random times."""
        for signature in self.options.signatures:
            load = self.load_of(signature)
            seconds = load.closed(8, for_seconds(self.options.seconds))
            rate = len(load.times) / seconds / 2
            seconds = load.open(rate, self.options.seconds)
            self.add(load.result("half load", signature, 0, 1, seconds, f"{rate:.0f}/s asked"))

    def swaps(self) -> None:
        """Continuous version swaps under load, compared with the same load before."""
        signature = self.options.signatures[0]
        load = self.load_of(signature)
        seconds = load.closed(4, for_seconds(self.options.seconds), check_every=1)
        steady = load.result("swaps", signature, 4, 1, seconds, "steady")
        self.add(steady)
        done = threading.Event()
        worker = threading.Thread(target=lambda: setattr(self, "took", load.closed(4, done.is_set, 1)))
        worker.start()
        newest = max(int(path.name) for path in self.base.iterdir())
        for number in range(newest + 1, newest + 1 + self.options.swaps):
            self.link(number)
            self.server.wait_serving(number)
            (self.base / str(number - 1)).unlink()
        time.sleep(0.3)
        done.set()
        worker.join()
        note = f"{self.options.swaps} swaps, {len(load.versions)} versions answered"
        result = load.result("swaps", signature, 4, 1, self.took, note)
        result.note += f", p99 {result.p99 / steady.p99:.2f} x steady"
        self.add(result)

    def malformed(self) -> None:
        """5 % malformed requests beside good ones; the server's memory before and after."""
        signature = self.options.signatures[0]
        process = psutil.Process(self.server.process.pid)
        load = self.load_of(signature, malformed=0.05)
        before = process.memory_info().rss
        seconds = load.closed(4, for_seconds(self.options.seconds), check_every=1)
        grown = (process.memory_info().rss - before) / 1e6
        self.add(load.result("5 % malformed", signature, 4, 1, seconds, f"memory {grown:+.1f} MB"))

    def slow(self) -> None:
        """Clients that send a byte now and then, beside good ones."""
        signature = self.options.signatures[0]
        load = self.load_of(signature)
        sockets = [socket.create_connection(("localhost", self.server.port)) for _ in range(20)]
        done = threading.Event()

        def dribble() -> None:
            preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            place = 0
            while not done.wait(0.1):
                for one in sockets:
                    with contextlib.suppress(OSError):
                        one.send(preface[place % len(preface) :][:1])
                place += 1

        thread = threading.Thread(target=dribble, daemon=True)
        thread.start()
        seconds = load.closed(4, for_seconds(self.options.seconds), check_every=1)
        done.set()
        thread.join()
        for one in sockets:
            one.close()
        self.add(load.result("20 slow clients", signature, 4, 1, seconds))

    def files(self) -> None:
        """The folder of the version that serves is taken away; a truncated version comes."""
        import shutil

        signature = self.options.signatures[0]
        load = self.load_of(signature)
        done = threading.Event()
        worker = threading.Thread(target=lambda: setattr(self, "took", load.closed(4, done.is_set, 1)))
        worker.start()
        newest = max(int(path.name) for path in self.base.iterdir())
        broken = self.base / str(newest + 1)
        shutil.copytree(self.version, broken, ignore=shutil.ignore_patterns("variables"))
        (self.base / str(newest)).unlink()
        time.sleep(max(self.options.seconds, 1.5))
        shutil.rmtree(broken)
        self.link(newest + 2)
        self.server.wait_serving(newest + 2)
        done.set()
        worker.join()
        note = f"deleted, truncated, mended; versions {sorted(load.versions)}"
        self.add(load.result("model files", signature, 4, 1, self.took, note))

    def kill(self) -> None:
        """kill -9 under load and a restart on the same port, with a client that retries."""
        from serving.client import Client, ClientError

        signature = self.options.signatures[0]
        load = self.load_of(signature)
        done = threading.Event()
        worker = threading.Thread(target=lambda: setattr(self, "took", load.closed(4, done.is_set, 1)))
        worker.start()
        time.sleep(self.options.seconds / 2)
        killed = time.monotonic()
        self.server.process.kill()
        self.server.process.wait()
        with Client(
            f"localhost:{self.server.port}", timeout=120, max_attempts=1000, max_backoff=0.2
        ) as client:
            asking = futures.ThreadPoolExecutor(1).submit(client.status)
            self.server = self.start(self.server.port)
            newest = max(int(path.name) for path in self.base.iterdir())
            self.server.wait_serving(newest)
            try:
                patient = f"retrying client answered: {bool(asking.result())}"
            except ClientError as error:
                patient = f"retrying client FAILED: {error}"
        time.sleep(self.options.seconds / 2 + 1)
        done.set()
        worker.join()
        back = min((at for at in load.ends if at > killed + 0.2), default=float("nan")) - killed
        late = sum(at > killed + back + 0.5 for at in load.failed_at)
        result = load.result("kill -9", signature, 4, 1, self.took, f"back after {back:.1f} s; {patient}")
        result.failed = late  # while it was dead, nobody could answer
        self.add(result)

    def run(self) -> None:
        """All sections asked for, in their order."""
        self.server.wait_serving(1)
        for section in SECTIONS:
            if section in self.options.only:
                getattr(self, section)()


def table(results: Sequence[Result]) -> Table:
    """All rows, for a person."""
    made = Table(box=None, pad_edge=False)
    for header in (
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
        made.add_column(header, justify="left" if header in ("section", "signature") else "right")
    for header in ("p50 ms", "p95 ms", "p99 ms"):
        made.add_column(header, justify="right")
    made.add_column("")
    for row in results:
        made.add_row(
            row.section, row.signature, str(row.concurrency or "-"), str(row.batch), str(row.requests),
            str(row.failed), str(row.wrong), f"{row.per_second:.0f}", f"{row.rows_per_second:.0f}",
            f"{row.p50:.2f}", f"{row.p95:.2f}", f"{row.p99:.2f}", row.note,
        )  # fmt: skip
    return made


def plot(results: Sequence[Result]) -> str:
    """An SVG: for each signature, latency (p50, p95, p99) against rows a second, a line a batch size."""
    rows = [row for row in results if row.section == "load" and row.requests]
    signatures = list(dict.fromkeys(row.signature for row in rows))
    width, height, margin = 420, 300, 60
    colours = ["#1b6ca8", "#d1495b", "#3a7d44", "#8d5a97", "#c77d0a"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * max(len(signatures), 1)}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for place, signature in enumerate(signatures):
        own = [row for row in rows if row.signature == signature]
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

        parts.append(f'<text x="{place * width + margin}" y="18" font-size="13">{signature}</text>')
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


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def newest_version(base: str | None) -> Path:
    """The newest version below `base`, or below the newest run's folder."""
    bases = (
        [Path(base)] if base else sorted(ROOT.glob("runs/*/serving/*"), key=lambda path: path.stat().st_mtime)
    )
    versions = [path for folder in bases[-1:] for path in folder.glob("*") if path.name.isdigit()]
    if not versions:
        raise SystemExit(f"{base or 'runs/*/serving/*'}: no version folder; give --model_base_path")
    return max(versions, key=lambda path: int(path.name)).resolve()


@contextlib.contextmanager
def _work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="shelfwise-bench-") as folder:
        yield Path(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the sections asked for; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model_base_path", help="folder of version folders (newest runs/*/serving/*)")
    parser.add_argument(
        "--signatures", type=lambda text: text.split(","), default=["recommend", "rank", "similar"]
    )
    parser.add_argument("--concurrency", type=_numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--batch", type=_numbers, default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)s)")
    parser.add_argument("--swaps", type=int, default=50, help="version swaps under load (%(default)s)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(SECTIONS), help=",".join(SECTIONS)
    )
    parser.add_argument(
        "--server_flag",
        action="append",
        default=[],
        help="for the server, e.g. --server_flag=--enable_batching",
    )
    parser.add_argument("--plot", metavar="SVG", help="file for the plot")
    parser.add_argument("--json", metavar="FILE", help="file for the numbers")
    options = parser.parse_args(arguments)
    unknown = set(options.only) - set(SECTIONS)
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))} is unknown; choose from {', '.join(SECTIONS)}")
    version = newest_version(options.model_base_path)
    console.print(
        f"{version}, {psutil.cpu_count()} cores, server flags {options.server_flag}", highlight=False
    )
    with _work() as work:
        bench = Bench(options, version, work)
        try:
            bench.run()
        finally:
            bench.server.stop()
    console.print(table(bench.results))
    if options.plot:
        Path(options.plot).write_text(plot(bench.results), encoding="utf-8")
    if options.json:
        rows = [dataclasses.asdict(row) for row in bench.results]
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    bad = sum(row.failed + row.wrong for row in bench.results)
    if bad:
        console.print(f"{bad} well-formed requests failed or got a wrong answer")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
