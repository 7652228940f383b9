"""`/health/...` and `/metrics`."""

from __future__ import annotations

from typing import Literal

import prometheus_client
import sqlalchemy as sa
from fastapi import APIRouter, Response

from serving.gateway.errors import responses
from serving.gateway.keys import allowed
from serving.gateway.lists.schemas import Answer
from serving.gateway.services import ServicesDep

router = APIRouter(tags=["operations"])


class Live(Answer):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(Answer):
    """What works; without a model there are fallback lists, without a store no events."""

    status: Literal["ready", "degraded", "unavailable"]
    store: bool
    model_version: int | None
    """The newest version that serves; null if none answers."""
    catalogue_items: int


@router.get("/health/live")
async def live() -> Live:
    """Whether the process answers; restart it if not."""
    return Live()


@router.get("/health/ready", responses={503: {"model": Ready}})
@router.get("/v1/health", responses={503: {"model": Ready}})
async def ready(services: ServicesDep, response: Response) -> Ready:
    """Whether to send traffic here: 503 while events cannot be kept."""
    version = await services.models.version()
    try:
        await services.read(services.store.ping)
        stored = True
    except sa.exc.SQLAlchemyError:
        stored = False
    response.status_code = 200 if stored else 503
    return Ready(
        status="unavailable" if not stored else "ready" if version else "degraded",
        store=stored,
        model_version=version,
        catalogue_items=len(services.catalogue),
    )


@router.get(
    "/metrics",
    response_class=Response,
    dependencies=[allowed("operator")],
    responses={**responses(), 200: {"content": {"text/plain": {}}}},
)
async def metrics(services: ServicesDep) -> Response:
    """Everything that is counted, as Prometheus reads it."""
    return Response(
        prometheus_client.generate_latest(services.metrics.registry),
        media_type=prometheus_client.CONTENT_TYPE_LATEST,
    )
