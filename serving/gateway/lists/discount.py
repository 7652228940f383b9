"""What was shown often and never wanted sinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from schema.config import ImpressionDiscount

T = TypeVar("T")


def weight(visits: int, settings: ImpressionDiscount) -> float:
    """Weight of an item that was seen in some visits and not wanted: 1 down to `floor`.

    The exponential discount of P. Lee et al., "Modeling impression discounting in large-scale recommender
    systems", KDD 2014: decay^(visits - free) from the first visit that is not free.
    """
    return max(settings.decay ** max(visits - settings.free, 0), settings.floor)


def reordered(
    items: Sequence[T], item_id: Callable[[T], str], unwanted: Mapping[str, int], settings: ImpressionDiscount
) -> list[T]:
    """The items with the discounted ones further down.

    A list's order is more than its scores (diversity, caps), so what is discounted is the reciprocal of the
    place, as in reciprocal rank fusion: the item at place p (from 1) comes as if it were at p / weight.
    Items without a discount keep their order.

    Args:
      items: best first.
      item_id: gives an item's id.
      unwanted: item -> visits (see `EventStore.shown_counts`).
      settings: how strong.
    """
    if not settings.enabled or not unwanted:
        return list(items)
    places = [
        (place / weight(unwanted.get(item_id(item), 0), settings), place)
        for place, item in enumerate(items, 1)
    ]
    return [items[place - 1] for _, place in sorted(places)]


def depth(k: int, unwanted: Mapping[str, int], settings: ImpressionDiscount) -> int:
    """How many items to ask for, so that what sinks out of `k` places is replaced."""
    sinking = sum(visits > settings.free for visits in unwanted.values()) if settings.enabled else 0
    return k + min(sinking, k)
