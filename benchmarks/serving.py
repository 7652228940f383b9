"""Load and faults of the model server.

    python benchmarks/serving.py --model_base_path=runs/complete_journey/serving/shelfwise
    python benchmarks/serving.py --synthetic=20000,1000000 --only=load,half
    python benchmarks/serving.py --only=load --signatures=recommend --concurrency=1,4 --batch=1,8

The requests are those of the version's `assets.extra/tf_serving_warmup_requests`, repeated to the
batch size. The server is a process of its own; this process asks, so both share the cores. Prints
tables, and the bars of the project with what was measured; writes the numbers (`--json`) and a plot
of latency against throughput (`--plot`). Beside each measurement stand the shares of the processors'
time that the hypervisor took away ("stolen") and that other processes used ("others") meanwhile:
where they are not small, its times say more of the machine than of the server. Exits with status 1
when a well-formed request failed or got another answer than before, or a malformed one got another
error than it deserves.

    load       throughput and latency by signature, rows of a request, and clients without pauses
    overhead   one client's latency less the time that the server measures in the graph
    half       latency at half of the saturated rate, requests at random times
    batching   saturated throughput of requests of one row, with --enable_batching and without, and what
               a request costs in processor time, which other processes change less
    swaps      one new version after the other under load
    hostile    requests below 1 MB that ask for much: the worst growth of memory, and the worst time
    malformed  5 % malformed requests beside good ones, then so many that there are 500
    slow       clients that send a byte now and then, and one that takes no answer
    files      version deleted, cut short, copied to a full disk; model folder deleted; log disk full
    kill       kill -9 and a restart on the same port
    memory     the server's memory over the requests of an hour at half load

and, only when it is asked for, an hour (`--hour_seconds`) of everything at once:

    python benchmarks/serving.py --only=hour

    hour       half of the saturated rate (at most `--most_per_second`) of requests at random times, 5 %
               of them malformed and 2 % hostile, and a new version each minute (`--swap_seconds`), or as
               soon as the last one is loaded.
               Late answers are counted, and are not wrong; the memory's growth is that of what is left
               between two swaps, after the first sixth of the time
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
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

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks import serving_hostile, serving_hour, serving_load  # noqa: E402
from benchmarks.serving_load import MODEL, PREDICT, Load, Result, Server, for_seconds  # noqa: E402
from serving.model_server.process import child  # noqa: E402

SECTIONS = (
    *("load", "overhead", "half", "batching", "swaps", "hostile", "malformed", "slow", "files", "kill"),
    "memory",
)
LONG = ("hour",)  # only if asked for
BATCHING = ROOT / "serving" / "deploy" / "configs" / "batching.config"
_MALFORMED = 500
_CLIENTS = 4  # of the fault sections
_BATCHING_CLIENTS = 32
_ROUND = 4  # requests between two looks at the server's metrics
console = Console(width=None if sys.stdout.isatty() else 220)


class Bench:
    """All sections for one model; each gives rows for the table."""

    def __init__(self, options: argparse.Namespace, name: str, version: Path, work: Path) -> None:
        self.options, self.name, self.version, self.work = options, name, version, work
        self.base = work / "models"
        self.base.mkdir()
        self.newest = 0
        self.link()
        self.requests = serving_load.requests_of(version)
        missing = set(options.signatures) - set(self.requests)
        if missing:
            raise SystemExit(
                f"{version}: no warm-up request for {', '.join(sorted(missing))}; see --signatures"
            )
        self.first = options.signatures[0]
        self.results: list[Result] = []
        self.bars: list[tuple[str, str, bool]] = []
        self.server = self.start()

    def link(self) -> int:
        """Makes the model a version of the next number; gives the number."""
        self.newest += 1
        (self.base / str(self.newest)).symlink_to(self.version)
        return self.newest

    def start(self, port: int = 0, *flags: str, full_disk: bool = False) -> Server:
        """A server on the versions that serves the newest."""
        server = Server(self.base, [*self.options.server_flag, *flags], port, full_disk)
        return server.wait_serving(self.newest)

    def load_of(self, signature: str, batch: int = 1, server: Server | None = None) -> Load:
        """Load on a server; malformed requests are prepared for the first signature."""
        contents = serving_load.serialized(signature, self.requests[signature], batch)
        wrong = serving_load.malformed(contents) if signature == self.first and batch == 1 else []
        return Load((server or self.server).port, contents, wrong)

    def add(self, result: Result) -> None:
        """Keeps a row, and shows it at once."""
        self.results.append(result)
        console.print(
            f"[dim]{result.section} {result.signature} x{result.concurrency} batch {result.batch}: "
            f"{result.per_second:.0f}/s p50 {result.p50:.2f} p99 {result.p99:.2f} ms, "
            f"{result.failed} failed, {result.wrong} wrong, {result.stolen:.0%} stolen, "
            f"{result.others:.0%} others {result.note}[/dim]",
            highlight=False,
        )

    def row(
        self,
        load: Load,
        section: str,
        seconds: float,
        note: str = "",
        signature: str = "",
        concurrency: int = _CLIENTS,
        batch: int = 1,
    ) -> Result:
        """The row of what `load` measured since its `reset`."""
        nothing = [float("nan")] * 3
        p50, p95, p99 = np.percentile(load.times, [50, 95, 99]) * 1000 if load.times else nothing
        failed = sum(load.failures.values())
        if failed:
            note = f"{note} {dict(load.failures)}".strip()
        rate = len(load.times) / seconds
        return Result(
            self.name, section, signature or self.first, concurrency, batch,
            len(load.times) + sum(count for name, count in load.failures.items() if ":" not in name),
            failed, load.wrong, rate, rate * batch, float(p50), float(p95), float(p99),
            *load.use.shares(), note,
        )  # fmt: skip

    @contextlib.contextmanager
    def under_load(self, section: str, check_every: int = 1) -> Iterator[tuple[Load, list[str]]]:
        """Load while the block runs, and its row; the block adds to the row's note."""
        load, notes, took = self.load_of(self.first), [], []
        done = threading.Event()
        worker = threading.Thread(target=lambda: took.append(load.closed(_CLIENTS, done.is_set, check_every)))
        worker.start()
        try:
            yield load, notes
        finally:
            done.set()
            worker.join()
        self.add(self.row(load, section, took[0], "; ".join(notes)))

    def load(self) -> None:
        """See the module's docstring, as for all sections."""
        for signature in self.options.signatures:
            for batch in self.options.batch:
                load = self.load_of(signature, batch)
                load.closed(2, for_seconds(min(self.options.seconds, 1)))  # warm
                for concurrency in self.options.concurrency:
                    seconds = load.closed(concurrency, for_seconds(self.options.seconds))
                    self.add(self.row(load, "load", seconds, "", signature, concurrency, batch))

    def overhead(self) -> None:
        """The graph's time is what the server itself measures (`runtime_latency` of its metrics).

        The same graph in this process would not do: run in turns with the server's, the two drive
        each other out of the processors' caches, and what the server's then takes longer would
        count as overhead. The metrics are read after every few requests; p50 is that of these rounds.
        """
        for signature in self.options.signatures:
            load = self.load_of(signature)
            load.closed(1, for_seconds(min(self.options.seconds, 1)))  # warm
            random_, until = random.Random(0), for_seconds(2 * self.options.seconds)
            graph: list[float] = []
            more: list[float] = []
            load.reset()
            while not until() or len(more) < 5:
                (seconds, runs), first = self.server.graph_time(), len(load.times)
                for place in range(_ROUND):
                    load.one(first + place, random_, check=False)
                seconds_then, runs_then = self.server.graph_time()
                graph.append(1000 * (seconds_then - seconds) / (runs_then - runs))
                more.append(1000 * float(np.mean(load.times[first:])) - graph[-1])
            own, found = float(np.median(graph)), float(np.median(more))
            note = f"graph {own:.2f} ms, server and wire {found:.2f} ms at p50"
            row = self.row(load, "overhead", sum(load.times), note, signature, 1)
            self.add(row)
            self.bar(f"server overhead, {signature}", f"{found:.2f} ms", "1.5 ms", found < 1.5, row)

    def half(self) -> None:
        """See above."""
        for signature in self.options.signatures:
            rate, load = self.half_rate(signature), self.load_of(signature)
            seconds = load.open(rate, 3 * self.options.seconds)
            row = self.row(load, "half load", seconds, f"{rate:.0f}/s asked", signature, 0)
            self.add(row)
            if signature == "recommend":
                self.bar("p99 of recommend at 50 % load", f"{row.p99:.1f} ms", "40 ms", row.p99 < 40, row)

    def half_rate(self, signature: str) -> float:
        """Half of the requests a second that eight clients without pauses get answered."""
        load = self.load_of(signature)
        seconds = load.closed(8, for_seconds(self.options.seconds))
        return len(load.times) / seconds / 2

    def batching(self) -> None:
        """More gRPC threads than clients: a batch can hold no more requests than there are threads.

        What a request costs the server in processor time says what batching gains or loses on a machine
        that others use too.
        """
        flags = (f"--batching_parameters_file={BATCHING}", "--enable_batching")
        rows: dict[str, list[Result]] = {signature: [] for signature in self.options.signatures}
        costs: dict[str, list[float]] = {}  # seconds of the processors a request
        for name, more in (("batching off", ()), ("batching on", flags)):
            server = self.start(0, f"--grpc_max_threads={2 * _BATCHING_CLIENTS}", *more)
            try:
                for signature, found in rows.items():
                    load = self.load_of(signature, server=server)
                    load.closed(_BATCHING_CLIENTS, for_seconds(min(self.options.seconds, 2)))
                    used, (_, runs) = server.processor_seconds(), server.graph_time()
                    seconds = load.closed(_BATCHING_CLIENTS, for_seconds(self.options.seconds))
                    used, runs = server.processor_seconds() - used, server.graph_time()[1] - runs
                    asked = max(len(load.times), 1)
                    note = (
                        f"{1000 * used / asked:.2f} ms of processor time, {runs / asked:.2f} runs a request"
                    )
                    row = self.row(load, name, seconds, note, signature, _BATCHING_CLIENTS)
                    found.append(row)
                    costs.setdefault(signature, []).append(used / asked)
                    if more:
                        off, on = costs[signature]
                        row.note += (
                            f"; {row.per_second / found[0].per_second:.2f} x the throughput without, "
                            f"{off / on:.2f} x the requests for a second of processor time"
                        )
                    self.add(row)
            finally:
                server.stop()
        for signature, (off, on) in rows.items():
            gain = on.per_second / off.per_second
            self.bar(f"throughput with batching, {signature}", f"{gain:.2f} x", "2 x", gain >= 2, on)

    def swaps(self) -> None:
        """See above; steady is the same load before."""
        load = self.load_of(self.first)
        seconds = load.closed(_CLIENTS, for_seconds(max(self.options.seconds, 2)), check_every=1)
        steady = self.row(load, "steady", seconds)
        self.add(steady)
        with self.under_load("swaps") as (load, notes):
            for _ in range(self.options.swaps):
                number = self.link()
                self.server.wait_serving(number)
                (self.base / str(number - 1)).unlink()
            time.sleep(0.3)
            notes.append(f"{self.options.swaps} swaps, {len(load.versions)} versions answered")
        row = self.results[-1]
        row.note += f", p99 {row.p99 / steady.p99:.2f} x steady"
        bad = row.failed + row.wrong
        swapped = f"failed or wrong over {self.options.swaps} swaps"
        self.bar(swapped, f"{bad} of {row.requests}", "0", not bad, row)
        slower = row.p99 / steady.p99
        self.bar("p99 during swaps", f"{slower:.2f} x steady", "2 x", slower < 2, row)

    def hostile(self) -> None:
        """On a server of its own that gives back what it frees: else what one request left would hide
        what the next one takes.
        """
        with serving_hostile.giving_back():
            server = self.start()
        load = self.load_of(self.first, server=server)
        load.reset()
        try:
            costs = serving_hostile.measure(server, self.requests)
        finally:
            server.stop()
        listed = Table(box=None, pad_edge=False)
        for header in ("hostile request", "bytes", "answer", "seconds", "memory MB"):
            listed.add_column(header)
        for one in sorted(costs, key=lambda one: max(one.grown / 256e6, one.seconds / 2))[-15:]:
            listed.add_row(
                one.name, f"{one.sent:,}", one.status, f"{one.seconds:.2f}", f"{one.grown / 1e6:.0f}"
            )
        console.print(listed)
        load.times = [one.seconds for one in costs]
        row = self.row(load, "hostile", sum(load.times), f"{len(costs)} kinds", "all", 1)
        row.failed = sum(not one.deserved for one in costs)
        self.add(row)
        most = max(costs, key=lambda one: one.grown)
        longest = max(costs, key=lambda one: one.seconds)
        bars = serving_hostile.BAR_BYTES, serving_hostile.BAR_SECONDS
        found = f"{most.grown / 1e6:.0f} MB, {most.name}"
        self.bar("most memory of a request below 1 MB", found, "256 MB", most.grown < bars[0], row)
        found = f"{longest.seconds:.2f} s, {longest.name}"
        self.bar("longest time of a request below 1 MB", found, "2 s", longest.seconds < bars[1], row)

    def malformed(self) -> None:
        """The server's memory before and after is that of the process."""
        process, load = psutil.Process(self.server.process.pid), self.load_of(self.first)
        before, refused, failed = process.memory_info().rss, 0, 0
        for share in (0.05, 0.9):
            load.malformed_share = share
            enough, end = _MALFORMED - refused, time.monotonic() + self.options.seconds

            def until(share: float = share, enough: int = enough, end: float = end) -> bool:
                return time.monotonic() > end and (share < 0.5 or load.refused >= enough)

            seconds = load.closed(_CLIENTS, until, check_every=1)
            refused += load.refused
            grown = (process.memory_info().rss - before) / 1e6
            note = f"{load.refused} refused with the right code, memory {grown:+.1f} MB"
            row = self.row(load, f"{share:.0%} malformed", seconds, note)
            failed += row.failed
            self.add(row)
        self.bar("malformed requests refused wrongly", f"{failed} of {refused}", "0 of 500", not failed, row)

    def slow(self) -> None:
        """See above."""
        load = self.load_of(self.first)
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
        (self.work / "request").write_bytes(load.contents[0])
        code = (
            "import grpc, os, signal, sys\n"
            f"ask = grpc.insecure_channel('localhost:{self.server.port}').unary_unary({PREDICT!r})\n"
            f"content = open({str(self.work / 'request')!r}, 'rb').read()\n"
            "calls = [ask.future(content) for _ in range(64)]\n"
            "calls[0].result()\n"
            "os.kill(os.getpid(), signal.SIGSTOP)\n"
        )
        stopped = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while psutil.Process(stopped.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.05)
        seconds = load.closed(_CLIENTS, for_seconds(self.options.seconds), check_every=1)
        done.set()
        thread.join()
        for one in sockets:
            one.close()
        stopped.kill()
        stopped.wait()
        self.add(self.row(load, "slow clients", seconds, "20 dribble, 1 reads none of 64 answers"))

    def files(self) -> None:
        """Each fault, and its mending, under load."""
        with self.under_load("version deleted") as (load, notes):
            (self.base / str(self.newest)).unlink()
            time.sleep(max(self.options.seconds, 1))
            notes.append(f"version {max(load.versions)} goes on")
            self.server.wait_serving(self.link())
        with self.under_load("version cut short") as (_, notes):
            self.newest += 1
            shutil.copytree(self.version, self.work / "broken")
            data = next((self.work / "broken" / "variables").glob("variables.data*"))
            os.truncate(data, data.stat().st_size // 2)
            broken = (self.work / "broken").rename(self.base / str(self.newest))
            notes.append(self.server.wait_refused(self.newest)[-90:])
            shutil.copy2(self.version / "variables" / data.name, broken / "variables")
            self.server.wait_serving(self.newest)
            notes.append("served once whole")
        with self.under_load("disk full") as (_, notes), self.small_disk() as copy:
            size = sum(path.stat().st_size for path in self.version.rglob("*") if path.is_file())
            notes.append(copy(size // 2))
            reason = self.server.wait_refused(self.newest)
            notes.append(f"not served ({reason[-60:]})")
            notes.append(copy(2 * size))
            self.server.wait_serving(self.newest)
            self.server.wait_serving(self.link())
        with self.under_load("model folder deleted") as (_, notes):
            shutil.rmtree(self.base)
            time.sleep(max(self.options.seconds, 1))
            self.base.mkdir()
            self.server.wait_serving(self.link())
            notes.append("a new one is taken up")
        usual, self.server = self.server, self.start(full_disk=True)
        try:
            with self.under_load("log's disk full") as (_, notes):
                self.server.wait_serving(self.link())
                notes.append("swaps")
            self.server.process.send_signal(signal.SIGTERM)
            status = self.server.process.wait(60)
            self.results[-1].note += f", ends with status {status} at SIGTERM"
            self.results[-1].failed += status != 0
        finally:
            self.server = usual.wait_serving(self.newest)

    @contextlib.contextmanager
    def small_disk(self) -> Iterator[Callable[[int], str]]:
        """Gives copy(bytes): copies the model as the next version to a disk of that size.

        The disk is a tmpfs where that may be mounted, else no file may be larger than the disk.
        """
        self.newest += 1
        target = self.base / str(self.newest)
        target.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o"]
        mounted = (
            shutil.which("mount")
            and not subprocess.run(
                [*mount, "size=1m", "tmpfs", str(target)], capture_output=True, check=False
            ).returncode
        )
        command = ["cp", "-r", f"{self.version}/.", str(target)]

        def copy(size: int) -> str:
            if mounted:
                options = f"remount,size={size}"
                subprocess.run(["mount", "-o", options, str(target)], check=True, capture_output=True)
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            else:
                limited = ["bash", "-c", f'ulimit -f {size // 1024}; exec "$@"', "bash", *command]
                done = subprocess.run(limited, capture_output=True, text=True, check=False)
            return (
                "copied"
                if done.returncode == 0
                else (done.stderr.strip().splitlines() or ["cut off"])[-1][-60:]
            )

        try:
            yield copy
        finally:
            if mounted:
                subprocess.run(["umount", "-l", str(target)], check=True)
            shutil.rmtree(target)

    def kill(self) -> None:
        """See above; a client with retries waits for the server."""
        from serving.client import Client, ServerError

        load = self.load_of(self.first)
        done, took = threading.Event(), []
        worker = threading.Thread(target=lambda: took.append(load.closed(_CLIENTS, done.is_set, 1)))
        worker.start()
        time.sleep(self.options.seconds / 2)
        killed = time.monotonic()
        self.server.process.kill()
        self.server.process.wait()
        with Client(
            f"localhost:{self.server.port}", timeout=120, wait_for_ready=True, max_backoff=20
        ) as client:
            asking = futures.ThreadPoolExecutor(1).submit(client.metadata)
            self.server = self.start(self.server.port)
            try:
                patient = f"a retrying client is answered by version {asking.result().version}"
            except ServerError as error:
                patient = f"a retrying client FAILED: {error}"
        time.sleep(self.options.seconds / 2 + 1)
        done.set()
        worker.join()
        back = min((at for at in load.ends if at > killed + 0.2), default=float("nan")) - killed
        late = sum(at > killed + back + 0.5 for at in load.failed_at)
        row = self.row(load, "kill -9", took[0], f"back after {back:.1f} s; {patient}")
        row.failed = late  # while it was dead, nobody could answer
        self.add(row)

    def memory(self) -> None:
        """An hour's requests are 3600 s x half of the saturated rate of `recommend`.

        They are sent as fast as they are answered, and most of them are of cheap signatures: what a
        leak would hold (requests, tensors, answers, what is counted) is made for each of them.
        """
        hour = 3600 * self.half_rate(self.first)
        cheap = [name for name in ("embed_item", "similar", "rank", "embed_user") if name in self.requests]
        contents = []
        for place, content in enumerate(serving_load.serialized(self.first, self.requests[self.first])):
            contents.append(content)
            for name in cheap * 4:
                own = serving_load.serialized(name, self.requests[name])
                contents.append(own[place % len(own)])
        load = Load(self.server.port, contents, self.load_of(self.first).malformed)
        load.malformed_share = 0.05
        load.closed(_CLIENTS, for_seconds(self.options.seconds))  # pools and caches fill
        process = psutil.Process(self.server.process.pid)
        samples: list[tuple[int, float]] = []
        end = time.monotonic() + self.options.memory_seconds

        def until() -> bool:
            asked = len(load.times) + load.refused
            if not samples or asked >= samples[-1][0] + 200:
                samples.append((asked, process.memory_info().rss / 1e6))
            return asked >= hour or time.monotonic() > end

        seconds = load.closed(_CLIENTS, until, check_every=50)
        asked, rss = np.array(samples).T
        half = len(samples) // 2
        slope = np.polyfit(asked[half:], rss[half:], 1)[0] * hour if len(samples) > 4 else float("nan")
        minutes = 60 * asked[-1] / hour
        note = (
            f"{asked[-1]:,.0f} requests as in {minutes:.0f} min at half load: {rss[0]:.0f} MB at first, "
            f"{rss[half]:.0f} half-way, {rss[-1]:.0f} at last; second half {slope:+.1f} MB an hour"
        )
        row = self.row(load, "memory", seconds, note, "mixed")
        self.add(row)
        self.bar("memory's growth in an hour at half load", f"{slope:+.1f} MB", "20 MB", slope < 20, row)

    def hour(self) -> None:
        """See above."""
        contents = [
            content
            for signature in self.options.signatures
            for content in serving_load.serialized(signature, self.requests[signature])
        ]
        hostile = [one for family in serving_hostile.families(self.requests) for one in family]
        load = Load(self.server.port, contents, self.load_of(self.first).malformed)
        traffic = serving_hour.Traffic(load, serving_hostile.Sender(self.server), hostile)
        saturated = traffic.saturated(2 * _CLIENTS, 4 * self.options.seconds)
        rate = min(saturated / 2, self.options.most_per_second)
        console.print(f"saturated at {saturated:.1f} requests/s; {rate:.1f}/s asked", highlight=False)
        load.reset()
        memory = serving_hour.Memory(self.server.process.pid, self.options.swap_seconds)
        started, ended = time.monotonic(), threading.Event()
        over = for_seconds(self.options.hour_seconds)
        pace = threading.Thread(target=traffic.paced, args=(rate, lambda: ended.is_set() or over()))
        memory.start()
        pace.start()
        swaps = 0
        try:
            while not over():
                due = started + (swaps + 1) * self.options.swap_seconds
                pace.join(max(due - time.monotonic(), 0))
                if not over() and self.swap(traffic, over):
                    swaps += 1
                line = f"{traffic.line(started)}, {swaps} swaps, {memory.last():.0f} MB"
                console.print(f"[dim]{line}[/dim]", highlight=False)
        finally:
            ended.set()
            pace.join()
            memory.stop()
        self.judge_hour(traffic, memory, load, time.monotonic() - started, swaps)

    def swap(self, traffic: serving_hour.Traffic, over: Callable[[], bool]) -> bool:
        """The next version; no request sent from now on may be answered by an older one.

        Returns:
          Whether it serves; False when `over()` came first: on a busy machine loading takes minutes.
        """
        number = self.link()

        def serves() -> bool:
            return self.server.states().get(number, (0, ""))[0] == child.AVAILABLE

        self.server.wait(lambda: over() or serves(), float("inf"))
        if not serves():
            return False
        traffic.serving = number
        (self.base / str(number - 1)).unlink()
        return True

    def judge_hour(
        self,
        traffic: serving_hour.Traffic,
        memory: serving_hour.Memory,
        load: Load,
        seconds: float,
        swaps: int,
    ) -> None:
        """The row and the bars of `hour`."""
        growth = memory.growth()
        note = (
            f"{traffic.count('malformed')} malformed, {traffic.count('hostile')} hostile, "
            f"{traffic.count(outcome='late')} late, {traffic.held} held back, {swaps} swaps, "
            f"{len(traffic.versions)} versions answered; memory between swaps {memory.course()}"
        )
        load.times = traffic.times
        row = self.row(load, "hour", seconds, note, "mixed", 0)
        row.requests = traffic.count()
        row.per_second = row.rows_per_second = row.requests / seconds
        bad = traffic.bad()
        row.wrong = sum(bad.values())
        if bad:
            row.note += f" {bad}"
        self.add(row)
        minutes = f"{seconds / 60:.0f} minutes"
        self.bar(f"wrong answers in {minutes}", f"{row.wrong} of {row.requests}", "0", not row.wrong, row)
        self.bar("memory's growth between swaps", f"{growth:+.1f} MB/h", "20 MB/h", growth < 20, row)

    def bar(self, what: str, found: str, wanted: str, reached: bool, row: Result) -> None:
        """Notes what was measured, in a row, of something that the project wants to reach."""
        machine = f"{row.stolen:.0%} stolen, {row.others:.0%} others"
        self.bars.append((f"{what} ({self.name})", f"{found} (bar {wanted}; {machine})", reached))

    def run(self) -> None:
        """All sections asked for, in their order."""
        try:
            for section in (*SECTIONS, *LONG):
                if section in self.options.only:
                    getattr(self, section)()
        finally:
            self.server.stop()


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


def models(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Name and version folder of each model to measure; synthetic ones are kept until the code changes."""
    if options.model_base_path or not options.synthetic:
        yield MODEL, newest_version(options.model_base_path)
    for count in options.synthetic:
        version = ROOT / "runs" / "benchmark" / f"synthetic-{count}" / "1"
        program = ROOT / "benchmarks" / "synthetic_servable.py"
        graph = version / "saved_model.pb"
        changed = max(path.stat().st_mtime for path in [program, *(ROOT / "models").glob("*.py")])
        if not graph.exists() or graph.stat().st_mtime < changed:
            console.print(f"building {version} ...", highlight=False)
            shutil.rmtree(version, ignore_errors=True)
            version.parent.mkdir(parents=True, exist_ok=True)
            # in a process of its own: its memory is not for the measurement
            subprocess.run(
                [sys.executable, str(program), str(count), str(version.parent)],
                check=True, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        yield f"{count:,} items", version


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the sections asked for; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model_base_path", help="folder of version folders (newest runs/*/serving/*)")
    parser.add_argument(
        "--synthetic",
        type=_numbers,
        default=[],
        metavar="ITEMS",
        help="measure servables of so many items with random weights, kept in runs/benchmark; e.g. 1000000",
    )
    parser.add_argument(
        "--signatures", type=lambda text: text.split(","), default=["recommend", "rank", "similar"]
    )
    parser.add_argument("--concurrency", type=_numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--batch", type=_numbers, default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)s)")
    parser.add_argument("--swaps", type=int, default=50, help="version swaps under load (%(default)s)")
    parser.add_argument(
        "--memory_seconds", type=float, default=300, help="of the section memory at most (%(default)s)"
    )
    parser.add_argument("--hour_seconds", type=float, default=3600, help="of the section hour (%(default)s)")
    parser.add_argument(
        "--swap_seconds", type=float, default=60, help="from one version to the next in it (%(default)s)"
    )
    parser.add_argument(
        "--most_per_second", type=float, default=float("inf"), help="requests in it at most (half load)"
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(SECTIONS),
        help=f"{','.join((*SECTIONS, *LONG))} (all but {','.join(LONG)})",
    )
    parser.add_argument(
        "--server_flag",
        action="append",
        default=[],
        help="for the server, e.g. --server_flag=--grpc_max_threads=16",
    )
    parser.add_argument("--plot", metavar="SVG", help="file for the plot")
    parser.add_argument("--json", metavar="FILE", help="file for the numbers")
    options = parser.parse_args(arguments)
    known = (*SECTIONS, *LONG)
    unknown = set(options.only) - set(known)
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))} is unknown; choose from {', '.join(known)}")
    results: list[Result] = []
    bars: list[tuple[str, str, bool]] = []
    for name, version in models(options):
        console.print(
            f"{name}: {version}, {psutil.cpu_count()} cores, server flags {options.server_flag}",
            highlight=False,
        )
        with tempfile.TemporaryDirectory(prefix="shelfwise-bench-") as work:
            bench = Bench(options, name, version, Path(work))
            try:
                bench.run()
            finally:
                results += bench.results
                bars += bench.bars
    console.print(serving_load.table(results))
    if bars:
        listed = Table(box=None, pad_edge=False)
        for header in ("to reach", "measured", ""):
            listed.add_column(header)
        for what, found, reached in bars:
            listed.add_row(what, found, "reached" if reached else "NOT reached")
        console.print(listed)
    if options.plot:
        Path(options.plot).write_text(serving_load.plot(results), encoding="utf-8")
    if options.json:
        rows = [dataclasses.asdict(row) for row in results]
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    bad = sum(row.failed + row.wrong for row in results)
    if bad:
        console.print(f"{bad} requests failed, or got a wrong answer or error")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
