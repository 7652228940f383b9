"""An hour of a server's life: `benchmarks/serving.py --only=hour`.

Well-formed, malformed and hostile requests at random times, half as many as the server can answer, while
one version follows the other. A busy machine makes answers late, which is counted and is no fault; a
well-formed request must get the answer that it got before, from a version that serves, and every other
one an answer that it deserves.
"""

from __future__ import annotations

import collections
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures

import numpy as np
import psutil

from benchmarks.serving_hostile import DESERVED, TIMEOUT, Hostile, Sender
from benchmarks.serving_load import Load

MALFORMED, HOSTILE = 0.05, 0.02  # shares of the requests
_IN_FLIGHT = 64  # at most: where the machine is taken by others, requests are held back, not heaped up
_BEHIND_SECONDS = 1.0  # after which what was due is dropped
_LATE = {"DEADLINE_EXCEEDED", TIMEOUT}
_SAMPLE_SECONDS = 1.0
_SETTLING = 1 / 6  # of the time: caches and pools fill, and memory's pieces find their places


class Traffic:
    """The requests, and what became of them.

    Args:
      load: well-formed and malformed requests.
      sender: of hostile ones.
      hostile: these.

    Attributes:
      outcomes: requests by (kind, outcome); an outcome is "right", "late", or what was wrong.
      times: seconds of the well-formed requests that were answered.
      held: requests that were due and not sent, since too many were under way.
      serving: the version that a request sent from now on must not be older than.
      versions: those that answered.
    """

    def __init__(self, load: Load, sender: Sender, hostile: Sequence[Hostile]) -> None:
        self._load, self._sender, self._hostile = load, sender, hostile
        self._lock = threading.Lock()
        self.serving = 0
        self.reset()

    def reset(self) -> None:
        """Forgets what was measured."""
        self.outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
        self.times: list[float] = []
        self.held = 0
        self.versions: set[int] = set()

    def one(self, random_: random.Random) -> None:
        """One request of a random kind."""
        draw = random_.random()
        if draw < HOSTILE:
            kind, outcome = "hostile", self._one_hostile(random_)
        elif draw < HOSTILE + MALFORMED:
            kind, outcome = "malformed", self._one_malformed(random_)
        else:
            kind, outcome = "well-formed", self._one_good(random_)
        with self._lock:
            self.outcomes[kind, outcome] += 1

    def _one_hostile(self, random_: random.Random) -> str:
        hostile = random_.choice(self._hostile)
        status = self._sender.status(hostile)
        if status in DESERVED:
            return "right"
        return "late" if status in _LATE else f"{status}: {hostile.name}"

    def _one_malformed(self, random_: random.Random) -> str:
        found, wanted = self._load.ask_malformed(random_)
        if found in wanted.split(" or "):
            return "right"
        return "late" if found in _LATE else f"{found} instead of {wanted}"

    def _one_good(self, random_: random.Random) -> str:
        oldest, started = self.serving, time.perf_counter()
        outcome, version = self._load.ask(random_.randrange(len(self._load.contents)))
        if outcome in _LATE:
            return "late"
        if outcome != "OK":
            return outcome
        if version < oldest:
            return f"version {version} answered when {oldest} served"
        with self._lock:
            self.times.append(time.perf_counter() - started)
            self.versions.add(version)
        return "right"

    def saturated(self, clients: int, seconds: float) -> float:
        """Requests a second that clients without pauses get answered."""
        self.reset()
        started = time.perf_counter()

        def client(seed: int) -> None:
            random_ = random.Random(seed)
            while time.perf_counter() < started + seconds:
                self.one(random_)

        threads = [threading.Thread(target=client, args=(seed,), daemon=True) for seed in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.count() / (time.perf_counter() - started)

    def paced(self, rate: float, until: Callable[[], bool]) -> None:
        """Requests at random times, `rate` a second on average, until `until()`."""
        self.reset()
        random_, free = random.Random(0), threading.Semaphore(_IN_FLIGHT)
        due = time.perf_counter()

        def work(seed: int) -> None:
            try:
                self.one(random.Random(seed))
            finally:
                free.release()

        with futures.ThreadPoolExecutor(_IN_FLIGHT) as pool:
            while not until():
                time.sleep(max(due - time.perf_counter(), 0))
                free.acquire()
                pool.submit(work, random_.getrandbits(64))
                due += random_.expovariate(rate)
                behind = time.perf_counter() - due
                if behind > _BEHIND_SECONDS:
                    self.held += round(behind * rate)
                    due += behind

    def bad(self) -> dict[str, int]:
        """Requests that were not answered as they deserve, by kind and outcome."""
        return {
            f"{kind}: {outcome}": count
            for (kind, outcome), count in self._counted()
            if outcome not in ("right", "late")
        }

    def line(self, started: float) -> str:
        """What happened since a `time.monotonic()` second, for a person."""
        minutes = (time.monotonic() - started) / 60
        return (
            f"{minutes:.1f} min: {self.count()} requests, {self.count(outcome='late')} late, "
            f"{self.held} held back, bad {self.bad()}"
        )

    def count(self, kind: str = "", outcome: str = "") -> int:
        """Requests of a kind, and with an outcome, if any is given."""
        return sum(
            count for (of, found), count in self._counted() if kind in ("", of) and outcome in ("", found)
        )

    def _counted(self) -> list[tuple[tuple[str, str], int]]:
        with self._lock:
            return list(self.outcomes.items())


class Memory(threading.Thread):
    """Looks at a process's resident memory, until `stop`.

    Args:
      pid: the process.
      period: seconds from one swap to the next; what is left in between is the least of each period.
    """

    def __init__(self, pid: int, period: float) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._period = period
        self._ended = threading.Event()
        self._begun = time.monotonic()
        self._samples: list[tuple[float, float]] = []  # seconds, MB

    def run(self) -> None:
        """The thread; see `threading.Thread`."""
        while not self._ended.wait(min(_SAMPLE_SECONDS, self._period / 5)):
            self._samples.append((time.monotonic() - self._begun, self._process.memory_info().rss / 1e6))

    def stop(self) -> None:
        """Ends it."""
        self._ended.set()
        self.join()

    def last(self) -> float:
        """MB at the last look; NaN before the first."""
        return self._samples[-1][1] if self._samples else float("nan")

    def floors(self) -> tuple[np.ndarray, np.ndarray]:
        """Least memory of each whole period.

        Returns:
          float64 [periods]: the middle of the period in hours since the start, and MB.
        """
        seconds, taken = np.array(self._samples).reshape(-1, 2).T
        period = (seconds // self._period).astype(int)
        numbers = np.unique(period)[:-1]  # the last one is not whole
        least = np.array([taken[period == number].min() for number in numbers])
        return (numbers + 0.5) * self._period / 3600, least

    def course(self) -> str:
        """The floors from the first to the last, seven of them, for a person."""
        hours, least = self.floors()
        chosen = np.unique(np.linspace(0, max(len(hours) - 1, 0), 7).round().astype(int))[: len(hours)]
        return ", ".join(f"{least[place]:.0f} MB at {60 * hours[place]:.0f} min" for place in chosen)

    def growth(self) -> float:
        """MB an hour by which the floors grow after the first sixth of the time; NaN for fewer than three.

        The median of the slopes between any two (Theil 1950; Sen 1968), which a few outliers do not move.
        """
        hours, least = self.floors()
        if not len(hours):
            return float("nan")
        settled = hours > _SETTLING * self._samples[-1][0] / 3600
        hours, least = hours[settled], least[settled]
        if len(hours) < 3:
            return float("nan")
        first, second = np.triu_indices(len(hours), 1)
        return float(np.median((least[second] - least[first]) / (hours[second] - hours[first])))
