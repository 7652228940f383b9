"""What an app has one of, and routes get by `app.state.services`."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Request

from schema.config import Gateway
from serving.gateway.catalogue import Catalogue
from serving.gateway.events.rates import Rates
from serving.gateway.experiments.arms import Experiments
from serving.gateway.experiments.exploration import Explorer
from serving.gateway.histories import Histories
from serving.gateway.keys import Keys
from serving.gateway.metrics import Metrics
from serving.gateway.models import Models
from serving.gateway.recommend.offers import Offers
from serving.gateway.writer import Writer
from serving.store import EventStore

P = ParamSpec("P")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Clock:
    """What the time is, here and for the model.

    Attributes:
      wall: gives unix seconds.
      offset: seconds that the model's time is ahead of it; negative for data of the past.
    """

    wall: Callable[[], float] = time.time
    offset: float = 0.0

    def now(self) -> float:
        """Unix seconds, here."""
        return self.wall()

    def model_now(self) -> int:
        """Unix seconds, as the model is told."""
        return max(int(self.wall() + self.offset), 0)


@dataclasses.dataclass
class Services:
    """Everything that routes use.

    Attributes:
      settings: of the gateway.
      store: events and lists; its calls block, see `read`.
      writer: appends to it.
      models: the model's clients.
      catalogue: cards of the items; replaced as a whole when a new version brings another.
      histories: what users did before.
      keys: who may ask.
      rates: who is a robot.
      experiments: which arm of one a user is in.
      explorer: draws new items into lists.
      metrics: what is counted.
      offers: which items are promoted now.
      clock: what the time is.
      pushed: folder of the model's pushed versions, None where it is not at hand.
    """

    settings: Gateway
    store: EventStore
    writer: Writer
    models: Models
    catalogue: Catalogue
    histories: Histories
    keys: Keys
    rates: Rates
    experiments: Experiments
    explorer: Explorer
    offers: Offers
    metrics: Metrics
    clock: Clock
    pushed: Path | None = None
    pool: ThreadPoolExecutor = dataclasses.field(
        default_factory=lambda: ThreadPoolExecutor(8, "shelfwise-store")
    )

    async def read(self, call: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """Calls what blocks in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, lambda: call(*arguments, **more))


def _services(request: Request) -> Any:
    return request.app.state.services


def _request_id(request: Request) -> str:
    return request.state.request_id


ServicesDep = Annotated[Services, Depends(_services)]
RequestId = Annotated[str, Depends(_request_id)]
