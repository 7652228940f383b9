"""What the gateway reads from the store again and again while it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import sqlalchemy as sa
import structlog

_log = structlog.get_logger("shelfwise.gateway")


class Repeated:
    """Work that is done at the start and every few seconds from then on.

    Args:
      what: it is called in the log.
      seconds: between the end of one time and the next.
      work: reads from the store; while that does not answer, what was read before stays.
    """

    def __init__(self, what: str, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        self._what, self._seconds, self._work = what, seconds, work
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Does it once, and goes on until :meth:`stop`."""
        await self._once()
        self._task = asyncio.create_task(self._again())

    async def stop(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _again(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await self._once()

    async def _once(self) -> None:
        try:
            await self._work()
        except sa.exc.SQLAlchemyError as error:
            _log.error("store does not answer", what=self._what, reason=type(error).__name__)
