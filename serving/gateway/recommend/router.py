"""`/v1/recommend`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from serving.gateway.errors import responses
from serving.gateway.keys import allowed
from serving.gateway.lists.schemas import ListAnswer
from serving.gateway.recommend import service
from serving.gateway.recommend.schemas import RecommendBody, RecommendQuery
from serving.gateway.services import RequestId, ServicesDep

router = APIRouter(tags=["lists"], dependencies=[allowed("shop")], responses=responses())


@router.get("/v1/recommend")
async def recommend(
    services: ServicesDep, request_id: RequestId, wanted: Annotated[RecommendQuery, Query()]
) -> ListAnswer:
    """The best items for a user, after everything that they did until now."""
    return await service.recommend(services, wanted, request_id)


@router.post("/v1/recommend")
async def recommend_with_context(
    services: ServicesDep, request_id: RequestId, wanted: RecommendBody
) -> ListAnswer:
    """The same, with the context of the visit."""
    return await service.recommend(services, wanted, request_id)
