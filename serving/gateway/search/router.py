"""`/v1/search` and `/v1/suggest`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from serving.gateway.errors import responses
from serving.gateway.keys import allowed
from serving.gateway.search import service
from serving.gateway.search.schemas import SearchAnswer, SearchBody, SearchQuery, SuggestAnswer, SuggestQuery
from serving.gateway.services import RequestId, ServicesDep

router = APIRouter(tags=["lists"], dependencies=[allowed("shop")], responses=responses())


@router.get("/v1/search")
async def search(
    services: ServicesDep, request_id: RequestId, wanted: Annotated[SearchQuery, Query()]
) -> SearchAnswer:
    """What a shopper's words mean for them."""
    return await service.search(services, wanted, request_id)


@router.post("/v1/search")
async def search_with_context(
    services: ServicesDep, request_id: RequestId, wanted: SearchBody
) -> SearchAnswer:
    """The same, with the context of the visit."""
    return await service.search(services, wanted, request_id)


@router.get("/v1/suggest")
async def suggest(
    services: ServicesDep, request_id: RequestId, wanted: Annotated[SuggestQuery, Query()]
) -> SuggestAnswer:
    """Completions of what somebody has typed so far."""
    return await service.suggest(services, wanted, request_id)


@router.post("/v1/suggest")
async def suggest_from_body(
    services: ServicesDep, request_id: RequestId, wanted: SuggestQuery
) -> SuggestAnswer:
    """The same, where what is typed should not be in an address."""
    return await service.suggest(services, wanted, request_id)
