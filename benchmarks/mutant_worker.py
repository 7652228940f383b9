"""Tries the mutants of one file after another; started by `benchmarks/mutants.py` in a copy of the tree.

A line of JSON in: `path`, `tests`, `deselect` and `mutants` (`lines`, `source`). A line out: `by`, what
killed each ("" for a survivor), and `seconds` of the processor; or `error`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
os.environ |= {"OPENBLAS_NUM_THREADS": "1"}  # a thread of its pool would not live on after a fork

import psutil
import pytest

from benchmarks import mutant_imports as importing

OURS = (
    "schema",
    "models",
    "components",
    "pipeline",
    "kubeflow",
    "serving",
    "benchmarks",
    "tests",
    "shelfwise",
)
_SPARE_SECONDS, _TIMES = 15, 4  # of the processor: the limit is the first plus the second times the usual
_SILENT_SECONDS = 40.0  # in which no process of the tests ran: they wait for ever
_MAX_BYTES = 5 << 30


def main(log: str) -> None:
    """Answers on the real standard output; what tests print goes to `log`."""
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    sink = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sys.path.insert(0, os.getcwd())
    from tests.shops import cache

    for line in sys.stdin:
        ask = json.loads(line)
        try:
            answer = _Tries(ask, cache.VERSION, Path(log).parent).run()
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}; see {log}"}
        print(json.dumps(answer), file=answers, flush=True)


def _end_with_parent() -> None:
    """Linux ends this process when its parent ends, however that comes about."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _import(names: Sequence[str]) -> None:
    for name in names:
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception as error:  # an optional module that was a stand-in in the other process
                print(f"not imported before the fork: {name} ({error})", file=sys.stderr)


class _Tries:
    """The mutants of one file."""

    def __init__(self, ask: Mapping[str, Any], shop: str, scratch: Path) -> None:
        self._path = Path(ask["path"]).absolute()
        self._source = self._path.read_bytes()
        self._tests, self._deselect, self._mutants = ask["tests"], ask["deselect"], ask["mutants"]
        self._shop, self._scratch = shop, scratch
        self._stamp = time.time() - 1e6

    def run(self) -> dict[str, Any]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        usual, ours = self._baseline()
        answer = self._scratch / "answer.json"

        def tried() -> int:
            # A fork of its own: what it imports of ours must be anew for the next file.
            _import(importing.apart_from(ours, self._path, Path.cwd()))
            answer.write_text(json.dumps(self._tried(usual)))
            return 0

        status = self._forked(tried, 36_000, lambda: None, watched=False)
        if status != 0:
            raise RuntimeError(f"the process that tries them ended ({_named(status)})")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {**json.loads(answer.read_text()), "seconds": seconds}

    def _tried(self, usual: dict[str, _Record]) -> dict[str, Any]:
        by = []
        try:
            for mutant in self._mutants:
                self._write(mutant["source"].encode())
                by.append(self._try(mutant["lines"], usual))
        finally:
            self._write(self._source)
        # Tests ran in another order than usual: without a mutant, those that failed must pass in it, too.
        killers = sorted(set(by) & set(usual), key=lambda name: usual[name].seconds)
        if killers:
            plugin = _Plugin(self._shop, order=killers, only=True)
            status = self._forked(lambda: self._pytest(plugin), 600, lambda: None)
            if status != 0:
                return {"error": f"tests fail in another order, without a mutant ({_named(status)})"}
        return {"by": by}

    def _write(self, source: bytes) -> None:
        """Changes the file, and its time of modification by seconds, which is what bytecode goes by."""
        self._path.write_bytes(source)
        self._stamp += 10
        os.utime(self._path, (self._stamp, self._stamp))

    def _baseline(self) -> tuple[dict[str, _Record], list[str]]:
        """What the tests do without a mutant, by name, and the modules of ours that they import."""
        plugin = _Plugin(self._shop, traced=str(self._path), deselect=self._deselect)
        noted = self._scratch / "noted.json"
        status = self._forked(lambda: self._pytest(plugin), 600, plugin.write(noted))
        if status != 0:
            raise RuntimeError(f"tests of the file fail without a mutant ({_named(status)})")
        found = json.loads(noted.read_text())
        _import(found["others"])
        records = {
            name: _Record(seconds, frozenset(lines)) for name, (seconds, lines) in found["tests"].items()
        }
        return records, found["ours"]

    def _try(self, lines: tuple[int, int], usual: dict[str, _Record]) -> str:
        touched = range(lines[0], lines[1] + 1)

        def place(name: str) -> tuple[bool, float]:
            return usual[name].lines.isdisjoint(touched), usual[name].seconds

        plugin = _Plugin(self._shop, order=sorted(usual, key=place), deselect=self._deselect)
        limit = _SPARE_SECONDS + _TIMES * sum(record.seconds for record in usual.values())
        failed = self._scratch / "failed"
        failed.unlink(missing_ok=True)
        plugin.failed = failed
        status = self._forked(lambda: self._pytest(plugin), limit, lambda: None)
        if status == 0:
            return ""
        return failed.read_text() if failed.exists() else _named(status)

    def _pytest(self, plugin: _Plugin) -> int:
        base = self._scratch / "base"
        shutil.rmtree(base, ignore_errors=True)
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-m",
            "not slow",
            f"--basetemp={base}",
        ]
        return int(pytest.main([*options, *self._tests], plugins=[plugin]))

    def _forked(
        self, work: Callable[[], int], seconds: float, last: Callable[[], None], watched: bool = True
    ) -> int:
        """The exit status of `work` in a process of its own; that of a signal is negative."""
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            _end_with_parent()
            status = 70
            try:
                if watched:
                    os.setsid()
                    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 10))
                status = work()
                last()
            finally:
                if status == 70:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        return _wait(pid) if watched else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _wait(pid: int) -> int:
    """Waits for a process, and ends it when it runs no more or takes too much memory."""
    ran, when = 0.0, time.monotonic()
    pause = 0.05
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            _end_group(pid)
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
        now, waits, memory = _seconds(pid)
        if not waits or now > ran + 0.5:
            ran, when = now, time.monotonic()
        if memory > _MAX_BYTES or time.monotonic() > when + _SILENT_SECONDS:
            _end_group(pid)
            os.waitpid(pid, 0)
            return -signal.SIGXFSZ if memory > _MAX_BYTES else -signal.SIGALRM


