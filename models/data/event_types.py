"""Event types by the code that the event vocabulary gives them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from schema import names as F
from schema.config import EventKinds


@dataclasses.dataclass(frozen=True)
class EventTypes:
    """What the codes of a request's or an example's events mean; Y types, code 0 is an unknown one.

    An unknown type is no purchase, and weighs as little as the least of the known ones.

    Attributes:
      names: str [Y], in vocabulary order (code 1 is the first).
      bought: bool [Y + 1].
      weight: float32 [Y + 1].
      others: the types that are no purchase; empty in a shop whose every event is one.
      alike: every event is a purchase and counts as much as any other, also one of an unknown type. Nothing
        then looks at codes.
    """

    names: tuple[str, ...]
    bought: np.ndarray
    weight: np.ndarray
    others: tuple[str, ...]
    alike: bool

    @classmethod
    def of(cls, kinds: EventKinds, names: Sequence[str]) -> EventTypes:
        """Args:
        kinds: of the shop.
        names: the event vocabulary.
        """
        least = min(kinds.weights.values())
        weights = [kinds.weights.get(name, least) for name in names]
        return cls(
            tuple(names),
            np.asarray([False, *(name in kinds.purchases for name in names)], bool),
            np.asarray([least, *weights], np.float32),
            kinds.others,
            kinds.alike,
        )

    def codes(self, name: str) -> np.ndarray:
        """bool [Y + 1]: the codes of a type; none where no event of the past was of it."""
        return np.asarray([False, *(each == name for each in self.names)], bool)

    def purchases(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """bool [B, L]: which places of parsed requests hold a purchase of an item of the catalogue."""
        is_event = request["history_row"] > 0
        return is_event & tf.gather(self.bought, request[F.HISTORY_EVENT_TYPE]) if self.others else is_event

    def weights(self, request: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """float32 [B, L], what the events of parsed requests weigh; None where all weigh the same."""
        return None if self.alike else tf.gather(self.weight, request[F.HISTORY_EVENT_TYPE])


#: Every event is a purchase.
ALIKE = EventTypes((), np.ones(1, bool), np.ones(1, np.float32), (), True)
