"""The gateway under load: events/s into both databases, requests/s and what they cost, kills.

::

    python -m benchmarks.gateway --run runs/complete_journey            # everything
    python -m benchmarks.gateway --run runs/complete_journey kills --kills 50

`events`: batches into SQLite and PostgreSQL (`--postgres`), through HTTP. `requests`: an open loop of
recommendations, searches, similar items and events at a given rate, with the processor time that gateway,
model server and client take: what saturates first. `kills`: SIGKILL of the gateway at random moments under
load; every event that was acknowledged must be there once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import sqlalchemy as sa

from serving.model_server.process.child import ROOT, ModelServer
from serving.store import tables
from serving.store.engine import connect

CONFIG = ROOT / "pipeline" / "configs" / "complete_journey.yaml"
_START_SECONDS = 300.0


class Gateway:
    """`python -m serving.gateway` as a process.

    Args:
      folder: for its log and port.
      store: URL of the database.
      arguments: further ones, such as --run.
      model_server: address.
      port: 0 picks a free one; a restarted gateway keeps the port.
    """

    def __init__(
        self, folder: Path, store: str, *arguments: str, model_server: str = "localhost:1", port: int = 0
    ) -> None:
        self._folder, self._port_file = folder, folder / "port"
        settings = [f"gateway.store={store}", f"gateway.model_server={model_server}", "gateway.clock=data"]
        settings += ["gateway.bots.events_per_minute=1000000000", "gateway.limits.per_minute=1000000000"]
        self._command = [
            *(sys.executable, "-m", "serving.gateway", "--config", str(CONFIG), *arguments),
            *(part for setting in settings for part in ("--set", setting)),
            *("--port_file", str(self._port_file)),
        ]
        self.port = port
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        self._port_file.unlink(missing_ok=True)
        with open(self._folder / "gateway.log", "ab") as log:
            self.process = subprocess.Popen(
                [*self._command, "--port", str(self.port)], stdout=log, stderr=log, cwd=ROOT
            )
        end = time.monotonic() + _START_SECONDS
        while not self._port_file.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "gateway.log").read_text()[-3000:])
            time.sleep(0.02)
        self.port = int(self._port_file.read_text())

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM; SIGKILL if it does not end."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


class Connection:
    """One HTTP/1.1 connection that is kept open; cheaper than a client library."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Sends a request; gives status and body.

        Raises:
          OSError, EOFError: the connection broke; the next call opens another.
        """
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n"
        head += "content-type: application/json\r\n\r\n"
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("localhost", self._port)
            reader, writer = self._streams
            writer.write(head.encode() + content)
            status = int((await reader.readline()).split()[1])
            length = 0
            while (line := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            return status, await reader.readexactly(length)
        except (OSError, EOFError, IndexError) as error:
            self.close()
            raise ConnectionError("the connection broke") from error

    def close(self) -> None:
        """Closes it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def event(user: str, item: str, kind: str = "click") -> dict[str, object]:
    """An event that happens now."""
    return {
        "event_id": uuid.uuid4().hex,
        "user_id": user,
        "item_id": item,
        "event_type": kind,
        "occurred_at": time.time(),
    }


# ---- kills


async def _send_until(port: int, stop: asyncio.Event, acknowledged: list[str], batch: int) -> None:
    """Sends batches, each until it is acknowledged."""
    connection, rng = Connection(port), random.Random(len(acknowledged))
    while not stop.is_set():
        events = [event(f"user-{rng.randrange(50)}", str(rng.randrange(1000))) for _ in range(batch)]
        while True:
            try:
                status, _ = await connection.ask("POST", "/v1/events", events)
            except ConnectionError:
                await asyncio.sleep(0.02)
                continue
            if status == 200:
                acknowledged.extend(str(each["event_id"]) for each in events)
                break
            if status != 503:
                raise AssertionError(f"events were answered with {status}")
    connection.close()


async def _lists_until(port: int, stop: asyncio.Event, answers: list[bool]) -> None:
    """Asks for lists: whatever is answered is a list, and says whether a model made it."""
    connection = Connection(port)
    while not stop.is_set():
        try:
            status, body = await connection.ask("GET", "/v1/recommend?user_id=user-1&k=5")
        except ConnectionError:
            await asyncio.sleep(0.05)
            continue
        answer = json.loads(body)
        if status != 200 or answer["fallback"] == bool(answer["model_version"]):
            raise AssertionError(f"a list was answered with {status}: {body[:500]!r}")
        answers.append(answer["fallback"])
        await asyncio.sleep(0.02)
    connection.close()


