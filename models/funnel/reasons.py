"""Why an item is shown, in words that hold in the request's own data.

Every number and every named item of a reason is computed here from the request (what was
bought, how often, when) or from the snapshot's tables (what sells in a category), never from
what a model believes. The words come from the configuration.
"""

from __future__ import annotations

import datetime as dt
import gettext
import re
import zoneinfo
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.base import FoundCandidates
from models.retrieval.sources.candidate_sources import CandidateSources
from schema import names as F
from schema.config import Numbered, Phrases, Serving

_MOST_DAYS = 3650  # the oldest age that a request's events are read with
_WEEK_DAYS = 7
# "regularly": at least so many intervals, whose standard deviation is at most this share of their
# mean, and which have not long stopped
_INTERVALS, _SPREAD, _OVERDUE = 2, 0.5, 2.0
_TOP = 10  # best sellers of a category that are called popular
_FAR = 1e9

# where a template's {when} comes from; by template, "own" for the rest
_WHEN = {
    "looked_at": "seen_when",
    "co_purchased": "link_when",
    "co_looked_at": "link_when",
    "often_in_category": "category_when",
}
_FACTS = (
    "own_when",
    "seen_when",
    "link_when",
    "category_when",
    "times",
    "cycle",
    "purchases",
    "item",
    "category",
)


def wording(phrase: Numbered, plural: str, most: int) -> list[str]:
    """The phrase for each of 0 to `most`, with the form that gettext's expression chooses."""
    form_of = gettext.c2py(plural)
    return [phrase.exact.get(n, phrase.forms[form_of(n)]).replace("{n}", str(n)) for n in range(most + 1)]


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
        self._days_ago = tf.constant(wording(phrases.days_ago, phrases.plural, _MOST_DAYS))
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
        age = tf.clip_by_value(age_days, 0.0, float(_MOST_DAYS))
        now = tf.reshape(now, tf.concat([tf.shape(now), tf.ones([tf.rank(age) - 1], tf.int32)], 0))
        known = now > 0
        then = now - tf.cast(tf.round(tf.cast(age, tf.float64) * F.SECONDS_PER_DAY), tf.int64)
        day = self.day(then)
        days = tf.where(known, self.day(now) - day, tf.cast(tf.floor(age), tf.int64))
        days = tf.clip_by_value(days, 0, _MOST_DAYS)
        words = tf.gather(self._days_ago, days)
        words = tf.where(~known & (days == 0), self._within_a_day, words)
        if self._weekdays is not None:
            # 1 January 1970 was a Thursday
            weekday = tf.gather(self._weekdays, (day + 3) % 7)
            words = tf.where(known & (days >= 2) & (days < _WEEK_DAYS), weekday, words)
        return words


