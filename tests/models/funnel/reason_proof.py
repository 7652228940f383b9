"""Holds a reason against the request that it was given to, by plain Python.

Everything is recomputed from what a client knows: its own request, the catalogue, and the event
log for what sells. Nothing of `models.funnel.reasons` is used.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import statistics
import zoneinfo
from collections.abc import Mapping, Sequence

from schema.config import Numbered, Reasons, Serving

DAY = 86_400


@dataclasses.dataclass(frozen=True)
class Event:
    """One event of a request."""

    item_id: str
    age_days: float
    bought: bool


@dataclasses.dataclass(frozen=True)
class Shop:
    """What there is to know about a shop's items.

    Attributes:
      title: item -> the first part of its text.
      category: item -> category as it is shown, "" for none.
      sold_week, sold: item -> purchases in the last 7 days, and in the trending window, of the model.
      candidates: items that can be ranked.
      new: those of them that are new: without an event more than `candidates.new_days` before the model.
      as_of: unix seconds of the model.
      promoted: item -> unix seconds at which the weeks begin in which the chain promotes it.
    """

    title: Mapping[str, str]
    category: Mapping[str, str]
    sold_week: Mapping[str, int]
    sold: Mapping[str, int]
    candidates: frozenset[str]
    new: frozenset[str]
    as_of: int
    promoted: Mapping[str, frozenset[int]] = dataclasses.field(default_factory=dict)

    def offered_soon(self, item: str, now: int) -> bool:
        """Whether an item is promoted in a week that begins in less than three weeks, or has begun."""
        return any(-7 * DAY < start - now - 3600 < 14 * DAY for start in self.promoted.get(item, ()))

    def on_offer(self, item: str, now: int) -> bool:
        """Whether an item is promoted in the week of a moment; the week begins an hour early."""
        return now > 0 and any(start <= now + 3600 < start + 7 * DAY for start in self.promoted.get(item, ()))

    def popular(self, item: str, week: bool) -> bool:
        """Whether an item is one of the ten that its category sells most."""
        sold = self.sold_week if week else self.sold
        others = [o for o in self.candidates if self.category[o] == self.category[item]]
        above = sum(sold.get(other, 0) > sold.get(item, 0) for other in others)
        return self.category[item] != "" and sold.get(item, 0) > 0 and above < 10


def number_in(text: str, phrase: Numbered) -> int:
    """The number that a phrase states."""
    for number, words in phrase.exact.items():
        if words == text:
            return number
    for form in phrase.forms:
        found = re.fullmatch(re.escape(form).replace(r"\{n\}", r"(\d+)"), text)
        if found:
            return int(found[1])
    raise AssertionError(f"no number in {text!r}")


def check_when(text: str, age_days: float, now: int, serving: Serving) -> None:
    """Asserts that a phrase says when something of that age was."""
    phrases = serving.phrases
    if not now:
        if text == phrases.within_a_day:
            assert age_days < 1
        else:
            assert number_in(text, phrases.days_ago) == int(age_days) >= 1
        return
    zone = zoneinfo.ZoneInfo(serving.time_zone)
    today = dt.datetime.fromtimestamp(now, zone).date()
    # ages are float32: half a minute either way may be another day
    moments = [dt.datetime.fromtimestamp(now - age_days * DAY + shift, zone).date() for shift in (-30, 0, 30)]
    days = {(today - moment).days for moment in moments}
    if text in phrases.weekdays:
        assert phrases.weekdays.index(text) in {moment.weekday() for moment in moments}
        assert days & set(range(2, 7))
    else:
        assert number_in(text, phrases.days_ago) in days


def prove(
    reason: str, source: str, item: str, events: Sequence[Event], now: int, shop: Shop, serving: Serving
) -> str:
    """Asserts that a reason is true.

    Args:
      reason, source, item: what was returned.
      events: those of the request whose items the catalogue has.
      now: the request's timestamp, 0 = unknown.
      shop: the items.
      serving: the words.

    Returns:
      The template's name.
    """
    name, said = _read(reason, serving.reasons)
    if name.endswith("on_offer"):
        assert shop.on_offer(item, now)
    elif name in ("buy_again", "buy_again_once", "two_tower", "context", "trending"):
        assert not shop.on_offer(item, now)  # it would have been said
    mine = [event for event in events if event.item_id == item]
    bought = [event.age_days for event in mine if event.bought]
    if name.startswith("buy_again"):
        assert source == "buy_again"
        check_when(said["when"], min(bought), now, serving)
        occasions = sorted(set(bought))
        if name == "buy_again_once":
            assert len(occasions) == 1
        elif name == "buy_again_on_offer":
            assert number_in(said["times"], serving.phrases.times) == len(occasions)
        elif name == "buy_again":
            assert number_in(said["times"], serving.phrases.times) == len(occasions) > 1
        else:
            gaps = [later - sooner for sooner, later in zip(occasions[:-1], occasions[1:], strict=True)]
            assert len(gaps) >= 2
            assert abs(number_in(said["cycle"], serving.phrases.days) - statistics.mean(gaps)) < 0.51
            assert statistics.pstdev(gaps) <= 0.51 * statistics.mean(gaps)
            assert min(occasions) <= 2.01 * statistics.mean(gaps)
        return name
    assert not bought
    if name == "looked_at":
        assert source == "viewed"
        check_when(said["when"], min(event.age_days for event in mine), now, serving)
    elif name.startswith("co_"):
        assert source == "co_purchased"
        named = [event for event in events if shop.title[event.item_id] == said["item"]]
        ages = [event.age_days for event in named if event.bought == (name == "co_purchased")]
        # several items may have one title: the reason speaks of one of them
        assert any(_holds(said["when"], age, now, serving) for age in ages)
    elif name == "often_in_category":
        assert source == "two_tower"
        assert said["category"] == shop.category[item] != ""
        within = {
            (event.item_id, event.age_days)
            for event in events
            if event.bought and shop.category[event.item_id] == said["category"]
        }
        assert number_in(said["purchases"], serving.phrases.purchases) == len(within) > 1
        check_when(said["when"], min(age for _, age in within), now, serving)
    elif name in ("two_tower", "context", "on_offer"):
        assert source == "two_tower"
        assert name == "on_offer" or bool(events) == (name == "two_tower")
    elif name.startswith("trending"):
        assert source == "trending"
        if name not in ("trending", "trending_on_offer"):
            assert said["category"] == shop.category[item]
            assert shop.popular(item, week=name == "trending_this_week")
        if name == "trending_this_week":
            assert shop.as_of <= now < shop.as_of + 7 * DAY
    elif name.startswith("planned"):
        assert source == "planned"
        assert not mine
        assert shop.on_offer(item, now) == (name == "planned_this_week")
        assert shop.offered_soon(item, now or shop.as_of)
    elif name.startswith("new_items"):
        assert source == "new_items"
        assert not mine
        assert item in shop.new
        assert said.get("category", "") == shop.category[item]
    else:
        assert name.startswith("exploration")
        assert source == "exploration"
        assert not mine
        assert item not in shop.candidates
        assert said.get("category", "") == shop.category[item]
    return name


def _holds(text: str, age_days: float, now: int, serving: Serving) -> bool:
    try:
        check_when(text, age_days, now, serving)
    except AssertionError:
        return False
    return True


def _read(reason: str, reasons: Reasons) -> tuple[str, dict[str, str]]:
    """The template that a reason was made from, and what it says in its places."""
    # the longest wording first: "{when}" would take what another template says more exactly
    templates = sorted(reasons.model_dump().items(), key=lambda entry: -len(re.sub(r"\{\w+\}", "", entry[1])))
    for name, template in templates:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(template))
        found = re.fullmatch(pattern, reason)
        if found:
            return name, found.groupdict()
    raise AssertionError(f"{reason!r} is no reason")
