"""Puts the gateway together."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from schema import names as F
from schema.config import Gateway, Reasons
from serving.gateway import errors, page
from serving.gateway.catalogue import Catalogue
from serving.gateway.events import router as events
from serving.gateway.events.rates import Rates
from serving.gateway.experiments import router as experiments
from serving.gateway.experiments.arms import Experiments
from serving.gateway.experiments.exploration import Explorer
from serving.gateway.histories import Histories
from serving.gateway.items import router as items
from serving.gateway.keys import Keys
from serving.gateway.metrics import Metrics
from serving.gateway.middleware import Front
from serving.gateway.models import Models
from serving.gateway.operations import router as operations
from serving.gateway.recommend import router as recommend
from serving.gateway.recommend.offers import Offers
from serving.gateway.repeated import Repeated
from serving.gateway.search import router as search
from serving.gateway.services import Clock, Services
from serving.gateway.users import router as users
from serving.gateway.writer import Writer
from serving.store import EventStore

_ROUTERS = (recommend, search, items, events, users, experiments, operations)
_SWITCH_SECONDS = 2.0  # until a stop by hand reaches this process
_EXPLORE_SECONDS = 60.0  # for which the propensities of new items stay as they are


def create_app(
    settings: Gateway,
    *,
    store: EventStore,
    model: Any,
    catalogue: Catalogue,
    labels: Mapping[str, Any] | None = None,
    histories: Histories | None = None,
    clock: Clock | None = None,
    reasons: Reasons | None = None,
    pushed: Path | None = None,
) -> FastAPI:
    """An app that answers for one shop.

    Args:
      settings: of the gateway.
      store: events and shown lists; the caller closes it.
      model: an `AsyncClient`, or what has its calls and `served_version`; closed with the app.
      catalogue: what cards show, and what a fallback lists.
      labels: version label -> client of that version.
      histories: what users did before the store was there; nobody did anything if not given.
      clock: what the time is.
      reasons: the words of the model's reasons; the default ones if not given.
      pushed: folder of the model's pushed versions, for the operations page.

    Returns:
      The app; its `state.services` holds everything that routes use.
    """
    metrics, clock = Metrics(), clock or Clock()
    services = Services(
        settings=settings,
        store=store,
        writer=Writer(store, settings.limits.queued_events, metrics),
        models=Models(model, labels or {}, metrics),
        catalogue=catalogue,
        histories=histories or Histories.none(),
        keys=Keys(settings),
        rates=Rates(settings.bots.events_per_minute),
        experiments=Experiments(settings.experiments, clock.now),
        explorer=Explorer(settings.exploration, random.random),
        offers=Offers(reasons or Reasons()),
        metrics=metrics,
        clock=clock,
        pushed=pushed,
    )

    repeated = _repeated(services)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.writer.start()
        # The command has done it before it listens, unless it was told not to wait.
        warming = asyncio.create_task(services.models.warm())
        for each in repeated:
            await each.start()
        yield
        for each in repeated:
            await each.stop()
        warming.cancel()
        await services.writer.stop()
        await services.models.close()
        services.pool.shutdown()

    app = FastAPI(
        title="Shelfwise gateway",
        description="Recommendations, search and events of a shop.",
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.state.services = services
    for each in _ROUTERS:
        app.include_router(each.router)
    if settings.page.enabled:
        page.install(app, services)
    errors.install(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["content-type", "x-api-key", "authorization", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
    app.add_middleware(Front, limits=settings.limits, metrics=metrics)  # the outermost
    return app


def _repeated(services: Services) -> list[Repeated]:
    """What is read from the store while the app runs."""
    settings, found = services.settings, []

    async def switch() -> None:
        services.experiments.stopped = await services.read(services.store.stopped)

    async def explore() -> None:
        since = services.clock.now() - settings.exploration.days * F.SECONDS_PER_DAY
        counts = await services.read(services.store.explored, since)
        await services.read(services.explorer.learn, counts)

    if settings.experiments:
        found.append(Repeated("kill switch", _SWITCH_SECONDS, switch))
    if settings.exploration.share > 0:
        found.append(Repeated("exploration", _EXPLORE_SECONDS, explore))
    return found
