"""Why an item is shown, in words that hold in the request's own data.

`schema.reasons` lists the reasons with their words; `RULES` here says, for the same keys, when each is
given. Every number and every named item of a reason is computed from the request or from the snapshot's
tables (`models.funnel.evidence`), never from what a model believes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import tensorflow as tf

from models.funnel.calendar import MOST_DAYS, Calendar
from models.funnel.evidence import Evidence, EvidenceTables
from models.funnel.filters import Categories
from models.funnel.templates import Templates
from models.funnel.wording import wording
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.base import FoundCandidates
from models.retrieval.sources.candidate_sources import CandidateSources
from schema import names as F
from schema.config import Serving

# What a reason's {when} is the age of: the item's last purchase, its last event without one, the last
# event of the own item that it goes with, the last purchase in its category.
OWN, SEEN, LINK, IN_CATEGORY = _DATED = ("own", "seen", "link", "category")
_FACTS = (*(f"when_{what}" for what in _DATED), "times", "cycle", "purchases", "item", "category")


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a reason is given.

    Attributes:
      key: the reason's, in `schema.reasons`.
      holds: gives bool [B, K], the listed items that it is given for.
      dates: what its {when} is the age of.
      needs: what the shop must have for it: `F.CATEGORY`, a source that may be off, or `F.ON_OFFER`, that
        it knows its promotions ahead.
    """

    key: str
    holds: Callable[[Evidence], tf.Tensor]
    dates: str = OWN
    needs: tuple[str, ...] = ()


# Given to every item that no rule takes, and by the signature `similar`.
DEFAULT, SIMILAR = "buy_again_once", "similar"

# Later ones overrule.
RULES = (
    Rule("buy_again", lambda about: about.own["occasions"] > 1),
    Rule("buy_again_on_offer", lambda about: about.bought & about.on_offer, needs=(F.ON_OFFER,)),
    Rule("buy_again_regularly", lambda about: about.regularly),
    Rule("looked_at", lambda about: ~about.bought, SEEN),
    Rule("co_looked_at", lambda about: about.goes_with, LINK),
    Rule("co_purchased", lambda about: about.goes_with & about.link_bought, LINK),
    Rule("context", lambda about: about.by_tower),
    Rule("two_tower", lambda about: about.by_tower & about.any_event),
    Rule("on_offer", lambda about: about.by_tower & about.on_offer, needs=(F.ON_OFFER,)),
    Rule(
        "often_in_category",
        lambda about: about.by_tower & (about.category_purchases > 1),
        IN_CATEGORY,
        needs=(F.CATEGORY,),
    ),
    Rule("trending", lambda about: about.trends),
    Rule("trending_on_offer", lambda about: about.trends & about.on_offer, needs=(F.ON_OFFER,)),
    Rule("trending_in_category", lambda about: about.popular, needs=(F.CATEGORY,)),
    Rule("trending_this_week", lambda about: about.popular_this_week, needs=(F.CATEGORY,)),
    Rule("new_items", lambda about: about.arrived, needs=(F.NEW_ITEMS,)),
    Rule(
        "new_items_in_category",
        lambda about: about.arrived & about.has_category,
        needs=(F.NEW_ITEMS, F.CATEGORY),
    ),
    Rule("planned", lambda about: about.planned, needs=(F.PLANNED,)),
    Rule("planned_this_week", lambda about: about.planned & about.on_offer, needs=(F.PLANNED,)),
    Rule("exploration_anywhere", lambda about: about.explored),
    Rule("exploration", lambda about: about.explored & about.has_category, needs=(F.CATEGORY,)),
)


class Reasons(tf.Module):
    """Source and reason of listed items.

    Args:
      item_text: string [V].
      snapshot: item tables as of the moment of the model.
      sources: the candidate sources.
      categories: None without categories.
      bought: bool [event types], which event type codes mean "bought".
      history_length: the most events that are read.
      config: the configuration's section.
    """

    def __init__(
        self,
        item_text: tf.Tensor,
        snapshot: Snapshot,
        sources: CandidateSources,
        categories: Categories | None,
        bought: tf.Tensor,
        history_length: int,
        config: Serving,
    ) -> None:
        super().__init__(name="reasons")
        category = None if categories is None else categories.of_row
        self._tables = EvidenceTables(snapshot, sources, category, bought)
        has = {*sources.sizes} | (set() if categories is None else {F.CATEGORY})
        has |= {F.ON_OFFER} if sources.calendar.promotions.ahead else set()
        self._rules = tuple(rule for rule in RULES if has.issuperset(rule.needs))
        self._with_categories = categories is not None
        self._text = item_text
        names = ("",) if categories is None else categories.names
        self._category_names = tf.constant([_readable(name) for name in names])
        phrases = config.phrases
        self._calendar = Calendar(phrases, config.time_zone)
        self._times = tf.constant(wording(phrases.times, phrases.plural, history_length))
        self._purchases = tf.constant(wording(phrases.purchases, phrases.plural, history_length))
        self._cycle = tf.constant(wording(phrases.days, phrases.plural, MOST_DAYS))

        dates = {rule.key: rule.dates for rule in RULES}
        words = {key: getattr(config.reasons, key) for key in (*dates, DEFAULT, SIMILAR)}
        when = {(key, "when"): f"when_{dates.get(key, OWN)}" for key in words}
        self._templates = Templates(words, _FACTS, when)

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
        about = Evidence(self._tables, request, now, found, row, position, explored)
        number = self._templates.number
        reason = tf.fill(tf.shape(row), number[DEFAULT])
        for rule in self._rules:
            reason = tf.where(rule.holds(about), number[rule.key], reason)
        return about.source, self._templates.fill(reason, self._said(about, now))

    def _said(self, about: Evidence, now: tf.Tensor) -> dict[str, tf.Tensor]:
        """string [B, K] each: the facts in words, by the names of `_FACTS`."""
        own = about.own
        said = {
            "times": tf.gather(self._times, tf.cast(own["occasions"], tf.int32)),
            "cycle": tf.gather(self._cycle, tf.cast(tf.round(own["interval"]), tf.int32)),
            "item": self.title(about.link_row),
        }
        ages = {OWN: own["last"], SEEN: own["seen"], LINK: about.link_age}
        if self._with_categories:
            ages[IN_CATEGORY] = about.category_age
            said["category"] = tf.gather(self._category_names, about.category)
            said["purchases"] = tf.gather(self._purchases, tf.cast(about.category_purchases, tf.int32))
        words = tf.unstack(self._calendar.when(tf.stack([*ages.values()], -1), now), axis=-1)
        return said | {f"when_{what}": when for what, when in zip(ages, words, strict=True)}

    def similar_to(self, row: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        """Reasons of the signature `similar`, string [B, 1].

        Args:
          row: int32 [B, 1], the item that was asked about.
          known: bool [B, 1], whether it is; else what trends is listed.
        """
        number = self._templates.number
        reason = tf.where(known, number[SIMILAR], number["trending"])
        return self._templates.fill(reason, {"item": self.title(row)})

    def title(self, row: tf.Tensor) -> tf.Tensor:
        """Items' short names: the first of the parts that their texts are joined from."""
        return title_of(tf.gather(self._text, row))


def title_of(text: tf.Tensor) -> tf.Tensor:
    """The first of the parts that items' texts (string, any shape) are joined from."""
    return tf.strings.regex_replace(text, r"^(.*?)\.( .*)?$", r"\1")


def _readable(name: str) -> str:
    return name.capitalize() if name.isupper() else name
