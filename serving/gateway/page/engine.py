"""The engineers' panel: where lists come from, what they took, and why an item scores as it does."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from serving.gateway.items.schemas import Explained
from serving.gateway.lists.schemas import ListAnswer
from serving.gateway.page.cards import Shelf, shown_title
from serving.gateway.page.texts import Texts
from serving.gateway.page.visit import Visit

_COLOURS = 8  # classes source-0 ... of static/page.css
# Sources of recommendations, and of searches: in no list of both.
_SOURCES = (
    ("buy_again", "co_purchased", "two_tower", "planned", "trending", "new_items", "exploration", "fallback"),
    ("own", "lexical", "semantic", "behaviour", "browse", "similar"),
)


@dataclasses.dataclass(frozen=True)
class Bar:
    """A part of a bar of 100 units."""

    source: str
    count: int
    colour: int
    x: float
    width: float


def panel(visit: Visit, made: Sequence[tuple[Shelf, ListAnswer]]) -> dict[str, Any]:
    """What templates/engine.html shows of a page's lists."""
    answers = [answer for _, answer in made]
    first = answers[0] if answers else None
    choices = {card.item_id: card.title for shelf, _ in made for card in shelf.cards if card.explain_href}
    return {
        "fallback_reasons": sorted({answer.fallback_reason for answer in answers if answer.fallback_reason}),
        "total_ms": f"{sum(answer.latency_ms.total for answer in answers):.0f}",
        "model_version": first.model_version if first else 0,
        "arm": " ".join(filter(None, (first.experiment, first.arm, first.label))) if first else "",
        "events_sent": visit.past_events,
        "lists": [_list(shelf, answer) for shelf, answer in made],
        "choices": sorted(choices.items(), key=lambda pair: pair[1]),
    }


def _list(shelf: Shelf, answer: ListAnswer) -> dict[str, Any]:
    took = answer.latency_ms
    return {
        "key": shelf.key,
        "heading": shelf.heading,
        "surface": shelf.surface,
        "list_id": answer.list_id,
        "latency": f"{took.total:.0f} ms ({took.model:.0f} model, {took.store:.0f} store)",
        "bars": _bars([item.source for item in answer.items]),
    }


def _bars(sources: Sequence[str]) -> list[Bar]:
    found, x = [], 0.0
    for source, count in collections.Counter(sources).most_common():
        width = 100 * count / len(sources)
        place = next((names.index(source) for names in _SOURCES if source in names), sum(map(ord, source)))
        found.append(Bar(source, count, place % _COLOURS, round(x, 2), round(width, 2)))
        x += width
    return found


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of an explanation: a bar from x of the given width, of 100, and the number that it shows."""

    name: str
    value: str
    x: float
    width: float
    sign: str
    total: bool = False


def explanation(t: Texts, explained: Explained) -> dict[str, Any]:
    """What templates/explanation.html shows: the shares as a waterfall from the average to this item."""
    shares = sorted(explained.attribution.items(), key=lambda pair: -abs(pair[1]))
    ends = [explained.baseline]
    for _, share in shares:
        ends.append(ends[-1] + share)
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    scale = 100 / ((high - low) or 1.0)

    def row(name: str, start: float, end: float, shown: float, sign: str, total: bool) -> Row:
        x, width = (min(start, end) - low) * scale, abs(end - start) * scale
        return Row(name, f"{shown:+.2f}", round(x, 2), round(max(width, 0.4), 2), sign, total)

    rows = [row(t("explain.baseline"), 0.0, explained.baseline, explained.baseline, "base", True)]
    for (name, share), start, end in zip(shares, ends, ends[1:], strict=False):
        label = t.get(f"group.{name}") or name.replace("_", " ")
        rows.append(row(label, start, end, share, "plus" if share >= 0 else "minus", False))
    rows.append(row(t("explain.total"), 0.0, explained.log_odds, explained.log_odds, "base", True))
    return {
        "title": shown_title(explained.title) or explained.item_id,
        "probability": f"{1 / (1 + math.exp(-max(min(explained.log_odds, 500), -500))):.1%}",
        "zero": round(-low * scale, 2),
        "rows": rows,
    }
