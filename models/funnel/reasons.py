"""Why an item is shown, in words that hold in the request's own data.

`schema.reasons` lists the reasons with their words; `RULES` here says, for the same keys, when each is
given. Every number and every named item of a reason is computed from the request or from the snapshot's
tables (`models.funnel.evidence`), never from what a model believes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

import tensorflow as tf

from models.funnel.calendar import MOST_DAYS, Calendar
from models.funnel.evidence import Evidence, EvidenceTables
from models.funnel.filters import Categories
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
      needs: what the shop must have for it: `F.CATEGORY`, or a source that may be off.
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
    Rule("buy_again_regularly", lambda about: about.regularly),
    Rule("looked_at", lambda about: ~about.bought, SEEN),
    Rule("co_looked_at", lambda about: about.goes_with, LINK),
    Rule("co_purchased", lambda about: about.goes_with & about.link_bought, LINK),
    Rule("context", lambda about: about.by_tower),
    Rule("two_tower", lambda about: about.by_tower & about.any_event),
    Rule(
        "often_in_category",
        lambda about: about.by_tower & (about.category_purchases > 1),
        IN_CATEGORY,
        needs=(F.CATEGORY,),
    ),
    Rule("trending", lambda about: about.trends),
    Rule("trending_in_category", lambda about: about.popular, needs=(F.CATEGORY,)),
    Rule("trending_this_week", lambda about: about.popular_this_week, needs=(F.CATEGORY,)),
    Rule("new_items", lambda about: about.arrived, needs=(F.NEW_ITEMS,)),
    Rule(
        "new_items_in_category",
        lambda about: about.arrived & about.has_category,
        needs=(F.NEW_ITEMS, F.CATEGORY),
    ),
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

        templates = config.reasons.model_dump()
        self._number = {name: number for number, name in enumerate(templates)}
        dates = {rule.key: rule.dates for rule in RULES}
        parts = [re.split(r"\{(\w+)\}", template) for template in templates.values()]
        most = max(len(part) // 2 for part in parts)
        literals = [part[::2] + [""] * (most + 1 - len(part[::2])) for part in parts]
        facts = [
            [_fact(placeholder, dates.get(name, OWN)) for placeholder in part[1::2]]
            + [0] * (most + 1 - len(part) // 2)
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
        about = Evidence(self._tables, request, now, found, row, position, explored)
        reason = tf.fill(tf.shape(row), self._number[DEFAULT])
        for rule in self._rules:
            reason = tf.where(rule.holds(about), self._number[rule.key], reason)
        return about.source, self.fill(reason, self._said(about, now))

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
        reason = tf.where(known, self._number[SIMILAR], self._number["trending"])
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


def _fact(placeholder: str, dates: str) -> int:
    """Which of ("", *_FACTS) a template's placeholder stands for."""
    return 1 + _FACTS.index(f"when_{dates}" if placeholder == "when" else placeholder)


def _readable(name: str) -> str:
    return name.capitalize() if name.isupper() else name
