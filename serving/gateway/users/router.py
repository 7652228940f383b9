"""`/v1/users/{user_id}`."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path

from serving.gateway.errors import Refused, responses
from serving.gateway.keys import needs
from serving.gateway.lists.schemas import Answer, Id
from serving.gateway.services import RequestId, ServicesDep

router = APIRouter(tags=["users"], responses=responses())
_Caller = Annotated[str, Depends(needs("privacy"))]


class Exported(Answer):
    """Everything that is kept of a user."""

    user_id: str
    events: list[dict[str, Any]]
    lists: list[dict[str, Any]]
    """What was shown to them."""
    history: list[dict[str, Any]]
    """What the model's run knew of them: item_id, days_ago, event_type."""


class ErasedAnswer(Answer):
    """What was removed."""

    events: int
    lists: int
    request_id: str


@router.get("/v1/users/{user_id}")
async def export(services: ServicesDep, user_id: Annotated[Id, Path()], caller: _Caller) -> Exported:
    """Everything that is kept of a user; that it was given out is written down."""
    await services.writer.in_turn()
    try:
        found = await services.read(services.store.export, user_id, caller)
    except sa.exc.SQLAlchemyError as error:
        raise _away() from error
    events = [] if found.pop("erased") else services.histories.events(user_id, 1 << 31, services.clock.now())
    history = [
        {"item_id": each.item_id, "days_ago": each.days_ago, "event_type": each.event_type} for each in events
    ]
    return Exported(**found, history=history)


@router.delete("/v1/users/{user_id}")
async def erase(
    services: ServicesDep, request_id: RequestId, user_id: Annotated[Id, Path()], caller: _Caller
) -> ErasedAnswer:
    """Removes everything that is kept of a user; that it was removed is written down, without the id.

    The history of the model's run is not used for them any more. It is in the shop's own table, from which
    the shop removes it; the next run does not have it then.
    """
    await services.writer.in_turn()  # what is on its way to the disk goes, too
    try:
        counts = await services.read(services.store.erase, user_id, caller)
    except sa.exc.SQLAlchemyError as error:
        raise _away() from error
    return ErasedAnswer(events=counts.events, lists=counts.lists, request_id=request_id)


def _away() -> Refused:
    return Refused(503, "the store does not answer; try again", {"Retry-After": "1"})
