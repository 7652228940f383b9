"""Similar items, and why an item is recommended."""

from __future__ import annotations

from schema.errors import RequestError
from serving.gateway.errors import Refused
from serving.gateway.items.schemas import ExplainAnswer, ExplainBody, Explained, ExplainQuery, SimilarQuery
from serving.gateway.lists import service
from serving.gateway.lists.schemas import ListAnswer
from serving.gateway.lists.visitors import visitor
from serving.gateway.models import ModelAway
from serving.gateway.services import Services


async def similar(services: Services, wanted: SimilarQuery, request_id: str) -> ListAnswer:
    """Items like one; popular ones of its category, if the model is away.

    Raises:
      Refused: the model does not take the request.
    """
    settings = services.settings
    k = min(wanted.k or settings.default_k, settings.max_k)
    asked = service.Asked(request_id, wanted.user_id, wanted.surface, k)
    who = await visitor(services, wanted.user_id, {})
    arm = services.arm_of(wanted.user_id, wanted.surface)
    hidden = {wanted.item_id, *who.dismissed}
    try:
        answered = await services.models.ask(
            "similar",
            settings.timeouts.recommend_ms,
            # as many more as may be left out
            lambda client: client.similar(wanted.item_id, k=min(k + len(who.dismissed), settings.max_k)),
            arm.label,
        )
    except RequestError as error:
        raise Refused(422, str(error)) from error
    except ModelAway as away:
        card = services.catalogue.card(wanted.item_id)
        category = [card.category] if card and card.category else []
        cards = services.catalogue.popular(k, hidden, category)
        made = service.Made(service.fallback_items(cards, ""), reason=away.reason)
    else:
        results = [each for each in answered.value if each.item_id not in hidden][:k]
        items = service.items_of(services, results)
        made = service.Made(items, answered.version, answered.reason, answered.seconds)
    return ListAnswer(**service.show(services, asked, who, arm, made))


async def explain(services: Services, wanted: ExplainQuery | ExplainBody, request_id: str) -> ExplainAnswer:
    """Why items score as they do for a user.

    Raises:
      Refused: 422 if the model does not take the request, 503 if it is away: nothing else can explain.
    """
    context = wanted.context if isinstance(wanted, ExplainBody) else {}
    who = await visitor(services, wanted.user_id, context)
    arm = services.arm_of(wanted.user_id, "")
    try:
        answered = await services.models.ask(
            "explain",
            services.settings.timeouts.explain_ms,
            lambda client: client.explain(who.state, wanted.item_id),
            arm.label,
        )
    except RequestError as error:
        raise Refused(422, str(error)) from error
    except ModelAway as away:
        raise Refused(503, f"no explanation now: {away.reason}", {"Retry-After": "1"}) from away
    found = []
    for each in answered.value:
        card = services.catalogue.card(each.item_id)
        found.append(
            Explained(
                item_id=each.item_id,
                title=card.title if card else "",
                log_odds=each.log_odds,
                baseline=each.baseline,
                attribution=dict(each.attribution),
            )
        )
    return ExplainAnswer(request_id=request_id, model_version=answered.version, items=found)
