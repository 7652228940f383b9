"""Which candidates a request lets through: exclusions, the category filter, what was bought lately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.preprocessing import clean
from models.data.requests import RequestParser, absent, lookup
from schema import names as F


class Categories(tf.Module):
    """Which category each item has, of the one that filters and caps read (`items.category`).

    Args:
      codes: int32 [V], 0 = none.
      names: str [codes]; the first stands for none.
      candidate_row: int32 [C].

    Attributes:
      of_row: int32 [V] variable, the codes.
      of_candidate: int32 [C] variable, the candidates' codes.
      names: the argument.
    """

    def __init__(self, codes: np.ndarray, names: Sequence[str], candidate_row: np.ndarray) -> None:
        super().__init__(name="categories")
        self.names = tuple(names)
        self.of_row = frozen_table(codes, tf.int32)
        self.of_candidate = frozen_table(codes[candidate_row], tf.int32)
        self._code = lookup(self.names[1:], np.arange(1, len(names)), "category", len(names))

    def wanted(self, names: tf.Tensor) -> tf.Tensor:
        """bool [B, codes]: the category codes that a request wants (string [B, n], "" for padding); all
        where it names none.
        """
        names = clean(names)
        named = names != ""
        size = len(self.names)
        code = tf.where(named, self._code.lookup(names), size)
        return ~absent(code, size) | ~tf.reduce_any(named, 1, keepdims=True)


class RequestFilters(tf.Module):
    """Exclusions, category filter and seen-item policy.

    Args:
      parser: turns ids into rows.
      row_candidate: int32 [V] variable, position of each item row; C where it has none.
      count: C, positions that are filtered.
      categories: of those positions; None without categories.
      bought: bool [event types], which event type codes mean "bought".
      drop_bought_days: items bought within this many days are not shown, unless the request says
        otherwise.
    """

    def __init__(
        self,
        parser: RequestParser,
        row_candidate: tf.Variable,
        count: int,
        categories: Categories | None,
        bought: tf.Tensor,
        drop_bought_days: float,
    ) -> None:
        super().__init__(name="filters")
        self._parser, self._categories = parser, categories
        self._row_candidate, self._count = row_candidate, count
        self._bought, self._drop_bought_days = bought, drop_bought_days

    @tf.Module.with_name_scope
    def __call__(self, inputs: Mapping[str, tf.Tensor], request: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """bool [B, C]: candidates that exclusions, category filter and seen-item policy let through.

        Args:
          inputs: the request's strings.
          request: from `RequestParser`.
        """
        days = inputs[F.DROP_BOUGHT_DAYS]
        # NaN also falls back to the shop's setting
        days = tf.where(days >= 0, days, self._drop_bought_days)[:, None]
        bought = tf.gather(self._bought, request[F.HISTORY_EVENT_TYPE]) & (request["history_row"] > 0)
        drop = bought & (request[F.HISTORY_AGE_DAYS] < days)
        gone = [self._parser.rows(inputs[F.EXCLUDE_ITEM_ID])]
        gone.append(tf.where(drop, request["history_row"], 0))
        allowed = absent(tf.gather(self._row_candidate, tf.concat(gone, 1)), self._count)
        categories = self._categories
        if categories is not None:
            # most requests name none, and looking up every candidate costs more than all the rest here
            allowed &= tf.cond(
                tf.reduce_any(inputs[F.CATEGORY] != ""),
                lambda: tf.gather(categories.wanted(inputs[F.CATEGORY]), categories.of_candidate, axis=1),
                lambda: tf.ones([1, 1], tf.bool),
            )
        return allowed
