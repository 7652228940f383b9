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
        "buy_again_on_offer",
        F.BUY_AGAIN,
        "On offer this week; you bought it {times}, last {when}",
        ("times", "when"),
        "bought, and the chain promotes it in the week of the request",
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
        "looked_at",
        F.BUY_AGAIN,
        "You looked at it {when}",
        ("when",),
        "in the history, and never bought; of the source `viewed` where that is on",
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
    Reason(
        "on_offer",
        F.TWO_TOWER,
        "On offer this week",
        (),
        "the chain promotes it in the week of the request",
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
        "trending_on_offer",
        F.TRENDING,
        "Popular with our customers, on offer this week",
        (),
        "the chain promotes it in the week of the request",
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
    Reason(
        "planned_this_week",
        F.PLANNED,
        "From this week's offers",
        (),
        "the chain promotes it in the week of the request",
    ),
    Reason(
        "planned",
        F.PLANNED,
        "From our next offers",
        (),
        "the chain promotes it in another week that is known ahead, by the moment of the request or, without "
        "one, of the model",
    ),
    Reason("exploration", F.EXPLORATION, "New in {category}", ("category",), "the item has a category"),
    Reason("exploration_anywhere", F.EXPLORATION, "New in our shop", (), "the item has no category"),
    Reason(
        "similar",
        F.SIMILAR,
        "Similar to {item}",
        ("item",),
        "in the signature `similar`, for an item that is known",
    ),
    Reason(
        "search_exact",
        F.SEARCH,
        "Exactly what you searched for",
        ("query", "words"),
        "the search names the item, by its title or its id",
    ),
    Reason(
        "search_match",
        F.SEARCH,
        "Matches '{words}'",
        ("query", "words"),
        "the item has all words of the search, or all that are left where words had to be dropped",
    ),
    Reason(
        "search_behaviour",
        F.SEARCH,
        "Others who searched for '{query}' chose it",
        ("query", "words"),
        "it has not all the words, and people chose it who searched for the same",
    ),
    Reason(
        "search_meaning",
        F.SEARCH,
        "Close to '{query}' in meaning",
        ("query", "words"),
        "it has not all the words, and its text is among those nearest to the search",
    ),
    Reason(
        "search_words",
        F.SEARCH,
        "Matches a part of '{query}'",
        ("query", "words"),
        "it has some of the words",
    ),
    Reason("search_browse", F.SEARCH, "From our shop", (), "nothing was searched for"),
    Reason(
        "search_bought",
        F.SEARCH,
        "{match}; you bought it {times}, last {when}",
        ("match", "times", "when"),
        "bought on two occasions or more; {match} is one of the reasons above",
    ),
    Reason(
        "search_bought_once",
        F.SEARCH,
        "{match}; you bought it {when}",
        ("match", "when"),
        "bought on one occasion",
    ),
    Reason(
        "search_looked_at",
        F.SEARCH,
        "{match}; you looked at it {when}",
        ("match", "when"),
        "in the history, and never bought",
    ),
)
