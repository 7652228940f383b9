"""One or two words of what a user then bought, asked in the user's name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from components.common.queries import Queries, distinct_texts
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
    catalogue: SearchCatalogue, log: EventLog, start: int, end: int, users: int, seed: int
) -> PersonalQueries:
    """Draws users who bought something, and for each of them words of what they bought.

    A word has three letters or more and is in the texts of at least ten items and at most 2 % of all; two
    adjacent words of a text count alike.

    Args:
      catalogue: the items.
      log: events of the window, and before it.
      start, end: unix seconds, the window whose purchases are right.
      users: how many users at most, each with a past before `start`.
      seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    window = log.between(start, end)
    position = pd.Index(catalogue.item_id).get_indexer(log.items)[window.item]
    asking = np.intersect1d(window.user[position >= 0], log.before(start).user)
    asking = np.sort(rng.permutation(asking)[:users])
    keep = (position >= 0) & np.isin(window.user, asking)
    bought = pd.DataFrame({"user": window.user[keep], "position": position[keep]}).drop_duplicates()
    texts, text_of = distinct_texts(catalogue)
    words = _words(texts, np.bincount(text_of, minlength=len(texts)))
    bought["text"] = text_of[bought["position"]]
    pairs = bought.merge(words, on="text").drop_duplicates(["user", "word", "position"])
    asked = pairs[["user", "word"]].drop_duplicates().sort_values(["user", "word"])
    asked = asked.iloc[rng.permutation(len(asked))].groupby("user").head(_PER_USER)
    asked = asked.sort_values(["user", "word"]).reset_index(drop=True)
    asked["query"] = np.arange(len(asked))
    right = pairs.merge(asked, on=["user", "word"])
    queries = Queries.of(
        asked["word"].to_numpy(object), right["query"].to_numpy(), right["position"].to_numpy()
    )
    return PersonalQueries(queries, asked["user"].to_numpy())


def _words(texts: np.ndarray, items: np.ndarray) -> pd.DataFrame:
    """`text` and `word`, one row for each usable word (or two adjacent ones) of each text.

    Args:
      texts: object (str) [T].
      items: int [T], how many items have each.
    """
    single = pd.Series(texts).str.casefold().str.findall(_LETTERS).explode().dropna()
    frame = pd.DataFrame({"text": single.index.to_numpy(), "word": single.to_numpy(object)})
    following = frame.shift(-1)
    double = frame[frame["text"] == following["text"]].copy()
    double["word"] = double["word"] + " " + following["word"][double.index]
    frame = pd.concat([frame, double]).drop_duplicates()
    count = pd.Series(items[frame["text"]]).groupby(frame["word"].to_numpy()).transform("sum").to_numpy()
    usable = (count >= _FEWEST) & (count <= max(_FEWEST, _MOST_SHARE * items.sum()))
    return frame[usable]
