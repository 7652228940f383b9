"""When the chain promoted each item, when it will, and what that does to sales.

A promotion is an (item, week) with a row in enough stores (`exposures.plan_stores`). Which weeks a
request may see is decided by its own moment t, whatever the tables hold (:class:`PromotionCalendar`): a
week is known `exposures.known_ahead` days before it ends, and what was sold under promotion is counted as of
the snapshot.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
import tensorflow as tf

from models.data import arrays
from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from schema import names as F
from schema.config import Exposures

WEEKS = 62  # of a calendar: one bit each of a whole number that stays positive
_LATER = 12  # of them begin after the moment of the snapshot
_WEEK = 7 * F.SECONDS_PER_DAY
# Weeks of exposures are 168 hours each, a shop's own weeks an hour more or less where clocks change.
CLOCK_CHANGE = 3600
_BASE_WEEKS = 13
_PSEUDO_LINES = 10.0  # with which a lift leans on that of the item's kind, and that on the shop's


@dataclasses.dataclass(frozen=True)
class Promotions:
    """Promotions of the weeks around one moment, and sales under promotion before it.

    Attributes:
      start: unix seconds at which week 0 begins; 0 where the shop plans no channel.
      ahead: how many weeks a request knows, the current one included.
      channels: the P planned channels; the first is the general one.
      within: the categorical feature within which items on offer compete; "" = none.
      kind: int32 [V], codes of `within`; 0 = none.
      weeks: int64 [V, P]; bit w is set where the item is promoted in week w.
      usual: float32 [T, WEEKS + 1], by code of `within`: at w, in how many of the weeks before w the
        items of this kind are promoted on the average (weighted by log1p of their sales).
      base: float32 [V], lines of a week without promotion, of the last 13.
      lift: float32 [V], lines in promoted weeks over those expected of as many weeks of the item.
      share: float32 [V], smoothed share of the item's lines that were bought in promoted weeks.
      shop_share: the same of all lines.
    """

    start: int
    ahead: int
    channels: tuple[str, ...]
    within: str
    kind: np.ndarray
    weeks: np.ndarray
    usual: np.ndarray
    base: np.ndarray
    lift: np.ndarray
    share: np.ndarray
    shop_share: float

    @property
    def current(self) -> int:
        """The week of the moment of the tables."""
        return WEEKS - 1 - _LATER

    @classmethod
    def none(cls, items: int) -> Self:
        """Of a shop that plans no channel, with V items."""
        ones, zeros = np.ones(items, np.float32), np.zeros(items, np.float32)
        usual = np.zeros((1, WEEKS + 1), np.float32)
        weeks, kind = np.zeros((items, 0), np.int64), np.zeros(items, np.int32)
        return cls(0, 0, (), "", kind, weeks, usual, zeros, ones, zeros, 0.0)

    def known_ahead(self, days: float) -> Self:
        """The same promotions, known so many days before the end of a week."""
        return dataclasses.replace(self, ahead=int(days // 7) if self.channels else 0)

    def fields(self) -> dict[str, np.ndarray]:
        """The attributes as arrays, for a file."""
        return {name: np.asarray(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Self:
        """What :meth:`fields` gave."""
        fields = dict(fields)
        for name, kind in (("start", int), ("ahead", int), ("within", str), ("shop_share", float)):
            fields[name] = kind(fields[name])
        fields["channels"] = tuple(fields["channels"].tolist())
        return cls(**fields)

    def save(self, path: str) -> None:
        """Writes the attributes as one .npz file."""
        arrays.save(path, self.fields())


def build(
    items: ItemTable,
    exposures: Exposures | None,
    category: str | None,
    as_of: float,
    row: np.ndarray,
    timestamp: np.ndarray,
) -> Promotions:
    """Promotions around a moment.

    Args:
      items: the catalogue, V rows.
      exposures: the configuration's section; None, or one that plans no channel, gives no promotions.
      category: `items.category`.
      as_of: unix seconds.
      row, timestamp: int [E], item rows and unix seconds of the events before `as_of`.
    """
    if exposures is None or not exposures.planned or not len(items.exposure_week):
        return Promotions.none(len(items))
    anchor = int(items.exposure_week[0])
    current = int((as_of + CLOCK_CHANGE - anchor) // _WEEK)
    start = anchor + (current - (WEEKS - 1 - _LATER)) * _WEEK
    week = (items.exposure_week - start) // _WEEK
    inside = (week >= 0) & (week < WEEKS)
    promoted = np.zeros((len(items), len(exposures.planned), WEEKS), bool)
    for place, name in enumerate(exposures.planned):
        chain = inside & (items.exposure[name] >= exposures.least_stores)
        promoted[items.exposure_row[chain], place, week[chain]] = True
    promoted[0] = False
    within = exposures.compared_within or category or ""
    code = items.categorical[within] if within else np.zeros(len(items), np.int32)
    over = WEEKS - 1 - _LATER  # weeks that are over at the moment
    event_week = (timestamp + CLOCK_CHANGE - start) // _WEEK
    lift, share, shop_share = _effect(promoted[:, 0, :over], row, event_week, code, over)
    return Promotions(
        start=start,
        ahead=int(exposures.known_ahead // 7),
        channels=tuple(exposures.planned),
        within=within,
        kind=code,
        weeks=(promoted * (1 << np.arange(WEEKS, dtype=np.int64))).sum(-1),
        usual=_usual(promoted[:, 0], code, _sold(row, timestamp, as_of, len(items))),
        base=_base(promoted[:, 0, :over], row, event_week, lift, over),
        lift=lift,
        share=share,
        shop_share=shop_share,
    )


def _sold(row: np.ndarray, timestamp: np.ndarray, as_of: float, size: int) -> np.ndarray:
    """float [V], log1p of the events of the last 90 days."""
    late = timestamp > as_of - 90 * F.SECONDS_PER_DAY
    return np.log1p(np.bincount(row[late], minlength=size))


def _usual(promoted: np.ndarray, code: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`Promotions.usual` of promoted weeks (bool [V, WEEKS]); 0 of what is of no kind (code 0)."""
    size = int(code.max(initial=0)) + 1
    total = np.bincount(code, weight, size)
    item, week = np.nonzero(promoted)
    of_kind = np.bincount(code[item] * WEEKS + week, weight[item], size * WEEKS).reshape(size, WEEKS)
    mean = of_kind / np.maximum(total, 1e-9)[:, None]
    mean[0] = 0
    return np.pad(np.cumsum(mean, 1), [(0, 0), (1, 0)]).astype(np.float32)


