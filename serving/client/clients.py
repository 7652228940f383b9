"""The two clients: how to wait, block or await."""

from __future__ import annotations

import asyncio
import functools
import queue
import time
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from serving.client.calls import Calls
from serving.client.wire import Wire

P = ParamSpec("P")
T = TypeVar("T")
_STATE_SECONDS = 1.0  # how long to wait until gRPC says what state a channel is in: at once


def _blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """The same call for a client that blocks where the other one awaits."""

    @functools.wraps(method)
    def call(self: Client, *arguments: P.args, **more: P.kwargs) -> T:
        try:
            method(self, *arguments, **more).send(None)
        except StopIteration as ended:
            return ended.value
        raise AssertionError("unreachable: nothing here waits for an event loop")

    return call


class Client(Calls):
    """A synchronous gRPC client; one channel, made at the first call and reused. Thread-safe.

    Arguments: see `Calls`.
    """

    recommend = _blocking(Calls.recommend)
    search = _blocking(Calls.search)
    suggest = _blocking(Calls.suggest)
    similar = _blocking(Calls.similar)
    rank = _blocking(Calls.rank)
    explain = _blocking(Calls.explain)
    embed_text = _blocking(Calls.embed_text)
    embed_user = _blocking(Calls.embed_user)
    embed_item = _blocking(Calls.embed_item)
    metadata = _blocking(Calls.metadata)
    status = _blocking(Calls.status)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the channel; the next call opens another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.channel.close()

    async def _open(self) -> Wire:
        return Wire(self._connection)

    async def _reachable(self, wire: Wire) -> bool:
        states: queue.SimpleQueue[Any] = queue.SimpleQueue()
        wire.channel.subscribe(states.put)  # tells the present state first
        try:
            return states.get(timeout=_STATE_SECONDS) is not wire.grpc.ChannelConnectivity.TRANSIENT_FAILURE
        except queue.Empty:
            return True
        finally:
            wire.channel.unsubscribe(states.put)

    async def _attempt(self, method: Any, request: Any, end: float) -> Any:
        if self._hedge_after is None:
            return method(request, timeout=max(end - time.monotonic(), 0))
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def begin() -> Any:
            call = method.future(request, timeout=max(end - time.monotonic(), 0))
            call.add_done_callback(ended.put)
            return call

        calls = [begin()]
        try:
            first = ended.get(timeout=self._hedge_after)
        except queue.Empty:
            calls.append(begin())
            first = ended.get()
        if first.exception() is not None and len(calls) == 2:
            first = ended.get()  # the other may still succeed
        for call in calls:
            call.cancel()  # does nothing to those that have ended
        return first.result()


class AsyncClient(Calls):
    """The same for asyncio. Use it within one event loop.

    Arguments: see `Calls`.
    """

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channel; the next call opens another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.channel.close()

    async def _open(self) -> Wire:
        # The first import takes seconds, in which the loop shall go on.
        await asyncio.get_running_loop().run_in_executor(None, Wire.load)
        return self._wire or Wire(self._connection, asynchronous=True)

    async def _reachable(self, wire: Wire) -> bool:
        return wire.channel.get_state() is not wire.grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def _attempt(self, method: Any, request: Any, end: float) -> Any:
        async def begin() -> Any:
            return await method(request, timeout=max(end - time.monotonic(), 0))

        if self._hedge_after is None:
            return await begin()
        tasks = [asyncio.ensure_future(begin())]
        try:
            ended, running = await asyncio.wait(tasks, timeout=self._hedge_after)
            if not ended:
                tasks.append(asyncio.ensure_future(begin()))
                ended, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if running and all(task.exception() is not None for task in ended):
                    ended, _ = await asyncio.wait(running)  # the other may still succeed
            good = [task for task in ended if task.exception() is None]
            return (good or list(ended))[0].result()
        finally:
            for task in tasks:
                task.cancel()  # does nothing to those that have ended
