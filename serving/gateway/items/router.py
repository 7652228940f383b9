"""`/v1/items/{item_id}`, `/v1/similar` and `/v1/explain`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from serving.gateway.errors import Refused, responses
from serving.gateway.items import service
from serving.gateway.items.schemas import ExplainAnswer, ExplainBody, ExplainQuery, ItemCard, SimilarQuery
from serving.gateway.keys import allowed
from serving.gateway.lists.schemas import Id, ListAnswer
from serving.gateway.services import RequestId, ServicesDep

router = APIRouter(dependencies=[allowed("shop")], responses=responses())


@router.get("/v1/items/{item_id}", tags=["items"], responses=responses(404))
async def item(services: ServicesDep, item_id: Annotated[Id, Path()]) -> ItemCard:
    """What a page shows of an item."""
    card = services.catalogue.card(item_id)
    if card is None:
        raise Refused(404, "the catalogue has no such item")
    return ItemCard(**{name: getattr(card, name) for name in card.__slots__})


@router.get("/v1/similar", tags=["lists"])
async def similar(
    services: ServicesDep, request_id: RequestId, wanted: Annotated[SimilarQuery, Query()]
) -> ListAnswer:
    """Items like one."""
    return await service.similar(services, wanted, request_id)


@router.post("/v1/similar", tags=["lists"])
async def similar_from_body(services: ServicesDep, request_id: RequestId, wanted: SimilarQuery) -> ListAnswer:
    """The same."""
    return await service.similar(services, wanted, request_id)


@router.get("/v1/explain", tags=["items"])
async def explain(
    services: ServicesDep, request_id: RequestId, wanted: Annotated[ExplainQuery, Query()]
) -> ExplainAnswer:
    """What speaks for and against items, for a user."""
    return await service.explain(services, wanted, request_id)


@router.post("/v1/explain", tags=["items"])
async def explain_with_context(
    services: ServicesDep, request_id: RequestId, wanted: ExplainBody
) -> ExplainAnswer:
    """The same, with the context of the visit."""
    return await service.explain(services, wanted, request_id)
