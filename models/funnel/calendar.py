"""How long ago something was, in the words and the time zone of the shop."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import numpy as np
import tensorflow as tf

from models.funnel.wording import wording
from schema import names as F
from schema.config import Phrases

MOST_DAYS = 3650  # older events are as old as this
_WEEK_DAYS = 7


def utc_offsets(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A time zone's offsets from UTC.

    Args:
      name: of the IANA database.

    Returns:
      (int64 [Z] unix seconds from which on an offset holds, ascending; int64 [Z] seconds to add).
    """
    zone = zoneinfo.ZoneInfo(name)

    def offset(seconds: int) -> int:
        moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
        return int(moment.astimezone(zone).utcoffset().total_seconds())

    starts, offsets = [0], [offset(0)]
    day = F.SECONDS_PER_DAY
    for before in range(0, 47_482 * day, day):  # to the end of 2099
        if offset(before + day) == offsets[-1]:
            continue
        low, high = before, before + day
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        starts.append(high)
        offsets.append(offset(high))
    return np.asarray(starts, np.int64), np.asarray(offsets, np.int64)


class Calendar(tf.Module):
    """How long ago something was, in words.

    Args:
      phrases: the configuration's words.
      zone: IANA name of the shop's time zone.
    """

    def __init__(self, phrases: Phrases, zone: str) -> None:
        super().__init__(name="calendar")
        starts, offsets = utc_offsets(zone)
        self._starts, self._offsets = tf.constant(starts), tf.constant(offsets)
        self._days_ago = tf.constant(wording(phrases.days_ago, phrases.plural, MOST_DAYS))
        self._weekdays = tf.constant(phrases.weekdays) if phrases.weekdays else None
        self._within_a_day = phrases.within_a_day

    def day(self, seconds: tf.Tensor) -> tf.Tensor:
        """int64 [...], the local day of unix seconds (int64 [...]), counted from 1 January 1970."""
        at = tf.searchsorted(self._starts, tf.reshape(seconds, [-1]), side="right") - 1
        offset = tf.gather(self._offsets, tf.maximum(at, 0))
        return (seconds + tf.reshape(offset, tf.shape(seconds))) // F.SECONDS_PER_DAY

    @tf.Module.with_name_scope
    def when(self, age_days: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        """string [B, ...]: "today", "on Monday", "11 days ago".

        Args:
          age_days: float32 [B, ...].
          now: int64 [B], unix seconds, 0 = unknown: then days are whole days of 24 hours.
        """
        age = tf.clip_by_value(age_days, 0.0, float(MOST_DAYS))
        now = tf.reshape(now, tf.concat([tf.shape(now), tf.ones([tf.rank(age) - 1], tf.int32)], 0))
        known = now > 0
        then = now - tf.cast(tf.round(tf.cast(age, tf.float64) * F.SECONDS_PER_DAY), tf.int64)
        day = self.day(then)
        days = tf.where(known, self.day(now) - day, tf.cast(tf.floor(age), tf.int64))
        days = tf.clip_by_value(days, 0, MOST_DAYS)
        words = tf.gather(self._days_ago, days)
        words = tf.where(~known & (days == 0), self._within_a_day, words)
        if self._weekdays is not None:
            # 1 January 1970 was a Thursday
            weekday = tf.gather(self._weekdays, (day + 3) % 7)
            words = tf.where(known & (days >= 2) & (days < _WEEK_DAYS), weekday, words)
        return words
