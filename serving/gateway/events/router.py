"""`/v1/events`."""

from __future__ import annotations

from fastapi import APIRouter

from serving.gateway.errors import responses
from serving.gateway.events import service
from serving.gateway.events.schemas import Events, EventsAnswer
from serving.gateway.keys import allowed
from serving.gateway.services import RequestId, ServicesDep

router = APIRouter(tags=["events"], dependencies=[allowed("events")], responses=responses())


@router.post("/v1/events")
async def take(services: ServicesDep, request_id: RequestId, events: Events) -> EventsAnswer:
    """Keeps one event or a list of them, all or none; the answer comes when they are on the disk.

    A request without an answer may be sent again: events are told apart by their ids.
    """
    given = events if isinstance(events, list) else [events]
    accepted, duplicate = await service.take(services, given)
    return EventsAnswer(accepted=accepted, duplicate=duplicate, request_id=request_id)