async def kill_under_load(
    gateway: Gateway, kills: int, senders: int = 3, batch: int = 20, seed: int = 15
) -> tuple[list[str], list[bool]]:
    """Kills a gateway again and again while events come in; it ends up running.

    Args:
      gateway: that runs.
      kills: how often.
      senders: connections that send events.
      batch: events of a request.
      seed: of the moments.

    Returns:
      The ids of the acknowledged events, and for each list that was answered whether it was a fallback.
    """
    rng, stop = random.Random(seed), asyncio.Event()
    acknowledged: list[str] = []
    answers: list[bool] = []
    tasks = [
        asyncio.create_task(_send_until(gateway.port, stop, acknowledged, batch)) for _ in range(senders)
    ]
    tasks.append(asyncio.create_task(_lists_until(gateway.port, stop, answers)))
    for _ in range(kills):
        before = len(acknowledged)
        while len(acknowledged) < before + batch * senders:  # it works: now, or somewhat later
            await asyncio.sleep(0.01)
            for task in tasks:
                if task.done():
                    task.result()
        await asyncio.sleep(rng.uniform(0, 0.15))
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
    stop.set()
    await asyncio.gather(*tasks)
    return acknowledged, answers


def stored(url: str) -> dict[str, int]:
    """How often the store has each event."""
    engine = connect(url)
    ids = sa.select(tables.events.c.event_id, sa.func.count()).group_by(tables.events.c.event_id)
    with engine.connect() as connection:
        found = {key: int(count) for key, count in connection.execute(ids)}
    engine.dispose()
    return found


def _kills(folder: Path, url: str, name: str, arguments: Sequence[str], kills: int) -> dict[str, object]:
    gateway = Gateway(folder, url, *arguments, "--no-wait_for_model")  # no model is asked
    try:
        acknowledged, answers = asyncio.run(kill_under_load(gateway, kills))
    finally:
        gateway.stop()
    found = stored(url)
    return {
        "store": name,
        "kills": kills,
        "acknowledged": len(acknowledged),
        "lost": sum(key not in found for key in acknowledged),
        "doubled": sum(count > 1 for count in found.values()),
        "lists": len(answers),
        "fallbacks": sum(answers),
    }


# ---- events


async def _fill(port: int, seconds: float, batch: int, connections: int) -> tuple[int, list[float]]:
    end = time.monotonic() + seconds
    times: list[float] = []

    async def send(number: int) -> int:
        connection, rng, count = Connection(port), random.Random(number), 0
        while time.monotonic() < end:
            events = [event(str(rng.randrange(2500)), str(rng.randrange(20_000))) for _ in range(batch)]
            started = time.perf_counter()
            status, body = await connection.ask("POST", "/v1/events", events)
            if status != 200:
                raise AssertionError(body)
            times.append(time.perf_counter() - started)
            count += batch
        connection.close()
        return count

    return sum(await asyncio.gather(*(send(number) for number in range(connections)))), times


def _events(folder: Path, url: str, name: str, arguments: Sequence[str], seconds: float) -> dict[str, object]:
    gateway = Gateway(folder, url, *arguments)
    try:
        asyncio.run(_fill(gateway.port, 2, 500, 4))  # warm
        used = _Used(gateway=gateway.process.pid, client=os.getpid())
        started = time.monotonic()
        count, times = asyncio.run(_fill(gateway.port, seconds, 500, 4))
        elapsed = time.monotonic() - started
        cost = used.milliseconds()
    finally:
        gateway.stop()
    return {
        "store": name,
        "events_a_second": round(count / elapsed),
        "batch_p99_ms": _ms(_quantile(times, 0.99)),
        "gateway_processor_ms_per_1000": round(cost["gateway"] / count * 1000, 1),
        "gateway_processor_share": round(cost["gateway"] / 1000 / elapsed, 2),
    }


# ---- requests


class _Used:
    """Processor time of processes from now on."""

    def __init__(self, **pids: int) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._start = self._now()

    def milliseconds(self) -> dict[str, float]:
        return {name: (now - self._start[name]) * 1000 for name, now in self._now().items()}

    def _now(self) -> dict[str, float]:
        found = {}
        for name, process in self._processes.items():
            times = process.cpu_times()
            found[name] = times.user + times.system
        return found