class Reasons(tf.Module):
    """Source and reason of listed items.

    Args:
      item_text: string [V].
      snapshot: item tables as of the moment of the model.
      sources: the candidate sources.
      category: int32 [V] variable, category codes of all items; None without categories.
      category_names: str [codes]; None without categories.
      bought: bool [event types], which event type codes mean "bought".
      history_length: the most events that are read.
      config: the configuration's section.
    """

    def __init__(
        self,
        item_text: tf.Tensor,
        snapshot: Snapshot,
        sources: CandidateSources,
        category: tf.Variable | None,
        category_names: list[str] | None,
        bought: tf.Tensor,
        history_length: int,
        config: Serving,
    ) -> None:
        super().__init__(name="reasons")
        self._sources = sources
        self._category = category
        self._bought = bought
        self._text = item_text
        self._category_names = tf.constant([_readable(name) for name in category_names or [""]])
        phrases = config.phrases
        self._calendar = Calendar(phrases, config.time_zone)
        self._times = tf.constant(wording(phrases.times, phrases.plural, history_length))
        self._purchases = tf.constant(wording(phrases.purchases, phrases.plural, history_length))
        self._cycle = tf.constant(wording(phrases.days, phrases.plural, _MOST_DAYS))
        self._as_of = int(snapshot.as_of)
        week = np.expm1(snapshot.stats[snapshot.candidate_row, snapshot.stat_names.index("log_lines_7")])
        code = None if category is None else category.numpy()[snapshot.candidate_row]
        self._top_of_week = frozen_table(_best_sellers(week, code))
        self._top = frozen_table(_best_sellers(snapshot.trending, code))

        templates = config.reasons.model_dump()
        self._number = {name: number for number, name in enumerate(templates)}
        parts = [re.split(r"\{(\w+)\}", template) for template in templates.values()]
        most = max(len(part) // 2 for part in parts)
        literals = [part[::2] + [""] * (most + 1 - len(part[::2])) for part in parts]
        facts = [
            [_fact(name, placeholder) for placeholder in part[1::2]] + [0] * (most + 1 - len(part) // 2)
            for name, part in zip(templates, parts, strict=True)
        ]
        self._literals, self._facts = tf.constant(literals), tf.constant(facts)

    @tf.Module.with_name_scope
    def __call__(
        self,
        request: Mapping[str, tf.Tensor],
        now: tf.Tensor,
        found: FoundCandidates,
        row: tf.Tensor,
        position: tf.Tensor,
        explored: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sources and reasons.

        Args:
          request: from `RequestParser`.
          now: int64 [B], unix seconds, 0 = unknown.
          found: from `CandidateSources`.
          row, position: int32 [B, K], the listed items; C where an item is no candidate.
          explored: bool [B, K], listed because they are new.

        Returns:
          (source string [B, K], reason string [B, K]).
        """
        events = self._events(request)
        link, linked = self._sources.strongest_link(found, position)
        link_row = tf.gather(self._sources.candidate_row, link)
        # both at once: the price is in the number of ops, not in their sizes
        both = self._own(events, tf.concat([row, link_row], 1))
        own, of_link = ({name: half[i] for name, half in both.items()} for i in range(2))
        source = self._source(found, position, linked, explored)

        bought, link_bought = own["occasions"] > 0, of_link["occasions"] > 0
        regular = (
            (own["intervals"] >= _INTERVALS)
            & (own["spread"] <= _SPREAD * own["interval"])
            & (own["last"] <= _OVERDUE * own["interval"])
            & (tf.round(own["interval"]) >= 1)
        )
        by_tower, trends = source == F.TWO_TOWER, source == F.TRENDING
        goes_with = source == F.CO_PURCHASED
        # later ones overrule
        rules = [
            (own["occasions"] > 1, "buy_again"),
            (regular, "buy_again_regularly"),
            (~bought, "looked_at"),
            (goes_with, "co_looked_at"),
            (goes_with & link_bought, "co_purchased"),
            (by_tower, "context"),
            (by_tower & events["any"], "two_tower"),
            (trends, "trending"),
            (explored, "exploration_anywhere"),
        ]
        arrived = source == F.NEW_ITEMS
        if F.NEW_ITEMS in self._sources.sizes:
            rules.append((arrived, "new_items"))
        ages = [own["last"], own["seen"], tf.where(link_bought, of_link["last"], of_link["seen"])]
        facts = {
            "times": tf.gather(self._times, tf.cast(own["occasions"], tf.int32)),
            "cycle": tf.gather(self._cycle, tf.cast(tf.round(own["interval"]), tf.int32)),
            "item": self.title(link_row),
        }
        if self._category is not None:
            code = tf.gather(self._category, row)
            named = code > 0
            count, last = self._in_category(events, code)
            ages.append(last)
            trends &= named
            this_week = (now >= self._as_of) & (now < self._as_of + _WEEK_DAYS * F.SECONDS_PER_DAY)
            rules += [
                (by_tower & (count > 1), "often_in_category"),
                (trends & tf.gather(self._top, position), "trending_in_category"),
                (trends & tf.gather(self._top_of_week, position) & this_week[:, None], "trending_this_week"),
                (explored & named, "exploration"),
            ]
            if F.NEW_ITEMS in self._sources.sizes:
                rules.append((arrived & named, "new_items_in_category"))
            facts |= {
                "category": tf.gather(self._category_names, code),
                "purchases": tf.gather(self._purchases, tf.cast(count, tf.int32)),
            }
        words = tf.unstack(self._calendar.when(tf.stack(ages, -1), now), axis=-1)
        facts |= dict(zip(("own_when", "seen_when", "link_when", "category_when"), words, strict=False))
        reason = tf.fill(tf.shape(row), self._number["buy_again_once"])
        for where, name in rules:
            reason = tf.where(where, self._number[name], reason)
        return source, self.fill(reason, facts)

    def similar_to(self, row: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        """Reasons of the signature `similar`, string [B, 1].

        Args:
          row: int32 [B, 1], the item that was asked about.
          known: bool [B, 1], whether it is; else what trends is listed.
        """
        reason = tf.where(known, self._number["similar"], self._number["trending"])
        return self.fill(reason, {"item": self.title(row)})

    def fill(self, reason: tf.Tensor, facts: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Texts of templates.

        Args:
          reason: int32 [B, K], numbers of templates.
          facts: string [B, K] each, by the names of `_FACTS`.
        """
        nothing = tf.fill(tf.shape(reason), "")
        known = tf.stack([nothing, *(facts.get(name, nothing) for name in _FACTS)], -1)
        filled = tf.gather(known, tf.gather(self._facts, reason), batch_dims=2)
        parts = tf.stack([tf.gather(self._literals, reason), filled], -1)
        flat = tf.concat([tf.shape(reason), [2 * self._literals.shape[1]]], 0)
        return tf.strings.reduce_join(tf.reshape(parts, flat), -1)

    def title(self, row: tf.Tensor) -> tf.Tensor:
        """Items' short names: the first of the parts that their texts are joined from."""
        return tf.strings.regex_replace(tf.gather(self._text, row), r"^(.*?)\.( .*)?$", r"\1")

    def _source(
        self, found: FoundCandidates, position: tf.Tensor, linked: tf.Tensor, explored: tf.Tensor
    ) -> tf.Tensor:
        # The source in which the item stands highest speaks for it; what is in the history is
        # always "buy again".
        sizes = self._sources.sizes
        others = [place for place, name in enumerate(sizes) if name != F.BUY_AGAIN]
        names = [list(sizes)[place] for place in others]
        share = tf.gather(found.rank.of(position), others, axis=-1)
        share /= tf.constant([sizes[name] for name in names], tf.float32)
        share = tf.where(linked[..., None] | [name != F.CO_PURCHASED for name in names], share, 2.0)
        best = tf.argmin(tf.pad(share, [[0, 0], [0, 0], [0, 1]], constant_values=3.0), -1)
        source = tf.gather(tf.constant([*names, F.BUY_AGAIN]), best)
        had = found.own.of(position)[..., 0] > 0
        return tf.where(explored, F.EXPLORATION, tf.where(had, F.BUY_AGAIN, source))

    def _events(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The history by item and age, so that neighbours tell intervals."""
        row, age = request["history_row"], request[F.HISTORY_AGE_DAYS]
        bought = tf.gather(self._bought, request[F.HISTORY_EVENT_TYPE]) & (row > 0)
        only = tf.where(bought, row, 0)
        # oldest first within an item; float64 holds row and age in one number exactly enough
        key = tf.cast(only, tf.float64) * (_MOST_DAYS + 1) - tf.cast(age, tf.float64)
        order = tf.argsort(key, 1)
        only, days = tf.gather(only, order, batch_dims=1), tf.gather(age, order, batch_dims=1)
        again = tf.pad((only[:, 1:] == only[:, :-1]) & (only[:, 1:] > 0), [[0, 0], [1, 0]])
        interval = tf.where(again, tf.pad(days[:, :-1] - days[:, 1:], [[0, 0], [1, 0]]), 0.0)
        # lines of one basket have one age: they are one occasion
        later = interval > 0
        occasion = (only > 0) & (later | ~again)
        sums = [occasion, later, interval, interval * interval]
        return {
            "row": only,
            "age": days,
            "sums": tf.stack([tf.cast(values, tf.float32) for values in sums], -1),
            "seen_row": tf.where(bought, 0, row),
            "seen_age": age,
            "any": tf.reduce_any(row > 0, 1, keepdims=True),
        }

    def _own(self, events: Mapping[str, tf.Tensor], row: tf.Tensor) -> dict[str, list[tf.Tensor]]:
        """What the history says of items (int32 [B, 2 K]); each float32 [B, K], twice.

        `occasions` on which it was bought, age of the `last` one, number of `intervals` between
        them, their mean `interval` and `spread` (standard deviation) in days, and the age at
        which it was last `seen` without being bought.
        """
        hit = (events["row"][:, None] == row[:, :, None]) & (row > 0)[:, :, None]
        sums = tf.unstack(tf.matmul(tf.cast(hit, tf.float32), events["sums"]), axis=-1)
        occasions, intervals, total, squares = sums
        mean = total / tf.maximum(intervals, 1.0)
        variance = tf.maximum(squares / tf.maximum(intervals, 1.0) - mean * mean, 0.0)
        seen = (events["seen_row"][:, None] == row[:, :, None]) & (row > 0)[:, :, None]
        both = {
            "occasions": occasions,
            "intervals": intervals,
            "interval": mean,
            "spread": tf.sqrt(variance),
            "last": tf.reduce_min(tf.where(hit, events["age"][:, None], _FAR), -1),
            "seen": tf.reduce_min(tf.where(seen, events["seen_age"][:, None], _FAR), -1),
        }
        return {name: tf.split(values, 2, 1) for name, values in both.items()}

    def _in_category(self, events: Mapping[str, tf.Tensor], code: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Purchases in categories (int32 [B, K]) and the age of the last; float32 [B, K] each."""
        own = tf.gather(self._category, events["row"])
        hit = (own[:, None] == code[:, :, None]) & (code > 0)[:, :, None] & (events["row"] > 0)[:, None]
        count = tf.linalg.matvec(tf.cast(hit, tf.float32), events["sums"][..., 0])
        return count, tf.reduce_min(tf.where(hit, events["age"][:, None], _FAR), -1)


def _fact(template: str, placeholder: str) -> int:
    name = _WHEN.get(template, "own_when") if placeholder == "when" else placeholder
    return 1 + _FACTS.index(name)


def _readable(name: str) -> str:
    return name.capitalize() if name.isupper() else name


def _best_sellers(sold: np.ndarray, category: np.ndarray | None) -> np.ndarray:
    """bool [C + 1]: which candidates are among the `_TOP` of their category.

    Args:
      sold: float32 [C].
      category: int32 [C], 0 = none; None without categories.
    """
    top = np.zeros(len(sold) + 1, bool)
    if category is None:
        return top
    order = np.lexsort((-sold, category))
    grouped = category[order]
    first = np.searchsorted(grouped, grouped)
    best = order[(np.arange(len(order)) - first < _TOP)]
    top[best] = (sold[best] > 0) & (category[best] > 0)
    return top
