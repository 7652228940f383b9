"""Signals during a run; no TFX."""

import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.run import signals

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [(signal.SIGTERM, signals.Terminated, 143), (signal.SIGINT, KeyboardInterrupt, 130)],
)
def test_either_signal_raises_and_is_noted(number, kind, status, request):
    # a session that was started in the background ignores SIGINT, and so would its children
    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with signals.as_exceptions() as interruption:
        assert interruption.signal is None
        with pytest.raises(KeyboardInterrupt) as caught:
            os.kill(os.getpid(), number)
        assert caught.type is kind
    assert (interruption.signal, interruption.status) == (number, status)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_inside_a_beam_stage_is_noted_though_beam_raises_its_own_error():
    script = """
import os, signal
import apache_beam as beam
from pipeline.run import signals

with signals.as_exceptions() as interruption:
    try:
        with beam.Pipeline() as stage:
            stage | beam.Create([signal.SIGTERM]) | beam.Map(lambda number: os.kill(os.getpid(), number))
    except BaseException as error:
        print(type(error).__name__, interruption.status)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=1800
    )
    assert done.stdout == "RuntimeError 143\n", done.stderr


def test_ignored_signals_do_nothing():
    with signals.as_exceptions() as interruption, signals.ignored():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert interruption.signal is None


def test_a_background_job_goes_on_ignoring_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.as_exceptions() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_set_no_handlers():
    failures = []

    def enter():
        try:
            with signals.as_exceptions(), signals.ignored():
                pass
        except ValueError as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert failures == []
