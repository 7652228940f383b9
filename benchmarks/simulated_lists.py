"""Lists shown by a policy that leaves them to chance, and what came of them: truth known, for off-policy
estimates.

Users are of a few kinds; a policy orders the items by Plackett-Luce with a weight for each kind. An item at a
place is clicked with probability (how often the place is looked at) x (how much the kind likes the item) x
(how much this user clicks at all): the item-position model, with users as clusters.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from serving.experiments import bandit
from serving.experiments.off_policy import LoggedPlaces

_LOOKED_AT = np.array([0.9, 0.6, 0.4, 0.3, 0.2])


@dataclasses.dataclass(frozen=True)
class World:
    """A shop whose policies' values are known.

    Attributes:
      liking: probability of a click by kind of user and item, float64 [G, I].
      logged, target: probability of each item at each place, by kind, float64 [G, I, M].
      first: the logging policy's probabilities of the first place, float64 [G, I].
    """

    liking: np.ndarray
    logged: np.ndarray
    target: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, random: np.random.Generator, kinds: int = 4, items: int = 15, places: int = 3) -> World:
        """A shop; the new policy knows better what users like, and leaves less to chance."""
        liking = random.beta(1.5, 6, (kinds, items)).clip(max=0.6)  # times 0.9 times 1.7 is below 1
        logged = _softmax(4 * liking + random.normal(0, 0.6, liking.shape), 0.2)
        target = _softmax(8 * liking + random.normal(0, 0.3, liking.shape), 0.05)
        return cls(
            liking,
            np.stack([bandit.marginals(row, places) for row in logged]),
            np.stack([bandit.marginals(row, places) for row in target]),
            logged,
        )

    @property
    def value(self) -> float:
        """Clicks of a list of the new policy."""
        looked = _LOOKED_AT[: self.target.shape[-1]]
        return float(np.mean(np.sum(self.target * self.liking[..., None] * looked, axis=(1, 2))))

    def log(
        self, random: np.random.Generator, users: int, per_user: int
    ) -> tuple[LoggedPlaces, np.ndarray, np.ndarray]:
        """Logged lists, the item of each row, int [E], and the kind of each list's user, int [n]."""
        kinds, items, places = self.logged.shape
        user = np.repeat(np.arange(users), per_user)
        kind = random.integers(kinds, size=users)[user]
        keenness = random.uniform(0.3, 1.7, users)[user]
        order = np.argsort(random.exponential(1 / self.first[kind]), axis=1)[:, :places]
        place = np.broadcast_to(np.arange(places), order.shape)
        rows = (kind[:, None], order, place)
        chance = self.liking[kind[:, None], order] * _LOOKED_AT[:places] * keenness[:, None]
        clicked = random.random(order.shape) < chance
        flat = [np.broadcast_to(column, order.shape).ravel() for column in (user[:, None], place)]
        return (
            LoggedPlaces(
                user=flat[0],
                list=np.repeat(np.arange(len(user)), places),
                place=flat[1],
                reward=clicked.ravel().astype(np.float64),
                logged=self.logged[rows].ravel(),
                target=self.target[rows].ravel(),
            ),
            order.ravel(),
            kind,
        )

    def reward_model(
        self, log: LoggedPlaces, item: np.ndarray, kind_of_list: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """A crude model of the rewards, the mean click rate of each place and item over all kinds, fitted
        on the other half of the users (cross-fitting).

        Args:
          log: the logged places.
          item: item of each row, [E].
          kind_of_list: kind of each list's user, [n].

        Returns:
          What it predicts for each row, [E], and for each list under the new policy, [n].
        """
        _, items, places = self.logged.shape
        predicted = np.empty(len(item))
        expected = np.empty(len(kind_of_list))
        half = log.user % 2
        half_of_list = np.zeros(len(kind_of_list), np.int64)
        half_of_list[log.list] = half
        cell = item * places + log.place
        for own in (0, 1):
            other = half != own
            seen = np.bincount(cell[other], minlength=items * places)
            clicks = np.bincount(cell[other], log.reward[other], minlength=items * places)
            mean = log.reward[other].mean()
            model = ((clicks + 5 * mean) / (seen + 5)).reshape(items, places)
            predicted[half == own] = model.ravel()[cell[half == own]]
            by_kind = np.sum(self.target * model, axis=(1, 2))
            expected[half_of_list == own] = by_kind[kind_of_list[half_of_list == own]]
        return predicted, expected


def _softmax(score: np.ndarray, uniform_share: float) -> np.ndarray:
    weights = np.exp(score - score.max(axis=1, keepdims=True))
    shares = weights / weights.sum(axis=1, keepdims=True)
    return np.stack([bandit.mixed(row, uniform_share) for row in shares])