def _seconds(pid: int) -> tuple[float, bool, int]:
    """Processor's time of a process and its children, whether all of them wait, and their memory."""
    total, waits, memory = 0.0, True, 0
    try:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            times = one.cpu_times()
            total += times.user + times.system
            memory += one.memory_info().rss
            waits &= one.status() not in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
    except psutil.NoSuchProcess:
        pass
    return total, waits, memory


def _end_group(pid: int) -> None:
    """Ends what is left of a session: servers that its tests started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _named(status: int) -> str:
    reasons = {
        -signal.SIGXCPU: "too much of the processor's time",
        -signal.SIGALRM: "tests that wait for ever",
        -signal.SIGXFSZ: "too much memory",
        int(pytest.ExitCode.INTERRUPTED): "the file cannot be imported",
    }
    return reasons.get(status, f"exit status {status}")


class _Record:
    """How long a test takes, and which lines of the file it runs."""

    def __init__(self, seconds: float, lines: frozenset[int]) -> None:
        self.seconds, self.lines = seconds, lines


class _Plugin:
    """Puts pytest's tests in order and notes what they do."""

    def __init__(
        self,
        shop: str,
        order: Sequence[str] = (),
        only: bool = False,
        traced: str | None = None,
        deselect: Sequence[str] = (),
    ) -> None:
        self._shop, self._only, self._traced, self._deselect = shop, only, traced, tuple(deselect)
        self._place = {name: place for place, name in enumerate(order)}
        self._lines: set[int] = set()
        self._known = set(sys.modules)
        self._fixtures: dict[str, float] = {}  # seconds that each of a session or module takes
        self._uses: dict[str, tuple[str, ...]] = {}
        self.tests: dict[str, tuple[float, list[int]]] = {}
        self.failed: Path | None = None

    def pytest_sessionstart(self) -> None:
        # A changed file gives the shop's cache another name; the shop of the unchanged code is the input.
        from tests.shops import cache

        cache.VERSION = self._shop
        cache.version = lambda: self._shop

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._only:
            items[:] = [item for item in items if item.nodeid in self._place]
        items[:] = [item for item in items if not item.nodeid.startswith(self._deselect or ("\0",))]
        items.sort(key=lambda item: self._place.get(item.nodeid, len(self._place)))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        begun = time.monotonic()
        try:
            return (yield)
        finally:
            if fixturedef.scope in ("session", "module"):
                self._fixtures[fixturedef.argname] = time.monotonic() - begun

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        begun = time.process_time()
        self._uses[item.nodeid] = tuple(item.fixturenames)
        self._lines.clear()
        if self._traced:
            import threading

            threading.settrace(self._call)
            sys.settrace(self._call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.tests[item.nodeid] = (time.process_time() - begun, sorted(self._lines))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is not None:
            self.failed.write_text(report.nodeid)

    def _call(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename != self._traced:
            return None
        self._lines.add(frame.f_lineno)
        return self._line

    def _line(self, frame: FrameType, event: str, arg: object) -> Any:
        self._lines.add(frame.f_lineno)
        return self._line

    def write(self, path: Path) -> Callable[[], None]:
        """A function that writes what was noted."""

        def now() -> None:
            new = {name: module for name, module in list(sys.modules.items()) if name not in self._known}
            ours = [name for name in new if name.split(".")[0] in OURS]
            others = [
                name
                for name, module in new.items()
                if name.split(".")[0] not in OURS
                and getattr(module, "__spec__", None) is not None
                and "site-packages" in (getattr(module, "__file__", None) or "")
            ]
            # whoever comes first pays for what several share, such as a server
            tests = {
                name: (seconds + sum(self._fixtures.get(one, 0.0) for one in self._uses[name]), lines)
                for name, (seconds, lines) in self.tests.items()
            }
            path.write_text(json.dumps({"tests": tests, "ours": ours, "others": others}))

        return now


if __name__ == "__main__":
    main(sys.argv[1])
