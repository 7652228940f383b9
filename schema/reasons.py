"""The reasons why an item is shown: one entry each.

An entry says how a reason is keyed in `serving.reasons`, its words unless the shop gives its own, the
facts that the words may name, and when it is given. The rule that decides it has the same key in
`models.funnel.reasons`. Among the reasons of one source the first that holds is given.
"""

from __future__ import annotations

import dataclasses
import re

from schema import names as F


@dataclasses.dataclass(frozen=True)
class Reason:
    """One reason.

    Attributes:
      key: of `serving.reasons`.
      source: the source of the items that it is given for.
      template: the default words; a {fact} in them is filled in.
      facts: those that a template may name.
      given: when it is given, in words.
    """

    key: str
    source: str
    template: str
    facts: tuple[str, ...]
    given: str

    def unknown_facts(self, template: str) -> list[str]:
        """Facts that a template names and that this reason does not have, sorted."""
        return sorted(set(re.findall(r"\{(\w*)\}", template)) - set(self.facts))


REASONS = (
    Reason(
        "buy_again_regularly",
        F.BUY_AGAIN,
        "You buy it about every {cycle}, last {when}",
        ("cycle", "when"),
        "bought on three occasions or more, a day or more apart; the intervals' standard deviation is at "
        "most half their mean, and the last purchase at most two intervals ago",
    ),
    Reason(
        "buy_again",
        F.BUY_AGAIN,
        "You bought it {times}, last {when}",
        ("times", "when"),
        "bought on two occasions or more",
    ),
    Reason("buy_again_once", F.BUY_AGAIN, "You bought it {when}", ("when",), "bought on one occasion"),
    Reason(
        "looked_at", F.BUY_AGAIN, "You looked at it {when}", ("when",), "in the history, and never bought"
    ),
    Reason(
        "co_purchased",
        F.CO_PURCHASED,
        "Goes with {item}, which you bought {when}",
        ("item", "when"),
        "bought by the same users as an item that the user bought",
    ),
    Reason(
        "co_looked_at",
        F.CO_PURCHASED,
        "Goes with {item}, which you looked at {when}",
        ("item", "when"),
        "bought by the same users as an item that the user looked at",
    ),
    Reason(
        "often_in_category",
        F.TWO_TOWER,
        "You made {purchases} in {category}, the last {when}",
        ("purchases", "category", "when"),
        "two purchases or more in the item's category",
    ),
    Reason("two_tower", F.TWO_TOWER, "Picked for you from what you did here", (), "there is a history"),
    Reason("context", F.TWO_TOWER, "Picked for where and when you shop", (), "there is no history"),
    Reason(
        "trending_this_week",
        F.TRENDING,
        "Popular in {category} this week",
        ("category",),
        "one of the ten best sellers of the category in the model's last week, and the request comes within "
        "a week of it",
    ),
    Reason(
        "trending_in_category",
        F.TRENDING,
        "Popular in {category}",
        ("category",),
        "one of the ten best sellers of the category in the last `candidates.trending_days`",
    ),
    Reason(
        "trending",
        F.TRENDING,
        "Popular with our customers",
        (),
        "every other item; also what `similar` lists for an unknown one",
    ),
    Reason(
        "new_items_in_category",
        F.NEW_ITEMS,
        "Recently added to {category}",
        ("category",),
        "the item has a category",
    ),
    Reason("new_items", F.NEW_ITEMS, "Recently added to our shop", (), "the item has no category"),
    Reason("exploration", F.EXPLORATION, "New in {category}", ("category",), "the item has a category"),
    Reason("exploration_anywhere", F.EXPLORATION, "New in our shop", (), "the item has no category"),
    Reason(
        "similar",
        F.SIMILAR,
        "Similar to {item}",
        ("item",),
        "in the signature `similar`, for an item that is known",
    ),
)
