"""The lists of a page: which shelves there are, and what they ask the model for.

Each shelf is a list of its own surface, so that the log of exposures tells them apart. An item stands on one
shelf of a page only: what a later shelf asks for leaves out what the earlier ones show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from schema import names as F
from serving.gateway.catalogue import Card
from serving.gateway.items import service as items
from serving.gateway.items.schemas import SimilarQuery
from serving.gateway.lists.schemas import Item, ListAnswer
from serving.gateway.lists.service import STORE_AWAY
from serving.gateway.page.cards import CardView, Shelf, card
from serving.gateway.page.visit import Notice, Visit
from serving.gateway.recommend import service as recommend
from serving.gateway.recommend.schemas import RecommendQuery

_EXCLUDED = 1000  # items that a request may leave out
_BASKET = 20  # newest items of the basket that a list goes with

#: A shelf and the answer that it was made from.
Made = tuple[Shelf, ListAnswer]


async def home(visit: Visit) -> list[Made]:
    """The shelves of the first page; one of popular items, while the model is away."""
    first = await _first(visit)
    if _is_away(first[1]):
        return [first]
    rest = [_offers(visit, [first])]
    if visit.past_events:
        rest.append(_together(visit, [first]))
    made = [first, *await asyncio.gather(*rest)]
    made.append(await _new_for_you(visit, made))
    made.sort(key=lambda each: _ORDER.index(each[0].surface))
    if any(_is_away(answer) for _, answer in made):
        visit.notices.append(Notice("warning", visit.texts("fallback.some")))
    return [each for each in made if each[0].cards and not _is_away(each[1])]


async def basket(visit: Visit) -> list[Made]:
    """What goes with the basket."""
    made = [await _together(visit, [])] if visit.basket else []
    return [each for each in made if each[0].cards]


async def similar(visit: Visit, item_id: str) -> list[Made]:
    """Items like one."""
    wanted = SimilarQuery(item_id=item_id, user_id=visit.viewer.user_id, k=visit.settings.shelf_items)
    answer = await items.similar(visit.services, wanted, visit.request_id)
    made = (shelf_of(visit, "popular" if _is_away(answer) else "similar", answer), answer)
    return [made] if made[0].cards else []


async def instead(visit: Visit) -> list[Made]:
    """What is shown where a search found nothing."""
    made = await _recommended(visit, "for_you", "search.instead")
    return [made] if made[0].cards else []


def warn(visit: Visit, answers: Iterable[ListAnswer], key: str = "fallback.notice") -> None:
    """Says on the page that lists are substitutes."""
    reasons = {answer.fallback_reason for answer in answers if answer.fallback}
    if reasons - {STORE_AWAY}:
        visit.notices.append(Notice("warning", visit.texts(key)))
    if STORE_AWAY in reasons:
        visit.notices.append(Notice("warning", visit.texts("fallback.store")))


def shelf_of(visit: Visit, key: str, answer: ListAnswer) -> Shelf:
    """A shelf with an answer's items."""
    cards = [view(visit, item, answer) for item in answer.items]
    t = visit.texts
    return Shelf(key, answer.surface, t(f"shelf.{key}"), t.get(f"shelf.{key}.note"), answer.list_id, cards)


def view(visit: Visit, item: Item, answer: ListAnswer) -> CardView:
    """An item of an answer as a card."""
    return card(
        item_id=item.item_id,
        title=item.title,
        category=item.category,
        brand="" if item.brand.isdigit() else item.brand,  # a number is no name to show
        price=visit.price(item.price),
        reason=item.reason,
        source=item.source,
        image_url=item.image_url,
        rank=item.rank - 1,
        list_id=answer.list_id,
        explained=not answer.fallback,
    )


def known(visit: Visit, found: Card, rank: int = 0, list_id: str = "") -> CardView:
    """An item of the catalogue as a card, outside of any list."""
    return card(
        item_id=found.item_id,
        title=found.title,
        category=found.category,
        brand="" if found.brand.isdigit() else found.brand,
        price=visit.price(found.price),
        image_url=found.image_url,
        rank=rank,
        list_id=list_id,
    )


_ORDER = (
    "home.with_basket",
    "home.buy_again",
    "home.for_you",
    "home.with_looked",
    "home.new_for_you",
    "home.offers",
)


async def _first(visit: Visit) -> Made:
    if visit.past_events:
        return await _recommended(visit, "buy_again", "home.buy_again", source=[F.BUY_AGAIN])
    return await _recommended(visit, "for_you", "home.for_you")


async def _together(visit: Visit, made: Sequence[Made]) -> Made:
    """What others bought with the basket; without one, with what the viewer looked at or buys."""
    basket = visit.basket[-_BASKET:]
    key = "with_basket" if basket else "with_looked" if visit.just_now else "with_bought"
    surface = "home.with_basket" if basket else "home.with_looked"
    hidden = [*_on(made), *_history(visit)]
    return await _recommended(visit, key, surface, hidden, source=[F.CO_PURCHASED], basket_item_id=basket)


async def _offers(visit: Visit, made: Sequence[Made]) -> Made:
    return await _recommended(visit, "offers", "home.offers", _on(made), on_offer=True)


async def _new_for_you(visit: Visit, made: Sequence[Made]) -> Made:
    hidden = [*_on(made), *_history(visit)]
    return await _recommended(visit, "new_for_you", "home.new_for_you", hidden)


async def _recommended(visit: Visit, key: str, surface: str, hidden: Iterable[str] = (), **more: Any) -> Made:
    wanted = RecommendQuery(
        user_id=visit.viewer.user_id,
        k=visit.settings.shelf_items,
        exclude_item_id=list(dict.fromkeys(hidden))[:_EXCLUDED],
        surface=surface,
        **more,
    )
    answer = await recommend.recommend(visit.services, wanted, visit.request_id)
    return shelf_of(visit, "popular" if _is_away(answer) else key, answer), answer


def _is_away(answer: ListAnswer) -> bool:
    return answer.fallback and answer.fallback_reason != STORE_AWAY


def _on(made: Iterable[Made]) -> list[str]:
    """Items that stand on shelves, and so on no other."""
    return [card.item_id for shelf, _ in made for card in shelf.cards]


def _history(visit: Visit) -> list[str]:
    """Items that the viewer knows, the latest first."""
    services = visit.services
    most = services.settings.history_length
    before = services.histories.events(visit.viewer.user_id, most, services.clock.now())
    return [event.item_id for event in reversed([*before, *visit.recent])]
