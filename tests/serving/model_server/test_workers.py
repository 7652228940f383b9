"""Threads that end after some work: nothing of the work is lost, and what they kept goes with them."""

from __future__ import annotations

import functools
import gc
import platform
import subprocess
import sys
import threading
import urllib.request
import weakref
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest

from serving.model_server.core import batching, predictor, servable, warmup, workers
from serving.model_server.core.metrics import Metrics
from serving.model_server.core.workers import Workers
from serving.model_server.http_api import http_server
from serving.model_server.process import server

ROOT = Path(__file__).resolve().parents[3]
_SECONDS = 60.0  # no test takes them


def threads_of(pool: Workers, pieces: int) -> list[threading.Thread]:
    """The thread of each piece of work, one after the other."""
    return [pool.submit(threading.current_thread).result(_SECONDS) for _ in range(pieces)]


def test_a_thread_ends_after_its_pieces_and_what_it_kept_goes() -> None:
    class Kept:
        pass

    local, kept = threading.local(), []

    def work() -> threading.Thread:
        if not hasattr(local, "kept"):
            local.kept = Kept()
            kept.append(weakref.ref(local.kept))
        return threading.current_thread()

    with Workers(1, "test", lifetime=3) as pool:
        found = [pool.submit(work).result(_SECONDS) for _ in range(8)]
        assert [thread.name for thread in found] == ["test-0"] * 3 + ["test-1"] * 3 + ["test-2"] * 2
    assert not any(thread.is_alive() for thread in found)
    assert [one() for one in kept] == [None] * 3


def test_all_is_done_and_never_more_at_the_same_time_than_it_may() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if number % 100 == 0:
            meeting.wait(_SECONDS)  # all threads are needed
        with lock:
            running -= 1
        return number

    meeting = threading.Barrier(4)
    with Workers(4, "test", lifetime=7) as pool:
        found = [pool.submit(work, number) for number in range(400)]
    assert [future.result() for future in found] == list(range(400))
    assert most == 4


def test_errors_are_told_and_leave_nothing_behind() -> None:
    class Refused(Exception):
        pass

    def work() -> None:
        raise Refused

    gc.disable()
    try:
        with Workers(1, "test") as pool:
            future = pool.submit(work)
            error = weakref.ref(future.exception(_SECONDS))
            assert isinstance(error(), Refused)
            del future
            threads_of(pool, 1)  # the thread has let go of the piece before
        assert error() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("cancel", [False, True])
def test_shut_down_does_what_was_submitted_unless_told_otherwise(cancel: bool) -> None:
    begun, let, pool = threading.Event(), threading.Event(), Workers(1, "test")

    def work() -> bool:
        begun.set()
        return let.wait(_SECONDS)

    first, second, third = pool.submit(work), pool.submit(str), pool.submit(str, 3)
    assert begun.wait(_SECONDS)
    assert second.cancel()
    pool.shutdown(wait=False, cancel_futures=cancel)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(str)
    let.set()
    assert first.result(_SECONDS)
    if cancel:
        assert third.cancelled()
    else:
        assert third.result(_SECONDS) == "3"


def test_shut_down_waits_for_threads_that_begin_meanwhile() -> None:
    for _ in range(20):
        with Workers(4, "test", lifetime=1) as pool:
            found = [pool.submit(str, number) for number in range(50)]
        assert all(future.done() for future in found)


def test_where_the_system_gives_no_thread_the_old_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, let = Workers(1, "test", lifetime=1), threading.Event()
    first = pool.submit(let.wait, _SECONDS)
    second, third = pool.submit(threading.current_thread), pool.submit(threading.current_thread)
    monkeypatch.setattr(threading.Thread, "start", none)
    let.set()
    assert first.result(_SECONDS)
    assert second.result(_SECONDS) is third.result(_SECONDS)
    second.result().join(_SECONDS)  # nothing waits: it can go
    with pytest.raises(RuntimeError, match="new thread"):
        pool.submit(str)
    monkeypatch.undo()
    assert pool.submit(str, 4).result(_SECONDS) == "4"


