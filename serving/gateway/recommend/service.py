"""Recommendations: what the model says to what the user did until now."""

from __future__ import annotations

import dataclasses

from schema.errors import RequestError
from schema.events import Event, UserState
from serving.client import Recommendation
from serving.gateway.errors import Refused
from serving.gateway.lists import discount, service
from serving.gateway.lists.schemas import ListAnswer
from serving.gateway.lists.visitors import visitor
from serving.gateway.models import ModelAway
from serving.gateway.recommend.offers import Offers
from serving.gateway.recommend.schemas import RecommendBody, RecommendQuery
from serving.gateway.services import Services


async def recommend(
    services: Services, wanted: RecommendQuery | RecommendBody, request_id: str
) -> ListAnswer:
    """The list of a user; a fallback of popular items that they have not seen, if the model is away.

    Raises:
      Refused: the model does not take the request.
    """
    settings = services.settings
    k = min(wanted.k or settings.default_k, settings.max_k)
    asked = service.Asked(request_id, wanted.user_id, wanted.surface, k)
    context = wanted.context if isinstance(wanted, RecommendBody) else {}
    who = await visitor(services, wanted.user_id, context)
    arm = services.experiments.arm_of(wanted.user_id, wanted.surface)
    state = _of_basket(who.state, wanted.basket_item_id)
    hidden = [*who.dismissed, *wanted.exclude_item_id, *wanted.basket_item_id]
    diversity = arm.diversity if wanted.diversity is None else wanted.diversity
    drop = arm.drop_bought_days if wanted.drop_bought_days is None else wanted.drop_bought_days
    # Nothing is drawn into a list of which the caller says where its items come from.
    chosen = bool(wanted.source) or wanted.on_offer
    explores = settings.exploration.share > 0 and not chosen
    all_of_them = chosen or explores
    asked_for = settings.max_k if all_of_them else discount.depth(k, who.unwanted, settings.impressions)
    try:
        answered = await services.models.ask(
            "recommend",
            settings.timeouts.recommend_ms,
            lambda client: client.recommend(
                state,
                exclude_item_id=hidden,
                category=wanted.category,
                k=min(asked_for, settings.max_k),
                diversity=diversity,
                drop_bought_days=drop,
            ),
            arm.label,
        )
    except RequestError as error:
        raise Refused(422, str(error)) from error
    except ModelAway as away:
        cards = services.catalogue.popular(k, {*hidden, *who.seen}, wanted.category)
        made = service.Made(service.fallback_items(cards, ""), reason=away.reason)
    else:
        results = [each for each in answered.value if _fits(each, wanted, services.offers)]
        items = service.sunk(services, service.items_of(services, results), who, len(results))
        items, drawn = services.explorer.filled(items, k) if explores else (items[:k], {})
        made = service.Made(items, answered.version, answered.reason, answered.seconds, drawn)
    return ListAnswer(**service.show(services, asked, who, arm, made))


def _of_basket(state: UserState, items: list[str]) -> UserState:
    """A user who did nothing but put these items into the basket; the user as they are without any."""
    if not items:
        return state
    return dataclasses.replace(state, events=[Event(item, 0.0, "cart") for item in items])


def _fits(found: Recommendation, wanted: RecommendQuery, offers: Offers) -> bool:
    if wanted.on_offer and not offers.has(found):
        return False
    return not wanted.source or found.source in wanted.source
