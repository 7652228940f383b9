"""A label window: who asks when, what is known at that moment, and what happens next."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from models.funnel.retriever import Retriever
from schema import names as F


@dataclasses.dataclass(frozen=True)
class LabelWindow:
    """A moment at which every user asks, what is known then, and what they buy next.

    Attributes:
      as_of: unix seconds, the moment of the retriever's snapshot.
      past: the events before it, of all types: what is known.
      future: the purchases that are labels.
      moments: int64 [users of the log], unix seconds at which each user asks.
      retriever: built from the snapshot of `as_of`.
      promoted: float32 [C], store-weeks in which each candidate was promoted while the labels
        came about; None in a shop without promotions.
      tasks: of which it gives lists.
    """

    as_of: int
    past: EventLog
    future: EventLog
    moments: np.ndarray
    retriever: Retriever
    promoted: np.ndarray | None = None
    tasks: tuple[str, ...] = ("all", "novel")

    @property
    def most_candidates(self) -> int:
        """How many candidates the sources give at most."""
        return sum(self.retriever.sources.sizes.values())

    @functools.cached_property
    def find(self) -> Callable[[Mapping[str, tf.Tensor], tf.Tensor], tf.Tensor]:
        """Candidates of request inputs among the allowed ones (see `Retriever.find`), int32 [B, N].

        Traced once for all the lists of a window: tracing takes longer than asking a few hundred users.
        """
        return tf.function(
            lambda inputs, allowed: self.retriever.find(inputs, allowed).position,
            reduce_retracing=True,
            autograph=False,
        )

    @classmethod
    def between(
        cls,
        log: EventLog,
        as_of: int,
        end: int,
        retriever: Retriever,
        items: ItemTable | None = None,
        tasks: tuple[str, ...] = ("all", "novel"),
    ) -> LabelWindow:
        """Everybody asks at `as_of`, labels are the purchases of [as_of, end).

        Args:
          log: all events up to `end`.
          as_of, end: unix seconds.
          retriever: built from the snapshot of `as_of`.
          items: the catalogue with its promotions, None to draw no promoted negatives.
          tasks: of which the window gives lists.
        """
        moments = np.full(len(log.users), as_of, np.int64)
        promoted = None if items is None else promotions(items, retriever, as_of, end)
        return cls(
            as_of, log.before(as_of), log.between(as_of, end).purchases, moments, retriever, promoted, tasks
        )


def promotions(items: ItemTable, retriever: Retriever, start: int, end: int) -> np.ndarray:
    """Store-weeks in which each candidate was promoted, in any channel, in [start, end).

    Returns:
      float32 [C]; a week counts as soon as one day of it lies in the window.
    """
    inside = (items.exposure_week < end) & (items.exposure_week + 7 * F.SECONDS_PER_DAY > start)
    stores = sum((channel[inside] for channel in items.exposure.values()), np.zeros(inside.sum()))
    total = np.bincount(items.exposure_row[inside], stores, minlength=len(items))
    row = retriever.sources.candidate_row.numpy()[: retriever.sources.count]
    return total[row].astype(np.float32)


def outcomes(window: LabelWindow, position: np.ndarray, soon_days: float) -> dict[str, sp.csr_matrix]:
    """What every user did after asking.

    Args:
      window: whose `future` is read.
      position: int32 [items of the log], candidate of each item, C where none.
      soon_days: D.

    Returns:
      float32 [users of the log, C + 1], column C being what is no candidate: `label` (1 =
      bought), `label_soon` (within D days), `label_next_session`, `label_repeat` (in two or more
      sessions), `label_quantity` and `label_value` (totals).
    """
    future = window.future
    shape = (len(future.users), window.retriever.sources.count + 1)
    column = position[future.item]

    def total(chosen: np.ndarray, values: np.ndarray | None = None) -> sp.csr_matrix:
        weights = np.ones(len(future), np.float32) if values is None else values
        where = (future.user[chosen], column[chosen])
        return sp.csr_matrix((weights[chosen], where), shape, np.float32)

    def any_of(chosen: np.ndarray) -> sp.csr_matrix:
        found = total(chosen)
        found.data[:] = 1
        return found

    every = np.ones(len(future), bool)
    soon = future.timestamp < window.moments[future.user] + soon_days * F.SECONDS_PER_DAY
    first = np.full(shape[0], np.iinfo(np.int64).max)
    np.minimum.at(first, future.user, future.session)
    # one line of each (session, item), however many lines the receipt has
    line = np.zeros(len(future), bool)
    line[np.unique(future.session * shape[1] + column, return_index=True)[1]] = True
    repeat = total(line)
    repeat.data = (repeat.data > 1).astype(np.float32)
    return {
        F.LABEL: any_of(every),
        F.LABEL_SOON: any_of(soon),
        F.LABEL_NEXT_SESSION: any_of(future.session == first[future.user]),
        F.LABEL_REPEAT: repeat,
        F.LABEL_QUANTITY: total(every, future.quantity),
        F.LABEL_VALUE: total(every, future.value),
    }
