"""The one task that writes: what comes in while a transaction runs goes into the next one."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
import structlog

from serving.gateway.errors import Refused
from serving.gateway.metrics import Metrics
from serving.store import Appended, EventStore, ShownList, StoredEvent

_ROWS = 4000  # of one transaction, unless one request brings more
_log = structlog.get_logger("shelfwise.gateway")


@dataclasses.dataclass
class _Waiting:
    """One request's rows; `done` is told how many were new, once they are committed."""

    events: Sequence[StoredEvent]
    shown: ShownList | None
    done: asyncio.Future[Appended] | None

    @property
    def rows(self) -> int:
        return len(self.events) + (1 + len(self.shown.items) if self.shown else 0)


class Writer:
    """Appends to the store in batches, in the order in which things came.

    Args:
      store: where to.
      queued: rows that may wait.
      metrics: where it counts.
    """

    def __init__(self, store: EventStore, queued: int, metrics: Metrics) -> None:
        self._store, self._most, self._metrics = store, queued, metrics
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._rows = 0
        self._pool = ThreadPoolExecutor(1, "shelfwise-writer")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to write, in the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Writes what waits, then ends."""
        if self._task is not None:
            self._queue.put_nowait(None)
            await self._task
            self._task = None
        self._pool.shutdown()

    async def append(self, events: Sequence[StoredEvent]) -> Appended:
        """Keeps events; returns when they are committed.

        Raises:
          Refused: 503 if too much waits, or the database does not take them: then none is kept, and the
            same request may be sent again.
        """
        self._make_room(len(events))
        done: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._put(_Waiting(events, None, done))
        return await done

    def log(self, shown: ShownList) -> None:
        """Keeps a list that was shown, soon; one that cannot be written is counted and lost."""
        waiting = _Waiting((), shown, None)
        if self._rows + waiting.rows > self._most:
            self._metrics.lists_lost.inc()
            return
        self._put(waiting)

    async def in_turn(self) -> None:
        """Returns when all that waits now is written."""
        done: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._put(_Waiting((), None, done))
        await done

    def _make_room(self, rows: int) -> None:
        if self._rows + rows > self._most:
            raise Refused(503, "too many events wait to be written; try again", {"Retry-After": "1"})

    def _put(self, waiting: _Waiting) -> None:
        self._rows += waiting.rows
        self._queue.put_nowait(waiting)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        ended = False
        while not ended:
            first = await self._queue.get()
            batch, rows = [first] if first else [], first.rows if first else 0
            ended = first is None
            while not ended and rows < _ROWS and not self._queue.empty():
                more = self._queue.get_nowait()
                ended = more is None
                if more is not None:
                    batch.append(more)
                    rows += more.rows
            if not batch:
                continue
            started = time.perf_counter()
            outcomes = await loop.run_in_executor(self._pool, self._write, batch)
            self._metrics.write_seconds.observe(time.perf_counter() - started)
            self._metrics.batch_rows.observe(rows)
            self._rows -= rows
            for waiting, outcome in zip(batch, outcomes, strict=True):
                self._tell(waiting, outcome)

    def _tell(self, waiting: _Waiting, outcome: Appended | Exception) -> None:
        if isinstance(outcome, Exception):
            self._metrics.lists_lost.inc(waiting.shown is not None)
            self._metrics.events.labels("failed").inc(len(waiting.events))
        else:
            self._metrics.events.labels("accepted").inc(outcome.accepted)
            self._metrics.events.labels("duplicate").inc(outcome.duplicate)
        if waiting.done is None or waiting.done.done():  # the caller has gone
            return
        if isinstance(outcome, Exception):
            waiting.done.set_exception(
                Refused(503, "the events could not be written; send them again", {"Retry-After": "1"})
            )
        else:
            waiting.done.set_result(outcome)

    def _write(self, batch: Sequence[_Waiting]) -> list[Appended | Exception]:
        """One transaction for all; if the database refuses it, one for each: one cannot fail others."""
        try:
            new = self._store.write(
                [event for waiting in batch for event in waiting.events],
                [waiting.shown for waiting in batch if waiting.shown],
            )
        except sa.exc.OperationalError as error:  # the database is away: it is for all of them
            _log.error("write failed", reason=type(error.orig).__name__, requests=len(batch))
            return [error] * len(batch)
        except Exception as error:
            _log.error("write failed", reason=type(error).__name__, requests=len(batch))
            return [error] if len(batch) == 1 else [self._write([waiting])[0] for waiting in batch]
        return [_counted(waiting.events, new) for waiting in batch]


def _counted(events: Sequence[StoredEvent], new: set[str]) -> Appended:
    """How many of a request's events are new; an id counts for the first request that has it."""
    mine = {event.event_id for event in events} & new
    new -= mine
    return Appended(len(mine), len(events) - len(mine))
