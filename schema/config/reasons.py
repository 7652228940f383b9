"""The words of the reasons: templates, and phrases that depend on numbers and days."""

from __future__ import annotations

import gettext
import re
from typing import Any

import pydantic
from pydantic import Field

from schema.config.base import Section
from schema.reasons import REASONS, Reason


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
    """What {times} says: how often the user bought an item."""
    purchases: Numbered = Numbered(forms=["{n} purchase", "{n} purchases"])
    """What {purchases} says: how often the user bought in a category."""
    days: Numbered = Numbered(exact={7: "week", 14: "two weeks"}, forms=["{n} day", "{n} days"])
    """What {cycle} says: the interval at which the user buys an item."""
    days_ago: Numbered = Numbered(exact={0: "today", 1: "yesterday"}, forms=["{n} day ago", "{n} days ago"])
    """What {when} says."""
    weekdays: list[str] = Field(
        ["on Monday", "on Tuesday", "on Wednesday", "on Thursday", "on Friday", "on Saturday", "on Sunday"]
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


def _template(reason: Reason) -> Any:
    """The field of a reason, for `pydantic.create_model`."""
    facts = ", ".join(f"{{{fact}}}" for fact in reason.facts)
    text = f"Of items of the source {reason.source}: {reason.given}."
    return str, Field(reason.template, description=f"{text} May name {facts}." if facts else text)


# One key for each entry of `schema.reasons`, so that no list of reasons is kept here.
_TEMPLATES: dict[str, Any] = {reason.key: _template(reason) for reason in REASONS}
_ReasonTemplates = pydantic.create_model(
    "_ReasonTemplates", __base__=Section, __doc__="The words of each reason.", **_TEMPLATES
)


class Reasons(_ReasonTemplates):
    """Templates of the reasons why an item is shown; `schema.reasons` says when each is given."""

    @pydantic.model_validator(mode="after")
    def _names_known_facts(self) -> Reasons:
        for reason in REASONS:
            unknown = reason.unknown_facts(getattr(self, reason.key))
            if unknown:
                raise ValueError(
                    f"{reason.key}: unknown {unknown}; known here are {sorted(reason.facts) or 'none'}"
                )
        return self


class Notices(Section):
    """What an answer of `search` says about itself, in `notice`; each may name {query} and {words}.

    {query} is what was typed, {words} what was searched for instead.
    """

    corrected: str = "Showing results for '{words}'"
    """A word was misspelt."""
    relaxed: str = "Nothing has all of '{query}': these have '{words}'"
    """Words, or the price that the search named, had to be dropped."""
    similar: str = "Nothing has the words of '{query}': these are close to it"
    """No item has any of the words."""
    nothing: str = "Nothing in the shop passes these filters"
    """There is no item to show."""

    @pydantic.model_validator(mode="after")
    def _names_known_facts(self) -> Notices:
        for name in type(self).model_fields:
            unknown = sorted(set(re.findall(r"\{(\w*)\}", getattr(self, name))) - {"query", "words"})
            if unknown:
                raise ValueError(f"{name}: unknown {unknown}; known here are ['query', 'words']")
        return self