async def _open_loop(
    port: int, rate: float, seconds: float, users: Sequence[str], items: Sequence[str]
) -> tuple[dict[str, list[float]], int, int]:
    """Requests at fixed moments, however long answers take; times count from the moment that was due."""
    rng = random.Random(7)
    words = ["milk", "bread", "cheese", "chicken", "cereal", "coffee", "apples", "soup"]
    free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    times: dict[str, list[float]] = {}
    failed = fallbacks = 0

    async def one(due: float) -> None:
        nonlocal failed, fallbacks
        user, draw = urllib.parse.quote(rng.choice(users)), rng.random()
        if draw < 0.6:
            name, ask = "recommend", ("GET", f"/v1/recommend?user_id={user}&k=12")
        elif draw < 0.8:
            name, ask = "search", ("GET", f"/v1/search?user_id={user}&k=12&query={rng.choice(words)}")
        elif draw < 0.9:
            name, ask = "similar", ("GET", f"/v1/similar?item_id={rng.choice(items)}&k=12")
        else:
            name, ask = "events", ("POST", "/v1/events", event(user, rng.choice(items)))
        connection = free.get_nowait() if not free.empty() else Connection(port)
        try:
            status, body = await connection.ask(*ask)
            failed += status != 200
            fallbacks += b'"fallback":true' in body
        except ConnectionError:
            failed += 1
        free.put_nowait(connection)
        times.setdefault(name, []).append(asyncio.get_running_loop().time() - due)

    loop, tasks = asyncio.get_running_loop(), []
    start = loop.time()
    for number in range(int(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(max(due - loop.time(), 0))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return times, failed, fallbacks


def _requests(folder: Path, run: Path, rate: float, seconds: float) -> dict[str, object]:
    users = pq.read_table(run / "histories.parquet", columns=["user_id"])["user_id"].to_pylist()
    newest = max((run / "serving" / "shelfwise").glob("[0-9]*"), key=lambda path: int(path.name))
    table = pq.read_table(newest / "assets.extra" / "catalogue.parquet").sort_by(
        [("popularity", "descending")]
    )
    items = table["item_id"].to_pylist()[:2000]
    with ModelServer(run / "serving" / "shelfwise", folder / "model.log") as server:
        server.wait_serving()
        url = f"sqlite:///{folder / 'requests.sqlite'}"
        gateway = Gateway(folder, url, "--run", str(run), model_server=server.address)
        try:
            warm = asyncio.run(_open_loop(gateway.port, 5, 20, users, items))
            used = _Used(gateway=gateway.process.pid, server=server.process.pid, client=os.getpid())
            started = time.monotonic()
            times, failed, fallbacks = asyncio.run(_open_loop(gateway.port, rate, seconds, users, items))
            elapsed, cost = time.monotonic() - started, used.milliseconds()
        finally:
            gateway.stop()
    every = [value for values in times.values() for value in values]
    each = {name: round(value / len(every), 2) for name, value in cost.items()}
    return {
        "rate_asked": rate,
        "rate_answered": round(len(every) / elapsed, 1),
        "requests": len(every),
        "failed": failed,
        "fallbacks": fallbacks,
        "warm_fallbacks": warm[2],
        "p50_ms": _ms(statistics.median(every)),
        "p99_ms": _ms(_quantile(every, 0.99)),
        "p99_ms_by_kind": {name: _ms(_quantile(values, 0.99)) for name, values in sorted(times.items())},
        "processor_ms_a_request": each,
        "requests_a_second_of_2_cores": round(2000 / sum(each.values())),
        "processes_of_cores": {name: round(value / 1000 / elapsed, 2) for name, value in cost.items()},
        "load_average": os.getloadavg()[0],
    }


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; prints one JSON object a measurement."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="*", choices=["events", "requests", "kills", []], default=[])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rate", type=float, default=60, help="requests a second (default: 60)")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--postgres", help="URL of an empty PostgreSQL database, for events and kills")
    args = parser.parse_args(argv)
    wanted = args.what or ["events", "requests", "kills"]
    run = args.run.resolve()
    with tempfile.TemporaryDirectory(prefix="gateway-benchmark-") as name:
        folder = Path(name)
        stores = {"sqlite": f"sqlite:///{folder / 'events.sqlite'}"}
        stores |= {"postgresql": args.postgres} if args.postgres else {}
        for kind, url in stores.items():
            if "events" in wanted:
                _tell("events", _events(folder, url, kind, ["--run", str(run)], args.seconds))
            if "kills" in wanted:
                _tell("kills", _kills(folder, url, kind, ["--run", str(run)], args.kills))
        if "requests" in wanted:
            _tell("requests", _requests(folder, run, args.rate, args.seconds))
    return 0


def _tell(what: str, figures: dict[str, object]) -> None:
    print(json.dumps({"measured": what, **figures}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
