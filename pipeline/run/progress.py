"""Progress of a run for a person at a terminal, everything else into a log file.

:class:`OutputToLog` moves file descriptors 1 and 2 to the log, because TensorFlow's C++ code,
Beam and child processes write to the descriptors, not to `sys.stderr`. :class:`Progress` writes
to the terminal that was there before, one line a component. :class:`MemorySampler` measures the
process tree meanwhile. Nothing here imports TFX.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import psutil
import rich.console
import rich.live
import rich.spinner
import rich.text

from pipeline.formats import format_seconds


class OutputToLog:
    """Sends everything written to stdout and stderr to a file, at the level of the system.

    Python loggers at level INFO and above go there too. On leaving, also by an exception, the
    descriptors, loggers and handlers are as they were.

    Args:
      log_path: appended to.

    Attributes:
      terminal: the stdout from before, for progress.
      terminal_error: the stderr from before, for error messages.
    """

    def __init__(self, log_path: str | Path):
        self._log_path = Path(log_path)
        self.terminal: TextIO = sys.stdout
        self.terminal_error: TextIO = sys.stderr

    def __enter__(self) -> OutputToLog:
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(open(self._log_path, "a", encoding="utf-8", buffering=1))
            saved = [os.dup(descriptor) for descriptor in (1, 2)]
            # Progress is written through copies, so that closing them does not close `saved`.
            self.terminal = os.fdopen(os.dup(saved[0]), "w", encoding="utf-8", errors="replace", buffering=1)
            self.terminal_error = os.fdopen(
                os.dup(saved[1]), "w", encoding="utf-8", errors="replace", buffering=1
            )
            stack.callback(self._restore, saved, sys.stdout, sys.stderr)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            # Own text layers: the interpreter's may be captured by a test or fully buffered.
            sys.stdout = open(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
            sys.stderr = open(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
            stack.enter_context(_log_to(sys.stderr))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _restore(self, saved: list[int], stdout: TextIO, stderr: TextIO) -> None:
        for stream in (sys.stdout, sys.stderr, self.terminal, self.terminal_error):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        self.terminal.close()
        self.terminal_error.close()
        self.terminal, self.terminal_error = stdout, stderr
        sys.stdout, sys.stderr = stdout, stderr


@contextlib.contextmanager
def _log_to(stream: TextIO) -> Iterator[None]:
    """Makes the root logger write INFO lines to `stream` only, for as long as it lasts."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(name)s %(message)s"))
    # TensorFlow and absl add a handler of their own only where the root logger has none.
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:], level = before
        root.setLevel(level)


class MemorySampler:
    """Peak memory of this process and all its descendants, sampled by a thread.

    The figure is the sum of the resident set sizes (RSS). It counts pages that several processes
    share once for each of them, so it never reports too little.

    Args:
      interval: seconds between samples.
    """

    KIND = "sum of RSS over the process tree, sampled every 0.5 s"

    def __init__(self, interval: float = 0.5):
        self._interval = interval
        self._stop = threading.Event()
        self._process = psutil.Process()
        self._thread = threading.Thread(target=self._run, name="memory-sampler", daemon=True)
        self._stage_peak = 0
        self.peak_bytes = 0

    def __enter__(self) -> MemorySampler:
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def sample(self) -> int:
        """Takes one sample now and returns it, in bytes."""
        total = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # it may end while it is measured
                total += process.memory_info().rss
        self.peak_bytes = max(self.peak_bytes, total)
        self._stage_peak = max(self._stage_peak, total)
        return total

    def stage_peak(self) -> int:
        """Peak since the last call of this method, in bytes."""
        self.sample()
        peak, self._stage_peak = self._stage_peak, 0
        return peak

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.sample()


def format_line(index: int, total: int, name: str, width: int, seconds: float, state: str, found: str) -> str:
    """One line of progress.

    Args:
      index: 1-based number of the component.
      total: number of components.
      name: component id.
      width: of the column of names.
      seconds: how long it took.
      state: "" (ran), "cached", "failed" or "skipped".
      found: what it found, one line.
    """
    number = f"{index:>{len(str(total))}}/{total}"
    return f"{number}  {name:<{width}}  {format_seconds(seconds):>12}  {state:<7} {found}".rstrip()


class Progress:
    """One line a component on the terminal; while it runs, a live line if it is a TTY.

    Args:
      terminal: where to write.
      names: ids of all components, in order.
    """

    def __init__(self, terminal: TextIO, names: list[str]):
        self._names = names
        self._width = max((len(name) for name in names), default=0)
        self._console = rich.console.Console(
            file=terminal, width=_columns(terminal), highlight=False, markup=False, soft_wrap=True
        )

    @contextlib.contextmanager
    def running(self, index: int) -> Iterator[None]:
        """Shows that component number `index` (1-based) runs, and for how long, on a TTY."""
        if not self._console.is_terminal:
            yield
            return
        started = time.monotonic()
        name = self._names[index - 1]
        spinner = rich.spinner.Spinner("dots")

        def line() -> rich.text.Text:
            frame = spinner.render(time.monotonic())
            elapsed = time.monotonic() - started
            text = format_line(index, len(self._names), name, self._width, elapsed, "", "")
            return rich.text.Text.assemble(text, " ", str(frame), style="cyan")

        live = rich.live.Live(
            get_renderable=line,
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with live:
            yield

    def finished(self, index: int, seconds: float, state: str, found: str) -> None:
        """Writes the line of component number `index` (1-based)."""
        style = {"cached": "dim", "failed": "bold red", "skipped": "dim"}.get(state)
        line = format_line(
            index, len(self._names), self._names[index - 1], self._width, seconds, state, found
        )
        if self._console.is_terminal:  # keep long findings in their own column
            indent = len(format_line(index, len(self._names), "", self._width, 0, "x", "y")) - 1
            width = max(self._console.width, indent + 30)
            line = textwrap.fill(
                line,
                width,
                subsequent_indent=" " * indent,
                break_on_hyphens=False,
                drop_whitespace=True,
                replace_whitespace=False,
            )
        self._console.print(rich.text.Text(line, style=style or ""))

    def note(self, text: str) -> None:
        """Writes a line of text."""
        self._console.print(rich.text.Text(text))


def _columns(terminal: TextIO) -> int | None:
    """Width of the terminal; rich itself would ask descriptors that now lead to the log."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns
    except (OSError, ValueError):
        return None
