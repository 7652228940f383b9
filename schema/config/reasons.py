"""The words of the reasons: templates, and phrases that depend on numbers and days."""

from __future__ import annotations

import gettext
import re

import pydantic
from pydantic import Field

from schema.config.base import Section


class Numbered(Section):
    """A phrase that depends on a number, {n}."""

    exact: dict[int, str] = {}
    """Number -> wording of its own."""
    forms: list[str] = Field(min_length=1)
    """Wordings for all other numbers, chosen by `phrases.plural`."""


class Phrases(Section):
    """Parts of reasons that depend on numbers and days."""

    plural: str = "n != 1"
    """Expression of gettext: which of the forms a number n takes."""
    times: Numbered = Numbered(exact={1: "once", 2: "twice"}, forms=["{n} time", "{n} times"])
    purchases: Numbered = Numbered(forms=["{n} purchase", "{n} purchases"])
    days: Numbered = Numbered(exact={7: "week", 14: "two weeks"}, forms=["{n} day", "{n} days"])
    days_ago: Numbered = Numbered(exact={0: "today", 1: "yesterday"}, forms=["{n} day ago", "{n} days ago"])
    weekdays: list[str] = Field(
        ["on Monday", "on Tuesday", "on Wednesday", "on Thursday", "on Friday", "on Saturday", "on Sunday"],
    )
    """Seven wordings, from Monday, for two to six days ago; if empty, `days_ago` says it."""
    within_a_day: str = "within a day"
    """Said where the request does not give the time, so that it is not known which day "today" is."""

    @pydantic.model_validator(mode="after")
    def _usable(self) -> Phrases:
        try:
            form_of = gettext.c2py(self.plural)
            needed = 1 + max(form_of(n) for n in range(1000))
        except (ValueError, ArithmeticError) as error:
            raise ValueError(
                f"plural: '{self.plural}' is no plural expression of gettext ({error})"
            ) from error
        for name in ("times", "purchases", "days", "days_ago"):
            if len(getattr(self, name).forms) < needed:
                raise ValueError(f"{name}.forms: the plural expression wants {needed} forms")
        if len(self.weekdays) not in (0, 7):
            raise ValueError("weekdays: give seven, from Monday, or none")
        return self


# Reason -> the facts that its template may name.
PLACEHOLDERS: dict[str, frozenset[str]] = {
    "buy_again_regularly": frozenset({"cycle", "when"}),
    "buy_again": frozenset({"times", "when"}),
    "buy_again_once": frozenset({"when"}),
    "looked_at": frozenset({"when"}),
    "co_purchased": frozenset({"item", "when"}),
    "co_looked_at": frozenset({"item", "when"}),
    "often_in_category": frozenset({"purchases", "category", "when"}),
    "two_tower": frozenset(),
    "context": frozenset(),
    "trending_this_week": frozenset({"category"}),
    "trending_in_category": frozenset({"category"}),
    "trending": frozenset(),
    "new_items_in_category": frozenset({"category"}),
    "new_items": frozenset(),
    "exploration": frozenset({"category"}),
    "exploration_anywhere": frozenset(),
    "similar": frozenset({"item"}),
}


class Reasons(Section):
    """Templates of the reasons; docs/serving.md says when each is given."""

    buy_again_regularly: str = "You buy it about every {cycle}, last {when}"
    buy_again: str = "You bought it {times}, last {when}"
    buy_again_once: str = "You bought it {when}"
    looked_at: str = "You looked at it {when}"
    co_purchased: str = "Goes with {item}, which you bought {when}"
    co_looked_at: str = "Goes with {item}, which you looked at {when}"
    often_in_category: str = "You made {purchases} in {category}, the last {when}"
    two_tower: str = "Picked for you from what you did here"
    context: str = "Picked for where and when you shop"
    trending_this_week: str = "Popular in {category} this week"
    trending_in_category: str = "Popular in {category}"
    trending: str = "Popular with our customers"
    new_items_in_category: str = "Recently added to {category}"
    new_items: str = "Recently added to our shop"
    exploration: str = "New in {category}"
    exploration_anywhere: str = "New in our shop"
    similar: str = "Similar to {item}"

    @pydantic.model_validator(mode="after")
    def _placeholders(self) -> Reasons:
        for name, known in PLACEHOLDERS.items():
            unknown = set(re.findall(r"\{(\w*)\}", getattr(self, name))) - known
            if unknown:
                raise ValueError(
                    f"{name}: unknown {sorted(unknown)}; known here are {sorted(known) or 'none'}"
                )
        return self
