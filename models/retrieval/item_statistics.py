"""Numbers that a shop knows of every item at one moment: the ranker's item features.

A block of `BLOCKS` gives some of them; a new statistic is one entry in a block, or one block. Their
order is the order of the ranker's features.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from models.retrieval.promotions import CLOCK_CHANGE, Promotions
from schema import names as F

_NO_CYCLE_DAYS = 400.0  # of what nobody bought twice
_NEVER_DAYS = 400.0  # since the last event of what has none, and of what is older
EXPOSURE_DAYS = (7, 28)  # before the moment: the weeks that ended in them are counted
_WEEK = 7 * F.SECONDS_PER_DAY
PRICES = ("price_change_", "price_in_")  # beginnings of the names of what is said of prices
PROMOTION_EFFECTS = ("log_promotion_lift", "promoted_share")


def exposure_statistic(channel: str, days: int) -> str:
    """Name of the statistic of a channel's exposures in the last days."""
    return f"log_{channel}_{days}"


@dataclasses.dataclass(frozen=True)
class Seen:
    """The events of all types before one moment.

    Attributes:
      log: N events of items of the catalogue.
      row: int32 [N], their item rows.
      age: float32 [N], their ages in days.
    """

    log: EventLog
    row: np.ndarray
    age: np.ndarray


