"""The households that a visitor may be."""

from __future__ import annotations

import collections
import dataclasses
import functools

from serving.gateway.page.cards import shown_title
from serving.gateway.page.texts import Texts
from serving.gateway.page.tiles import HUES
from serving.gateway.services import Services

_OFFERED = 5
_EVENTS = 512  # of each that are looked at


@dataclasses.dataclass(frozen=True)
class Person:
    """One household of the list."""

    user_id: str
    name: str
    summary: str
    initial: str
    hue: int


def known(services: Services, user_id: str) -> bool:
    """Whether somebody has a history."""
    return bool(user_id) and bool(services.histories.events(user_id, 1, services.clock.now()))


def offered(services: Services, t: Texts) -> list[Person]:
    """Some households, of all parts of the file, with what they mostly buy."""
    return [
        Person(
            user_id=user,
            name=t("people.name", id=user),
            summary=t("people.mostly", count=f"{count:,}", category=shown_title(category))
            if category
            else t("people.events", count=f"{count:,}"),
            initial=user[:1].upper(),
            hue=(7 * place + 3) % HUES,
        )
        for place, (user, count, category) in enumerate(_chosen(services.histories, services.catalogue))
    ]


@functools.lru_cache(maxsize=4)
def _chosen(histories: object, catalogue: object) -> tuple[tuple[str, int, str], ...]:
    """User id, number of events and commonest category; kept, as histories and catalogue do not change."""
    users = histories.users()  # type: ignore[attr-defined]
    picked = users[:: max(len(users) // _OFFERED, 1)][:_OFFERED]
    found = []
    for user in picked:
        events = histories.events(user, _EVENTS, 0.0)  # type: ignore[attr-defined]
        cards = (catalogue.card(event.item_id) for event in events)  # type: ignore[attr-defined]
        counts = collections.Counter(card.category for card in cards if card and card.category)
        found.append((user, len(events), counts.most_common(1)[0][0] if counts else ""))
    return tuple(found)
