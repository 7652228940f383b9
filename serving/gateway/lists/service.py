"""Puts a list together: cards, the discount, the log of what was shown, the fallback."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Sequence
from typing import Any

from serving.client import FoundItem, Recommendation
from serving.gateway.catalogue import Card
from serving.gateway.lists import discount
from serving.gateway.lists.schemas import Item, Latency
from serving.gateway.lists.visitors import Visitor
from serving.gateway.services import Arm, Services
from serving.store import Shown, ShownList

FALLBACK = "fallback"  # source of its items
STORE_AWAY = "store_unreachable"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What every request for a list says.

    Attributes:
      request_id: of the request.
      user_id: "" for somebody unknown.
      surface: which list of the shop it is.
      k: how many.
      query: what was searched for.
      started: `time.perf_counter()` when the request came.
    """

    request_id: str
    user_id: str
    surface: str
    k: int
    query: str = ""
    started: float = dataclasses.field(default_factory=time.perf_counter)


@dataclasses.dataclass(frozen=True)
class Made:
    """A list before it is shown.

    Attributes:
      items: best first.
      version: that made it, 0 for none.
      reason: why it is a fallback, of the catalogue or of another version; None if it is none.
      seconds: that the model took.
    """

    items: Sequence[Item]
    version: int = 0
    reason: str | None = None
    seconds: float = 0.0


def items_of(services: Services, results: Sequence[Recommendation | FoundItem]) -> list[Item]:
    """Results of the model as items, with what the catalogue knows of them."""
    return [_item(services, result) for result in results]


def fallback_items(cards: Sequence[Card], reason: str) -> list[Item]:
    """Cards as items of a fallback."""
    return [
        Item(rank=rank, score=0.0, source=FALLBACK, reason=reason, **_facts(card))
        for rank, card in enumerate(cards, 1)
    ]


def sunk(services: Services, items: Sequence[Item], visitor: Visitor, k: int) -> list[Item]:
    """The first k after what was shown often and never wanted has sunk."""
    ordered = discount.reordered(
        items, lambda item: item.item_id, visitor.unwanted, services.settings.impressions
    )
    return ordered[:k]


def show(services: Services, asked: Asked, visitor: Visitor, arm: Arm, made: Made) -> dict[str, Any]:
    """Writes down that a list is shown; gives the fields of `ListAnswer`."""
    reason = made.reason if visitor.known or made.reason else STORE_AWAY
    items = [item.model_copy(update={"rank": rank}) for rank, item in enumerate(made.items, 1)]
    list_id = uuid.uuid4().hex
    services.writer.log(
        ShownList(
            list_id=list_id,
            request_id=asked.request_id,
            user_id=asked.user_id,
            surface=asked.surface,
            arm=arm.arm,
            experiment=arm.experiment,
            model_version=made.version,
            label=arm.label,
            fallback=reason is not None,
            shown_at=services.clock.now(),
            query=asked.query,
            items=[Shown(item.item_id, item.rank - 1, 1.0, item.source) for item in items],
        )
    )
    services.metrics.lists.labels(asked.surface, arm.arm, str(reason is not None).lower()).inc()
    if reason is not None:
        services.metrics.fallbacks.labels(reason).inc()
    return {
        "list_id": list_id,
        "request_id": asked.request_id,
        "surface": asked.surface,
        "model_version": made.version,
        "experiment": arm.experiment,
        "arm": arm.arm,
        "label": arm.label,
        "fallback": reason is not None,
        "fallback_reason": reason,
        "latency_ms": Latency(
            store=_ms(visitor.seconds),
            model=_ms(made.seconds),
            total=_ms(time.perf_counter() - asked.started),
        ),
        "items": items,
    }


def _item(services: Services, result: Recommendation | FoundItem) -> Item:
    card = services.catalogue.card(result.item_id)
    if card is None:  # newer than the catalogue: what the model says of it
        card = Card(result.item_id, result.item_text, "", "", None, None)
    facts = _facts(card)
    if isinstance(result, FoundItem) and result.price is not None:
        facts["price"] = result.price
    return Item(rank=result.rank, score=result.score, source=result.source, reason=result.reason, **facts)


def _facts(card: Card) -> dict[str, Any]:
    return {name: getattr(card, name) for name in card.__slots__}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
