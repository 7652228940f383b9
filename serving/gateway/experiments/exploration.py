"""Places of a list that are drawn among new items, with propensities that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from schema import names as F
from schema.config.experiments import Exploration
from serving.experiments.bandit import Beliefs, explored_places, marginals, mixed, order, probability_best
from serving.gateway.lists.schemas import Item

_NEW = (F.NEW_ITEMS, F.EXPLORATION)  # sources of items that little is known of
_MAX_ITEMS = 200  # whose weights are computed: the ones that were shown most


class Explorer:
    """Draws new items into lists by Thompson sampling.

    An item's weight is the probability that it is the best of all that were explored, computed when the
    counts are read; one that was never shown has that of the prior. A request's new items are drawn in
    proportion to their weights, mixed with uniform draws. So the propensities are exact, and a request costs
    a millisecond.

    Args:
      settings: how much is left to chance.
      uniform: gives numbers on [0, 1).
    """

    def __init__(self, settings: Exploration, uniform: Callable[[], float]) -> None:
        self._settings, self._uniform = settings, uniform
        self._weights: Mapping[str, float] = {}
        self._unseen = 1.0

    def learn(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Computes the weights anew.

        Args:
          counts: item -> times shown in a drawn place, and clicked there.
        """
        most = sorted(counts, key=lambda item: (-counts[item][0], item))[:_MAX_ITEMS]
        shown, clicked = (np.array([0, *(counts[item][at] for item in most)], float) for at in (0, 1))
        best = probability_best(Beliefs.of(clicked, shown, self._settings))
        self._unseen, self._weights = float(best[0]), dict(zip(most, best[1:].tolist(), strict=True))

    def filled(self, items: Sequence[Item], k: int) -> tuple[list[Item], dict[str, float]]:
        """The first k items, with new ones from further down drawn into the explored places.

        Args:
          items: best first, more than k.
          k: places.

        Returns:
          The list, and the propensities of the drawn items at their places; of all others it is 1.
        """
        places = explored_places(k, self._settings).tolist()
        kept = list(items[: k - len(places)])
        pool = [item for item in items[len(kept) :] if item.source in _NEW][: self._settings.max_choices]
        places = places[: max(len(pool) - 1, 0)]  # with one item left over, every place is a choice
        if not places:
            return list(items[:k]), {}
        weight = np.array([self._weights.get(item.item_id, self._unseen) for item in pool]) + 1e-12
        probability = mixed(weight / weight.sum(), self._settings.uniform_share)
        chosen = order(probability, np.array([self._uniform() for _ in places]))
        chances = marginals(probability, len(places))
        drawn = [pool[index].model_copy(update={"source": F.EXPLORATION}) for index in chosen]
        ids = {item.item_id for item in drawn}
        rest = iter([item for item in items if item.item_id not in ids])
        at = dict(zip(places, drawn, strict=True))
        filled = [at[place] if place in at else next(rest, None) for place in range(k)]
        propensity = {
            item.item_id: float(chances[index, place])
            for place, (item, index) in enumerate(zip(drawn, chosen, strict=True))
        }
        return [item for item in filled if item is not None], propensity
