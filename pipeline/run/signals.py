"""Ctrl-C and SIGTERM during a run: both end it with its summary written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_Handler = Callable[[int, FrameType | None], None] | signal.Handlers


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends the run like Ctrl-C."""


class Interruption:
    """Whether this run was told to stop.

    The exception that a signal raises may come back as another one: Beam, which runs a stage's code
    on the main thread, wraps what it cannot copy into a RuntimeError. So the signal is written down.

    Attributes:
      signal: SIGINT or SIGTERM, None while the run was not interrupted.
    """

    signal: int | None = None

    @property
    def status(self) -> int:
        """The exit status of a process that the signal ended, as shells report it: 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)


@contextmanager
def as_exceptions() -> Iterator[Interruption]:
    """Makes SIGTERM raise like SIGINT, and notes either.

    A SIGINT that the process was started to ignore (a shell's background job) stays ignored.
    Outside the main thread, which alone may set handlers, nothing is noted.
    """
    interruption = Interruption()

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        interruption.signal = number
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    with _handled(stop, ignored_too=False):
        yield interruption


@contextmanager
def ignored() -> Iterator[None]:
    """Ignores both signals for as long as it lasts."""
    with _handled(signal.SIG_IGN, ignored_too=True):
        yield


@contextmanager
def _handled(handler: _Handler, ignored_too: bool) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, earlier in before.items():
        if ignored_too or earlier is not signal.SIG_IGN or number == signal.SIGTERM:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
