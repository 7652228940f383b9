"""Search and suggestions for a user."""

from __future__ import annotations

import itertools
import time
from typing import Any

from schema.errors import RequestError
from serving.client import SearchResult
from serving.gateway.errors import Refused
from serving.gateway.lists import service
from serving.gateway.lists.schemas import Latency
from serving.gateway.lists.visitors import Visitor, visitor
from serving.gateway.models import ModelAway
from serving.gateway.search.schemas import (
    SearchAnswer,
    SearchBody,
    SearchQuery,
    SuggestAnswer,
    Suggested,
    SuggestQuery,
)
from serving.gateway.services import Services

_COUNTED = 1000  # matches that a fallback counts


async def search(services: Services, wanted: SearchQuery | SearchBody, request_id: str) -> SearchAnswer:
    """What a query finds; items with all its words, the most popular first, if the model is away.

    Raises:
      Refused: the model does not take the request.
    """
    settings = services.settings
    k = min(wanted.k or settings.default_k, settings.max_k)
    asked = service.Asked(request_id, wanted.user_id, wanted.surface, k, wanted.query)
    context = wanted.context if isinstance(wanted, SearchBody) else {}
    who = await visitor(services, wanted.user_id, context)
    arm = services.arm_of(wanted.user_id, wanted.surface)
    try:
        answered = await services.models.ask(
            "search",
            settings.timeouts.search_ms,
            lambda client: client.search(
                wanted.query,
                who.state,
                category=wanted.category,
                brand=wanted.brand,
                min_price=wanted.min_price,
                max_price=wanted.max_price,
                sort=wanted.sort,
                exclude_item_id=[*who.dismissed, *wanted.exclude_item_id],
                k=k,
            ),
            arm.label,
        )
    except RequestError as error:
        raise Refused(422, str(error)) from error
    except ModelAway as away:
        made, facts = _by_words(services, wanted, who, k, away.reason)
    else:
        found = answered.value
        items = service.items_of(services, found.items)
        made, facts = service.Made(items, answered.version, answered.reason, answered.seconds), _facts(found)
    return SearchAnswer(**service.show(services, asked, who, arm, made), **facts)


async def suggest(services: Services, wanted: SuggestQuery, request_id: str) -> SuggestAnswer:
    """Completions of what was typed; none if the model is away.

    Raises:
      Refused: the model does not take the request.
    """
    started = time.perf_counter()
    who = await visitor(services, wanted.user_id, {})
    version, reason, found, seconds = 0, None, [], 0.0
    try:
        answered = await services.models.ask(
            "suggest",
            services.settings.timeouts.suggest_ms,
            lambda client: client.suggest(wanted.prefix, who.state, k=wanted.k),
        )
        version, found, seconds = answered.version, answered.value, answered.seconds
    except RequestError as error:
        raise Refused(422, str(error)) from error
    except ModelAway as away:
        reason = away.reason
        services.metrics.fallbacks.labels(reason).inc()
    total = time.perf_counter() - started
    return SuggestAnswer(
        request_id=request_id,
        model_version=version,
        fallback=reason is not None,
        fallback_reason=reason,
        latency_ms=Latency(
            store=round(who.seconds * 1000, 2), model=round(seconds * 1000, 2), total=round(total * 1000, 2)
        ),
        suggestions=[Suggested(text=each.text, score=each.score) for each in found],
    )


def _facts(found: SearchResult) -> dict[str, Any]:
    names = ("total", "notice", "corrected_query", "relaxed", "relaxed_query", "facets", "price_range")
    return {name: getattr(found, name) for name in (*names, "categories")}


def _by_words(
    services: Services, wanted: SearchQuery, who: Visitor, k: int, reason: str
) -> tuple[service.Made, dict[str, Any]]:
    """What the catalogue finds without the model."""
    hidden = {*who.dismissed, *wanted.exclude_item_id}
    low = 0.0 if wanted.min_price is None else wanted.min_price
    priced = wanted.min_price is not None or wanted.max_price is not None
    cards = [
        card
        for card in itertools.islice(services.catalogue.find(wanted.query, hidden), _COUNTED)
        if (not wanted.category or card.category in wanted.category)
        and (not wanted.brand or card.brand in wanted.brand)
        and (not priced or card.price is not None)
        and (card.price is None or not priced or low <= card.price)
        and (card.price is None or wanted.max_price is None or card.price <= wanted.max_price)
    ]
    facts = {
        "total": len(cards),
        "notice": "",
        "corrected_query": "",
        "relaxed": False,
        "relaxed_query": wanted.query,
        "facets": {},
        "price_range": (None, None),
        "categories": {},
    }
    return service.Made(service.fallback_items(cards[:k], ""), reason=reason), facts
