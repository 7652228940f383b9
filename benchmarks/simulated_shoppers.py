"""Shoppers made by chance, for the validation of the statistics: heavy tails, and users who come back.

A user's lists a day are Poisson with a rate of their own (gamma), a list leads to an order with a probability
of their own (beta), and an order's value is log-normal (sigma 1.2: its largest percent is a fifth of the
revenue) times a level of their own. So sums by user are dependent over days and far from normal.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from serving.experiments.moments import user_moments

LISTS, ORDERS, REVENUE = 2, 3, 4  # places in the vector of sums; 1 is the covariate


@dataclasses.dataclass(frozen=True)
class Shoppers:
    """What users are like.

    Attributes:
      users: users of an arm.
      days: days that an experiment runs.
      visits: mean lists of a user a day.
      order_rate: mean orders of a list.
      tail: sigma of an order's log value.
      lift: relative effect of the treatment on the value of orders.
    """

    users: int = 500
    days: int = 28
    visits: float = 0.3
    order_rate: float = 0.15
    tail: float = 1.2
    lift: float = 0.0

    def experiments(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Moments of many experiments of two arms, float64 [2, count, days, 5, 5]: 1, covariate (revenue
        of as many days before), lists, orders, revenue.
        """
        units = 2 * count * self.users
        rate = random.gamma(0.7, self.visits / 0.7, units)
        buys = random.beta(2 * self.order_rate, 2 * (1 - self.order_rate), units)
        level = random.lognormal(-0.125, 0.5, units)
        before = self._spent(random, random.poisson(rate * buys * self.days), level)
        lists = random.poisson(np.broadcast_to(rate[:, None], (units, self.days)))
        unit, day = np.nonzero(lists)
        lists = lists[unit, day]
        orders = random.binomial(lists, buys[unit])
        treated = unit >= units // 2
        revenue = self._spent(random, orders, level[unit] * np.where(treated, 1 + self.lift, 1))
        cells = user_moments(
            unit // self.users,
            unit,
            day,
            np.stack([lists, orders, revenue], axis=1).astype(np.float64),
            before[unit][:, None],
            (2 * count, self.days),
        )
        return cells.reshape(2, count, *cells.shape[1:])

    def _spent(self, random: np.random.Generator, orders: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Value of some orders, of mean `level` each."""
        row = np.repeat(np.arange(len(orders)), orders)
        values = random.lognormal(-(self.tail**2) / 2, self.tail, len(row))
        return np.bincount(row, values, minlength=len(orders)) * level
