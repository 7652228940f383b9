"""One or two words of what a user then bought, asked in the user's name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from components.common.queries import Queries
from models.data.event_log import EventLog
from models.search.catalogue import SearchCatalogue

_FEWEST, _MOST_SHARE = 10, 0.02  # items that have the words: a choice, and not the whole shop
_LETTERS = r"[^\W\d_]{3,}"
_PER_USER = 2


@dataclasses.dataclass(frozen=True)
class PersonalQueries:
    """Queries of users.

    Attributes:
      queries: right is what the user bought in the window that has the words.
      user: int [Q], index of the log.
    """

    queries: Queries
    user: np.ndarray


def of_purchases(
    catalogue: SearchCatalogue, title: str, log: EventLog, start: int, end: int, users: int, seed: int
) -> PersonalQueries:
    """Draws users who bought something, and for each of them words of what they bought.

    A word stands in the title or the category, has three letters or more and is in at least ten items and
    at most 2 % of all; two adjacent words count alike. Right are all items that the user buys in the
    window and that have the words there.

    Args:
      catalogue: the items.
      title: the field that names an item.
      log: events of the window, and before it.
      start, end: unix seconds, the window whose purchases are right.
      users: how many users at most, each with a past before `start`.
      seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    window = log.between(start, end).purchases
    position = pd.Index(catalogue.item_id).get_indexer(log.items)[window.item]
    asking = np.intersect1d(window.user[position >= 0], log.before(start).user)
    asking = np.sort(rng.permutation(asking)[:users])
    keep = (position >= 0) & np.isin(window.user, asking)
    bought = pd.DataFrame({"user": window.user[keep], "position": position[keep]}).drop_duplicates()
    columns = [catalogue.fields[title]]
    if catalogue.category is not None:
        columns.append(catalogue.category)
    names = pd.DataFrame(dict(enumerate(columns)))
    names_of, distinct = names.groupby(list(names.columns), sort=False).ngroup(), names.drop_duplicates()
    words = _words(distinct, np.bincount(names_of, minlength=len(distinct)))
    bought["name"] = names_of.to_numpy()[bought["position"]]
    pairs = bought.merge(words, on="name").drop_duplicates(["user", "word", "position"])
    asked = pairs[["user", "word"]].drop_duplicates().sort_values(["user", "word"])
    asked = asked.iloc[rng.permutation(len(asked))].groupby("user").head(_PER_USER)
    asked = asked.sort_values(["user", "word"]).reset_index(drop=True)
    asked["query"] = np.arange(len(asked))
    right = pairs.merge(asked, on=["user", "word"])
    queries = Queries.of(
        asked["word"].to_numpy(object), right["query"].to_numpy(), right["position"].to_numpy()
    )
    return PersonalQueries(queries, asked["user"].to_numpy())


def _words(names: pd.DataFrame, items: np.ndarray) -> pd.DataFrame:
    """`name` and `word`, one row for each usable word, or two adjacent ones, of each name.

    Args:
      names: [T], distinct titles and categories, strings; a row is a name.
      items: int [T], how many items have each.
    """
    parts = []
    for column in names.columns:
        listed = names[column].reset_index(drop=True).str.casefold().str.findall(_LETTERS)
        single = listed.explode().dropna()
        frame = pd.DataFrame({"name": single.index.to_numpy(), "word": single.to_numpy(object)})
        following = frame.shift(-1)
        double = frame[frame["name"] == following["name"]].copy()
        double["word"] = double["word"] + " " + following["word"][double.index]
        parts += [frame, double]
    frame = pd.concat(parts).drop_duplicates()
    count = pd.Series(items[frame["name"]]).groupby(frame["word"].to_numpy()).transform("sum").to_numpy()
    usable = (count >= _FEWEST) & (count <= max(_FEWEST, _MOST_SHARE * items.sum()))
    return frame[usable]