@dataclasses.dataclass(frozen=True)
class Past:
    """The purchases before one moment, and what several blocks count in them.

    Attributes:
      log: E purchases of items of the catalogue, all before `as_of`.
      row: int32 [E], their item rows.
      age: float32 [E], their ages in days.
      items: the catalogue of V rows.
      as_of: unix seconds.
      promotions: of the weeks around it.
      seen: the events of all types.
    """

    log: EventLog
    row: np.ndarray
    age: np.ndarray
    items: ItemTable
    as_of: float
    promotions: Promotions
    seen: Seen

    def count(self, row: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
        """float32 [V], how often each item row is among `row` (int [N]), each time by its weight."""
        return np.bincount(row, weight, minlength=len(self.items)).astype(np.float32)

    @functools.cached_property
    def lines(self) -> np.ndarray:
        """float32 [V], all purchases."""
        return self.count(self.row)

    @functools.cached_property
    def lines_by_days(self) -> dict[int, np.ndarray]:
        """days -> float32 [V], purchases of the last `days` days."""
        return {days: self.count(self.row[self.age <= days]) for days in (7, 28, 90)}

    @functools.cached_property
    def pair(self) -> np.ndarray:
        """int64 [E], one number for each (user, item): user * V + item row."""
        return self.log.user.astype(np.int64) * len(self.items) + self.row


Block = Callable[[Past], dict[str, np.ndarray]]


def _lines(past: Past) -> dict[str, np.ndarray]:
    """How many purchases there were."""
    lately = {f"log_lines_{days}": np.log1p(lines) for days, lines in past.lines_by_days.items()}
    return lately | {"log_lines": np.log1p(past.lines)}


def _users(past: Past) -> dict[str, np.ndarray]:
    """How many users had the item, and how many of them again."""
    size = len(past.items)
    distinct, pair_lines = np.unique(past.pair, return_counts=True)
    pair_row = distinct % size
    users = past.count(pair_row)
    return {
        "log_users_28": np.log1p(past.count(np.unique(past.pair[past.age <= 28]) % size)),
        "log_users": np.log1p(users),
        "lines_per_user": np.log1p(past.lines / np.maximum(users, 1)),
        "repeat_share": past.count(pair_row[pair_lines > 1]) / np.maximum(users, 1),
    }


def _trends(past: Past) -> dict[str, np.ndarray]:
    """Whether it sells more than before: the last days against as many of a longer time."""
    lines = past.lines_by_days
    return {
        "trend": np.log((lines[28] + 1) / (lines[90] / 90 * 28 + 1)),
        "trend_week": np.log((lines[7] + 1) / (lines[28] / 4 + 1)),
    }


def _ages(past: Past) -> dict[str, np.ndarray]:
    """Days since the last purchase, and since the first event of any type: since when the item is there."""
    last = np.full(len(past.items), _NEVER_DAYS, np.float32)
    np.minimum.at(last, past.row, past.age)
    first = np.zeros(len(past.items), np.float32)
    np.maximum.at(first, past.seen.row, past.seen.age)
    return {"log_last_age": np.log1p(last), "log_first_age": np.log1p(first)}


def _cycle(past: Past) -> dict[str, np.ndarray]:
    """Days between two purchases of those who repeat an item: total span over number of intervals."""
    size = len(past.items)
    order = np.lexsort((past.age, past.pair))
    pair, ages = past.pair[order], past.age[order]
    again = (pair[1:] == pair[:-1]) & (ages[1:] > ages[:-1])
    repeated = pair[1:][again] % size
    intervals = np.bincount(repeated, minlength=size)
    span = np.bincount(repeated, np.diff(ages)[again], minlength=size)
    cycle = np.divide(span, intervals, out=np.full(size, _NO_CYCLE_DAYS), where=intervals > 0)
    return {"log_cycle": np.log1p(cycle)}


def _first_purchases(past: Past) -> dict[str, np.ndarray]:
    """How many users had the item for the first time of late, and their share of its events."""
    distinct, pair = np.unique(past.pair, return_inverse=True)
    first = np.zeros(len(distinct), np.float32)
    np.maximum.at(first, pair, past.age)
    row = distinct % len(past.items)
    new = {days: past.count(row[first <= days]) for days in (28, 90)}
    counts = {f"log_first_purchases_{days}": np.log1p(users) for days, users in new.items()}
    return counts | {"first_purchase_share_90": new[90] / np.maximum(past.lines_by_days[90], 1)}


def _price(past: Past) -> dict[str, np.ndarray]:
    """Mean price of a unit, in the shop's currency, 0 where nothing was sold; how it changed of late, and
    how it stands among the prices of the items of each category that were sold.
    """
    size = len(past.items)

    def mean(chosen: np.ndarray | slice) -> np.ndarray:
        value = np.bincount(past.row[chosen], past.log.value[chosen], minlength=size)
        quantity = np.bincount(past.row[chosen], past.log.quantity[chosen], minlength=size)
        return np.log1p(np.divide(value, quantity, out=np.zeros(size), where=quantity > 0))

    price, sold = mean(slice(None)), past.lines > 0
    out = {"log_price": price}
    for days, lines in past.lines_by_days.items():
        if days < 90:
            out[f"price_change_{days}"] = np.where(lines > 0, mean(past.age <= days) - price, 0)
    for name, code in past.items.categorical.items():
        items = np.bincount(code, sold, minlength=code.max() + 1)
        usual = np.bincount(code, price * sold, minlength=code.max() + 1) / np.maximum(items, 1)
        out[f"price_in_{name}"] = np.where(sold & (code > 0), price - usual[code], 0)
    return out


def _categories(past: Past) -> dict[str, np.ndarray]:
    """Events of each of the item's categories in four weeks, and the item's share of them."""
    out = {}
    lines = past.lines_by_days[28]
    for name, code in past.items.categorical.items():
        total = np.bincount(code, lines, minlength=code.max() + 1)[code]
        out[f"share_28_of_{name}"] = np.where(code > 0, lines / np.maximum(total, 1), 0)
        out[f"log_lines_28_of_{name}"] = np.log1p(np.where(code > 0, total, 0))
    return out


def _interest(past: Past) -> dict[str, np.ndarray]:
    """Of each type of event that is no purchase, how many there were of late and how many purchases there are
    for each; nothing in a shop whose every event is a purchase.
    """
    out: dict[str, np.ndarray] = {}
    for name in past.seen.log.other_types:
        of_type = past.seen.log.of_type(name)
        row, age = past.seen.row[of_type], past.seen.age[of_type]
        for days in (7, 28):
            out[f"log_events_{days}_of_{name}"] = np.log1p(past.count(row[age <= days]))
        out[f"log_lines_per_{name}"] = np.log((past.lines + 1) / (past.count(row) + 1))
    return out


def _exposures(past: Past) -> dict[str, np.ndarray]:
    """Stores that promoted the item in each channel, summed over the weeks that ended of late.

    A week counts when it is over, to the hour of a clock change: its row holds what happened on all of
    its days, and the days after the moment are not known yet.
    """
    out = {}
    items = past.items
    before = past.as_of + CLOCK_CHANGE - items.exposure_week - _WEEK  # seconds since each week's end
    for channel, stores in items.exposure.items():
        for days in EXPOSURE_DAYS:
            lately = (before >= 0) & (before < days * F.SECONDS_PER_DAY)
            total = np.bincount(items.exposure_row[lately], stores[lately], minlength=len(items))
            out[exposure_statistic(channel, days)] = np.log1p(total)
    return out


def _promotion_effects(past: Past) -> dict[str, np.ndarray]:
    """How much more of the item is sold in weeks of promotion, and how much of it in such weeks."""
    known = past.promotions
    if not known.channels:
        return {}
    return dict(zip(PROMOTION_EFFECTS, (np.log(known.lift), known.share), strict=True))


BLOCKS: tuple[Block, ...] = (
    _lines,
    _users,
    _first_purchases,
    _trends,
    _ages,
    _cycle,
    _price,
    _categories,
    _interest,
    _exposures,
    _promotion_effects,
)


def item_statistics(past: Past) -> tuple[tuple[str, ...], np.ndarray]:
    """All statistics of all items.

    Returns:
      (S names, float32 [V, S]).
    """
    columns = {name: column for block in BLOCKS for name, column in block(past).items()}
    return tuple(columns), np.stack(list(columns.values()), 1).astype(np.float32)
