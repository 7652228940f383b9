"""Arms for the lists of users, with a kill switch that is read every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
import structlog

from schema import names as F
from schema.config.experiments import Experiment
from serving.experiments.assignment import assign_list

_SECONDS = 2.0  # between two looks at the switch
_log = structlog.get_logger("shelfwise.gateway")


class Arm(NamedTuple):
    """How a list is made, where an experiment decides it.

    Attributes:
      experiment, arm: names; "" for none.
      label: version label of the model; "" for the default.
      diversity, drop_bought_days: of `recommend`; None for the shop's own.
    """

    experiment: str = ""
    arm: str = ""
    label: str = ""
    diversity: float | None = None
    drop_bought_days: float | None = None


class Experiments:
    """The experiments of a gateway.

    Args:
      experiments: of the configuration.
      now: gives unix seconds.

    Attributes:
      stopped: those that were stopped by hand, and since when; as it was when the store last answered.
    """

    def __init__(self, experiments: Sequence[Experiment], now: Callable[[], float]) -> None:
        self._experiments, self._now = experiments, now
        self.stopped: Mapping[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def arm_of(self, user_id: str, surface: str) -> Arm:
        """The arm that a list is made for; none for somebody unknown, or in no experiment."""
        found = assign_list(self._experiments, user_id, surface, self._now(), self.stopped)
        if found is None:
            return Arm()
        own = found.arm.parameters
        return Arm(
            found.experiment,
            found.arm.name,
            found.arm.label or "",
            own.get(F.DIVERSITY),
            own.get(F.DROP_BOUGHT_DAYS),
        )

    def runs(self, experiment: Experiment) -> bool:
        """Whether an experiment is stopped neither by its configuration nor by hand."""
        return not experiment.stopped and experiment.name not in self.stopped

    async def start(self, read: Callable[[], Awaitable[Mapping[str, float]]]) -> None:
        """Reads the kill switch, and goes on reading it until :meth:`stop`.

        Args:
          read: gives what the store has of it.
        """
        if self._experiments:
            await self._read(read)
            self._task = asyncio.create_task(self._watch(read))

    async def stop(self) -> None:
        """Ends the reading."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self, read: Callable[[], Awaitable[Mapping[str, float]]]) -> None:
        while True:
            await asyncio.sleep(_SECONDS)
            await self._read(read)

    async def _read(self, read: Callable[[], Awaitable[Mapping[str, float]]]) -> None:
        try:
            self.stopped = await read()
        except sa.exc.SQLAlchemyError as error:
            # What was stopped stays stopped; a new stop waits until the store is there.
            _log.error("kill switch cannot be read", reason=type(error).__name__)
