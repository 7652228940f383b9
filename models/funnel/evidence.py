"""What can be said of listed items from the request's own data and the snapshot's tables.

What was bought, how often and when; which own item speaks for an item; what sells in its category.
Nothing here is what a model believes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.funnel.own_history import OwnHistory
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.base import FoundCandidates
from models.retrieval.sources.candidate_sources import CandidateSources
from models.retrieval.sources.own_events import INTEREST, LOOKED
from schema import names as F

_WEEK_DAYS = 7
# "regularly": at least this many intervals, whose standard deviation is at most this share of their
# mean; the last purchase is at most this many intervals ago
_INTERVALS, _SPREAD, _OVERDUE = 2, 0.5, 2.0
_TOP = 10  # best sellers of a category that are called popular
_FAR = 1e9


class EvidenceTables(tf.Module):
    """The tables that evidence is drawn from, in addition to the request.

    Args:
      snapshot: item tables as of the moment of the model.
      sources: the candidate sources.
      category: int32 [V] variable, category codes of all items; None without categories.
      bought: bool [event types], which event type codes mean "bought".

    Attributes:
      sources, category, bought: the arguments.
      as_of: unix seconds of the model.
      top, top_of_week: bool [C + 1], which candidates are among the best sellers of their category,
        in the trending window and in the model's last week.
    """

    def __init__(
        self, snapshot: Snapshot, sources: CandidateSources, category: tf.Variable | None, bought: tf.Tensor
    ) -> None:
        super().__init__(name="evidence")
        self.sources, self.category, self.bought = sources, category, bought
        self.as_of = int(snapshot.as_of)
        week = np.expm1(snapshot.stats[snapshot.candidate_row, snapshot.stat_names.index("log_lines_7")])
        code = None if category is None else category.numpy()[snapshot.candidate_row]
        self.top_of_week = frozen_table(_best_sellers(week, code))
        self.top = frozen_table(_best_sellers(snapshot.sold, code))


class Evidence:
    """What is known of the listed items of a batch of requests; computed when first asked for.

    Whatever is not said otherwise is [B, K], of the listed items.

    Args:
      tables: what does not depend on the request.
      request: from `RequestParser`.
      now: int64 [B], unix seconds, 0 = unknown.
      found: from `CandidateSources`.
      row, position: int32 [B, K], the listed items; position C where an item is no candidate.
      explored: bool [B, K], listed because they are new.
    """

    def __init__(
        self,
        tables: EvidenceTables,
        request: Mapping[str, tf.Tensor],
        now: tf.Tensor,
        found: FoundCandidates,
        row: tf.Tensor,
        position: tf.Tensor,
        explored: tf.Tensor,
    ) -> None:
        self._tables, self._now, self._found = tables, now, found
        self._history = OwnHistory(request, tables.bought)
        self._row, self._position, self.explored = row, position, explored

    # --- which source the item comes from ------------------------------------------------

    @functools.cached_property
    def source(self) -> tf.Tensor:
        """string: the source in which the item stands highest; `buy_again` for what was bought, `viewed` for
        what is in the history and was not (`buy_again`, too, where that source is off).
        """
        sizes = self._tables.sources.sizes
        others = [place for place, name in enumerate(sizes) if name not in (F.BUY_AGAIN, F.VIEWED)]
        names = [list(sizes)[place] for place in others]
        share = tf.gather(self._found.rank.of(self._position), others, axis=-1)
        share /= tf.constant([sizes[name] for name in names], tf.float32)
        # a co-purchased item needs the own item that it goes with
        linked = self._link[1][..., None]
        share = tf.where(linked | [name != F.CO_PURCHASED for name in names], share, 2.0)
        best = tf.argmin(tf.pad(share, [[0, 0], [0, 0], [0, 1]], constant_values=3.0), -1)
        source = tf.gather(tf.constant([*names, F.BUY_AGAIN]), best)
        if self._found.looked is not None:
            looked = self._found.looked.of(self._position)[..., LOOKED.index(INTEREST)] > 0
            source = tf.where(looked, F.VIEWED if F.VIEWED in sizes else F.BUY_AGAIN, source)
        had = self._found.own.of(self._position)[..., 0] > 0
        return tf.where(self.explored, F.EXPLORATION, tf.where(had, F.BUY_AGAIN, source))

    @functools.cached_property
    def goes_with(self) -> tf.Tensor:
        """bool: from `co_purchased`."""
        return self.source == F.CO_PURCHASED

    @functools.cached_property
    def by_tower(self) -> tf.Tensor:
        """bool: from `two_tower`."""
        return self.source == F.TWO_TOWER

    @functools.cached_property
    def trends(self) -> tf.Tensor:
        """bool: from `trending`."""
        return self.source == F.TRENDING

    @functools.cached_property
    def arrived(self) -> tf.Tensor:
        """bool: from `new_items`."""
        return self.source == F.NEW_ITEMS

    @functools.cached_property
    def planned(self) -> tf.Tensor:
        """bool: from `planned`."""
        return self.source == F.PLANNED

    # --- the item in the history ---------------------------------------------------------

    @functools.cached_property
    def own(self) -> dict[str, tf.Tensor]:
        """What the history says of the item; see `OwnHistory.of`."""
        return self._own_and_link[0]

    @functools.cached_property
    def bought(self) -> tf.Tensor:
        """bool: bought at least once."""
        return self.own["occasions"] > 0

    @functools.cached_property
    def regularly(self) -> tf.Tensor:
        """bool: bought at intervals much alike, until recently."""
        own = self.own
        return (
            (own["intervals"] >= _INTERVALS)
            & (own["spread"] <= _SPREAD * own["interval"])
            & (own["last"] <= _OVERDUE * own["interval"])
            & (tf.round(own["interval"]) >= 1)
        )

    @functools.cached_property
    def any_event(self) -> tf.Tensor:
        """bool [B, 1]: whether the request has a history."""
        return tf.reduce_any(self._history.is_event, 1, keepdims=True)

    # --- whether it is on offer ----------------------------------------------------------

    @functools.cached_property
    def on_offer(self) -> tf.Tensor:
        """bool: the chain promotes it in the week of the request."""
        return self._tables.sources.calendar.now(self._row, self._now)

    # --- the own item that it goes with --------------------------------------------------

    @functools.cached_property
    def link_row(self) -> tf.Tensor:
        """int32: row of the own item that speaks most for the item."""
        return tf.gather(self._tables.sources.candidate_row, self._link[0])

    @functools.cached_property
    def link_bought(self) -> tf.Tensor:
        """bool: whether that item was bought, and not only looked at."""
        return self._own_and_link[1]["occasions"] > 0

    @functools.cached_property
    def link_age(self) -> tf.Tensor:
        """float32: days since that item was last bought, else since it was last looked at."""
        of_link = self._own_and_link[1]
        return tf.where(self.link_bought, of_link["last"], of_link["seen"])

    # --- its category (only with categories) ---------------------------------------------

    @functools.cached_property
    def category(self) -> tf.Tensor:
        """int32: the item's category code, 0 = none."""
        return tf.gather(self._tables.category, self._row)

    @functools.cached_property
    def has_category(self) -> tf.Tensor:
        """bool."""
        return self.category > 0

    @functools.cached_property
    def category_purchases(self) -> tf.Tensor:
        """float32: occasions on which something of the category was bought."""
        return tf.linalg.matvec(
            tf.cast(self._in_category, tf.float32), self._history.purchases["sums"][..., 0]
        )

    @functools.cached_property
    def category_age(self) -> tf.Tensor:
        """float32: days since the last of them."""
        return tf.reduce_min(tf.where(self._in_category, self._history.purchases["age"][:, None], _FAR), -1)

    @functools.cached_property
    def popular(self) -> tf.Tensor:
        """bool: trends, and is one of the best sellers of its category."""
        return self._trends_in_category & tf.gather(self._tables.top, self._position)

    @functools.cached_property
    def popular_this_week(self) -> tf.Tensor:
        """bool: the same of the model's last week, while the request comes within a week of it."""
        as_of = self._tables.as_of
        fresh = (self._now >= as_of) & (self._now < as_of + _WEEK_DAYS * F.SECONDS_PER_DAY)
        best = tf.gather(self._tables.top_of_week, self._position)
        return self._trends_in_category & best & fresh[:, None]

    # --- parts ---------------------------------------------------------------------------

    @functools.cached_property
    def _trends_in_category(self) -> tf.Tensor:
        return self.trends & self.has_category

    @functools.cached_property
    def _in_category(self) -> tf.Tensor:
        """bool [B, K, L]: which purchases are of the item's category."""
        row, code = self._history.purchases["row"], self.category
        own = tf.gather(self._tables.category, row)
        return (own[:, None] == code[:, :, None]) & self.has_category[:, :, None] & (row > 0)[:, None]

    @functools.cached_property
    def _link(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Position of the own item that speaks most for the item, and whether there is one."""
        return self._tables.sources.strongest_link(self._found, self._position)

    @functools.cached_property
    def _own_and_link(self) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """`own` of the listed items and of the own items that speak for them."""
        # one call for both: op count dominates the cost
        both = self._history.of(tf.concat([self._row, self.link_row], 1))
        halves = {name: tf.split(values, 2, 1) for name, values in both.items()}
        own, of_link = ({name: half[i] for name, half in halves.items()} for i in range(2))
        return own, of_link


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
