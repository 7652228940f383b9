"""What the types of event of a shop mean: which are purchases, and how much each counts."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from schema.config.data import Events


class _Purchases(Protocol):
    @property
    def purchase_types(self) -> list[str] | None: ...


class _Shop(Protocol):
    @property
    def events(self) -> Events | None: ...

    @property
    def serving(self) -> _Purchases: ...


@dataclasses.dataclass(frozen=True)
class EventKinds:
    """The types of event of a shop.

    Attributes:
      purchases: the types that mean "bought": labels, what a user owns, prices.
      weights: type -> how much an event counts in what is learned from all events, in parts of the largest.
        In a shop with one type it is 1, whatever its weight.
    """

    purchases: tuple[str, ...]
    weights: dict[str, float]

    @classmethod
    def of(cls, shop: _Shop) -> EventKinds:
        """The kinds of a configuration or of a component's settings.

        Args:
          shop: has the section `events` (None: a shop without events, whose requests may still have a
            history) and of `serving` at least `purchase_types`.
        """
        events, chosen = shop.events, shop.serving.purchase_types
        default = events.default_event_type if events else "purchase"
        purchases = tuple(chosen or [default])
        weights = events.event_weights if events else dict.fromkeys(purchases, 1.0)
        most = max(weights.values(), default=1.0)
        return cls(purchases, {name: weight / most for name, weight in weights.items()})

    @property
    def others(self) -> tuple[str, ...]:
        """The types that are no purchase, sorted: views, clicks, carts."""
        return tuple(sorted(set(self.weights) - set(self.purchases)))

    @property
    def alike(self) -> bool:
        """Whether every event is a purchase and counts as much as any other."""
        return not self.others and len(set(self.weights.values())) == 1