def _base(promoted: np.ndarray, row: np.ndarray, week: np.ndarray, lift: np.ndarray, over: int) -> np.ndarray:
    """`Promotions.base`: a promoted week (bool [V, over]) counts as many weeks as it lifts sales."""
    recent = (week >= over - _BASE_WEEKS) & (week < over)
    lines = np.bincount(row[recent], minlength=len(promoted))
    weeks = promoted[:, over - _BASE_WEEKS :].sum(1)
    return (lines / (_BASE_WEEKS - weeks + weeks * lift)).astype(np.float32)


def _effect(
    promoted: np.ndarray, row: np.ndarray, week: np.ndarray, code: np.ndarray, over: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """What promotions did to sales.

    Args:
      promoted: bool [V, over], of the weeks that are over.
      row, week: int [E], events; weeks outside [0, over) are left out.
      code: int32 [V], the items' kinds.
      over: number of weeks.

    Returns:
      (`Promotions.lift`, `share`, `shop_share`).
    """
    size = len(promoted)
    real = (week >= 0) & (week < over)
    row, week = row[real], week[real]
    first = np.full(size, over)
    np.minimum.at(first, row, week)
    on_sale = np.arange(over) >= first[:, None]  # weeks since the item first sold
    lines = np.bincount(row, minlength=size).astype(np.float64)
    under = np.bincount(row[promoted[row, week]], minlength=size).astype(np.float64)
    expected = lines * (promoted & on_sale).sum(1) / np.maximum(on_sale.sum(1), 1)

    def smoothed(part: np.ndarray, whole: np.ndarray, prior: np.ndarray | float) -> np.ndarray:
        return (part + _PSEUDO_LINES * prior) / (whole + _PSEUDO_LINES)

    of_shop = float(smoothed(under.sum(), expected.sum(), 1.0))
    of_kind = smoothed(np.bincount(code, under), np.bincount(code, expected), of_shop)[code]
    shop_share = float(under.sum() / max(lines.sum(), 1.0))
    lift = smoothed(under, expected, of_kind)
    return lift.astype(np.float32), smoothed(under, lines, shop_share).astype(np.float32), shop_share


class PromotionCalendar(tf.Module):
    """What a request may know of promotions, by the moment at which it is made.

    A request without a moment (`context_timestamp` 0) is made when the snapshot was.

    Args:
      promotions: of the snapshot.
      as_of: unix seconds, the snapshot's moment.

    Attributes:
      past: names of spans of weeks: the last week and the last four.
      coming: of those that are known ahead, the current week, the first two and all.
      names: of all Q spans, the past ones first.
      longest: the span of all weeks that are known ahead, or of the last four where none is.
      weeks: how many they are.
      promoted: int64 [V, P] variable, the bits of the weeks in which each item row is promoted.
    """

    def __init__(self, promotions: Promotions, as_of: float) -> None:
        super().__init__(name="promotion_calendar")
        self.promotions = promotions
        self.promoted = frozen_table(promotions.weeks, tf.int64, "promoted")
        self._as_of = int(as_of)
        ahead = promotions.ahead
        past = {"last_4": (-4, 0), "last_1": (-1, 0)}
        coming = {f"next_{weeks}": (0, weeks) for weeks in sorted({1, 2, ahead}) if 0 < weeks <= ahead}
        spans = past | coming  # all coming weeks are the last one
        self.past, self.coming, self.names = tuple(past), tuple(coming), tuple(spans)
        self.longest, self.weeks = (f"next_{ahead}", ahead) if ahead else ("last_4", 4)
        self._edges = np.unique([*spans.values()]).astype(np.int32)
        first, end = np.searchsorted(self._edges, np.asarray([*spans.values()])).T
        self._first, self._end = first.astype(np.int32), end.astype(np.int32)
        # 2^w of week w; 0 of what lies outside the calendar
        self._bit = tf.constant([*(1 << week for week in range(WEEKS)), 0], tf.int64)
        self._below = tf.constant([(1 << week) - 1 for week in range(WEEKS + 1)], tf.int64)

    def week(self, now: tf.Tensor) -> tf.Tensor:
        """int32 [B], the week of moments (unix seconds, int64 [B]), maybe outside the calendar."""
        moment = tf.where(now > 0, now, self._as_of) + (CLOCK_CHANGE - self.promotions.start)
        return tf.cast(tf.math.floordiv(moment, _WEEK), tf.int32)

    def edges(self, week: tf.Tensor) -> tf.Tensor:
        """int32 [B, edges], the weeks at which the spans of a current week (int32 [B]) begin and end."""
        return tf.clip_by_value(week[:, None] + self._edges, 0, WEEKS)

    def between(self, at_edges: tf.Tensor) -> tf.Tensor:
        """[..., Q], the spans' part of what was summed up to each edge ([..., edges])."""
        return tf.gather(at_edges, self._end, axis=-1) - tf.gather(at_edges, self._first, axis=-1)

    def span_bits(self, week: tf.Tensor) -> tf.Tensor:
        """int64 [B, Q], the bits of each span's weeks, of a current week (int32 [B])."""
        return self.between(tf.gather(self._below, self.edges(week)))

    def event_bits(self, request_week: tf.Tensor, now: tf.Tensor, age: tf.Tensor) -> tf.Tensor:
        """The bit of each event's week, 0 where the week is not known yet or outside the calendar.

        Args:
          request_week: int32 [B], see :meth:`week`.
          now: int64 [B], unix seconds, 0 = unknown.
          age: float32 [B, L], days.

        Returns:
          int64 [B, L].
        """
        moment = tf.where(now > 0, now, self._as_of) + (CLOCK_CHANGE - self.promotions.start)
        seconds = tf.cast(tf.cast(age, tf.float64) * F.SECONDS_PER_DAY, tf.int64)
        week = tf.cast(tf.math.floordiv(moment[:, None] - seconds, _WEEK), tf.int32)
        known = (week >= 0) & (week < tf.minimum(request_week + self.promotions.ahead, WEEKS)[:, None])
        return tf.gather(self._bit, tf.where(known, week, WEEKS))

    def now(self, row: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        """Which items the chain promotes in the week of the request; none without a moment.

        Args:
          row: int32 [B, K], item rows.
          now: int64 [B], unix seconds, 0 = unknown.

        Returns:
          bool [B, K].
        """
        moment = now + (CLOCK_CHANGE - self.promotions.start)
        week = tf.cast(tf.math.floordiv(moment, _WEEK), tf.int32)
        known = (now > 0) & (week >= 0) & (week < WEEKS)
        bit = tf.gather(self._bit, tf.where(known, week, WEEKS))
        return (tf.gather(self.promoted, row)[..., 0] & bit[:, None]) != 0