# ---- wherever graphs run


def test_grpc_s_threads_end() -> None:
    pool = server._CountingPool(1)
    found = threads_of(pool, workers.LIFETIME + 1)
    pool.shutdown()
    assert len(set(found)) == 2
    assert pool.pending == 0


def test_rest_s_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    class Api:
        def answer(self, *_: object) -> tuple[int, str, bytes]:
            found.append(threading.current_thread())
            return 200, "text/plain", b""

    monkeypatch.setattr(http_server, "Workers", functools.partial(Workers, lifetime=2))
    rest = http_server.RestServer(Api(), "localhost", 0, http_server.Limits(1, _SECONDS, 100, 10))
    rest.start()
    for _ in range(3):
        urllib.request.urlopen(f"http://localhost:{rest.port}/", timeout=_SECONDS).close()
    rest.stop(0)
    assert len(set(found)) == 2


def test_a_batch_s_threads_end(monkeypatch: pytest.MonkeyPatch, loaded_small: servable.Servable) -> None:
    found = []

    def run(*arguments: object) -> predictor.Arrays:
        found.append(threading.current_thread())
        return predictor.execute(*arguments)

    monkeypatch.setattr(workers, "LIFETIME", 2)
    batcher = batching.Batcher(batching.Batching(num_batch_threads=1), run, Metrics())
    for _ in range(5):
        batcher(
            loaded_small, "similar", {"item_id": np.array([b"100"], object), "k": np.array([2], np.int32)}
        )
    assert [thread.name for thread in found] == ["batch-0"] * 5
    assert len(set(found)) == 3


def test_a_warm_up_s_thread_ends(loaded_small: servable.Servable) -> None:
    found = set()

    def run(*arguments: object) -> predictor.Arrays:
        found.add(threading.current_thread())
        return predictor.execute(*arguments)

    assert warmup.warm_up(loaded_small, run) == 2
    assert len(found) == 1
    assert not found.pop().is_alive()


@pytest.fixture(scope="module")
def loaded_small(exports: dict[int, Path]) -> servable.Servable:
    return servable.load(str(exports[1]), 1)


# Bytes that 200 shapes of a product of matrices leave, in MB: by malloc's own count, not by pages.
_SHAPES = """
import ctypes, sys
from serving.model_server.core import memory
memory.give_back()
import numpy as np
import tensorflow as tf
from serving.model_server.core.workers import Workers

class Info(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks mapped usmblks fsmblks used free keepcost".split()
    ]

def used():
    info = count()
    return info.used + info.mapped

count = ctypes.CDLL(None).mallinfo2
count.restype = Info
with tf.Graph().as_default():
    x = tf.compat.v1.placeholder(tf.float32, [2, None, 8])
    y = tf.matmul(x, x, transpose_b=True)
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=-1)
    session = tf.compat.v1.Session(config=config)
pool = Workers(1, "test", lifetime=int(sys.argv[1]))
for size in range(1, 401):
    if size == 201:
        before = used()
    pool.submit(session.run, y, {x: np.ones([2, size, 8], np.float32)}).result()
print((used() - before) // 1_000_000)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or platform.machine() != "x86_64",
    reason="glibc counts; TensorFlow has oneDNN where the processor is of this kind",
)
@pytest.mark.parametrize(("lifetime", "kept"), [(20, range(-15, 10)), (10_000, range(40, 200))])
def test_what_onednn_compiled_for_other_shapes_goes(lifetime: int, kept: range) -> None:
    """The second case says why threads end: TensorFlow may keep less one day."""
    done = subprocess.run(
        [sys.executable, "-c", _SHAPES, str(lifetime)],
        **{"cwd": ROOT, "env": {"PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"}, "check": True},
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) in kept


def test_it_is_an_executor() -> None:
    with Workers(2, "test", lifetime=2) as pool:
        assert list(pool.map(abs, range(-5, 0))) == [5, 4, 3, 2, 1]
        assert len(futures.wait([pool.submit(str) for _ in range(5)], _SECONDS).done) == 5
