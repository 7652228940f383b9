"""Threads that run graphs, each for a limited number of pieces of work.

For every new shape that an operation meets, oneDNN compiles code, and TensorFlow keeps it in the thread:
up to 1,024 pieces of tens of kilobytes for each type of number, until the thread ends (`LRUCache` in
tensorflow/core/util/mkl_util.h; no setting limits it). Where threads live as long as the server, requests
of ever other shapes take hundreds of megabytes. What is kept also lies between the tensors of a version
that is dropped later, so that their pages cannot go back to the system.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

# What a new thread's first requests take more of the processor, some 50 ms in all, is a hundredth of what
# these many take; and what a mixture of requests leaves in a thread stays at a few megabytes.
LIFETIME = 500

_Work = tuple[futures.Future, Callable[..., Any], Sequence[Any], Mapping[str, Any]]


class Workers(futures.Executor):
    """A thread pool whose threads are replaced, so that what one keeps for itself goes with it.

    A thread begins when there is work for it.

    Args:
      count: pieces of work that are done at the same time.
      name: of the threads, before a number.
      lifetime: pieces of work after which a thread ends.
    """

    def __init__(self, count: int, name: str, lifetime: int = LIFETIME) -> None:
        self._count = count
        self._name = name
        self._lifetime = lifetime
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Work] = collections.deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0  # threads that wait for work, also those that were just told of some
        self._begun = 0  # threads so far
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future:
        """As `futures.Executor.submit`.

        Raises:
          RuntimeError: the pool is shut down, or the system gives it no thread at all.
        """
        future: futures.Future = futures.Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is shut down")
            self._waiting.append((future, fn, args, kwargs))
            try:
                self._begin_needed()
            except RuntimeError:
                self._waiting.pop()
                raise
            self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `futures.Executor.shutdown`: takes no more work; threads end when all is done."""
        with self._changed:
            self._closed = True
            cancelled = list(self._waiting) if cancel_futures else []
            for work in cancelled:
                self._waiting.remove(work)
            self._changed.notify_all()
        for future, *_ in cancelled:
            future.cancel()
        while wait and (threads := self._all_threads()):
            for thread in threads:
                thread.join()

    def _all_threads(self) -> list[threading.Thread]:
        with self._changed:  # so that each of them has been started
            return list(self._threads)

    def _begin_needed(self) -> None:
        """Begins a thread if work waits that no idle one takes; with the lock held.

        Raises:
          RuntimeError: the system gives no thread, and there is no other that will do the work.
        """
        if len(self._waiting) <= self._idle or len(self._threads) >= self._count:
            return
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._begun}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.remove(thread)
            if not self._threads:
                raise
        else:
            self._begun += 1

    def _work(self) -> None:
        done = 0
        while True:
            with self._changed:
                if done >= self._lifetime and self._leave():
                    return
                while not self._waiting and not self._closed:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                if not self._waiting:
                    self._threads.remove(threading.current_thread())
                    return
                work = self._waiting.popleft()
            _do(*work)
            del work  # what it holds would stay until the next one comes
            done += 1

    def _leave(self) -> bool:
        """Makes room for another thread; False if the system gives none. With the lock held."""
        this = threading.current_thread()
        self._threads.remove(this)
        try:
            self._begin_needed()
        except RuntimeError:
            self._threads.add(this)
            return False
        return True


def _do(
    future: futures.Future, function: Callable[..., Any], arguments: Sequence[Any], more: Mapping[str, Any]
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*arguments, **more)
    except BaseException as error:  # whoever waits must hear of whatever it was
        future.set_exception(error)
        del future  # the error knows this frame
    else:
        future.set_result(result)
