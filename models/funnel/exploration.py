"""New items among the ranked ones: places for what has too few events to be ranked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.data.requests import absent
from models.retrieval.snapshot import Snapshot
from schema import names as F
from schema.config import Serving

_LAST = -1e9  # below every score: items that must not be shown
_SHORT_LIST = 50  # nearest new items, among which is drawn


class Explorer(tf.Module):
    """Gives every (1 / share)-th place to an item that is too new to be ranked.

    Which of the nearest new items to the query's vector are shown is drawn by a hash of user, day
    and item: the same request gets the same answer, other users and other days explore others.

    Args:
      items: the catalogue.
      rows: int32 [E], rows of the new items.
      vectors: float32 [V, D], search vectors of all rows (see `models.funnel.retriever`).
      category: int32 [V], category codes; None without categories.
      share: of the places, above 0.
    """

    def __init__(
        self,
        items: ItemTable,
        rows: np.ndarray,
        vectors: np.ndarray,
        category: np.ndarray | None,
        share: float,
    ) -> None:
        super().__init__(name="explorer")
        self.count = len(rows)
        place = np.full(len(items), self.count, np.int32)
        place[rows] = np.arange(self.count, dtype=np.int32)
        self._place = frozen_table(place)
        self._row = frozen_table(np.append(rows, 0), tf.int32)
        self._vectors = frozen_table(vectors[rows], tf.float32)
        self._ids = tf.constant([*items.item_id[rows], ""])
        self._category = None if category is None else frozen_table(category[rows], tf.int32)
        self._share = share

    @classmethod
    def of(
        cls,
        items: ItemTable,
        snapshot: Snapshot,
        vectors: np.ndarray,
        category: np.ndarray | None,
        config: Serving,
    ) -> Explorer | None:
        """The explorer of a shop; None where it gives new items no place, or nothing is new.

        New is what is no candidate (fewer than `candidates.min_events` events) and has no event
        older than `exploration_days`.
        """
        new = snapshot.new_within(config.exploration_days)
        new[snapshot.candidate_row] = False
        rows = np.flatnonzero(new).astype(np.int32)
        if not config.exploration_share or not len(rows):
            return None
        return cls(items, rows, vectors, category, config.exploration_share)

    @tf.Module.with_name_scope
    def __call__(
        self,
        inputs: Mapping[str, tf.Tensor],
        request: Mapping[str, tf.Tensor],
        query: tf.Tensor,
        excluded: tf.Tensor,
        wanted: tf.Tensor | None,
        places: tf.Tensor,
    ) -> tf.Tensor:
        """New items for a list's places.

        Args:
          inputs: the request's strings.
          request: from `RequestParser`.
          query: float32 [B, D], the query tower's vectors.
          excluded: int32 [B, X], rows that must not be shown.
          wanted: bool [B, codes], category codes that are wanted; None without categories.
          places: int32 [], K.

        Returns:
          int32 [B, K], rows; 0 where the place is not given to a new item.
        """
        gone = tf.concat([excluded, request["history_row"]], 1)
        fits = absent(tf.gather(self._place, gone), self.count)
        if self._category is not None:
            fits &= tf.gather(wanted, self._category, axis=1)
        near = tf.where(fits, tf.matmul(query, self._vectors, transpose_b=True), _LAST)
        near, at = tf.math.top_k(near, min(_SHORT_LIST, self.count))
        day = tf.strings.as_string(inputs[F.CONTEXT_TIMESTAMP] // F.SECONDS_PER_DAY)
        asks = tf.repeat(tf.strings.join([inputs[F.USER_ID], day], "\n")[:, None], tf.shape(at)[1], 1)
        drawn = tf.strings.to_hash_bucket_fast(tf.strings.join([asks, tf.gather(self._ids, at)], "\n"), 2**30)
        # below what any hash gives, so that only empty places come last
        drawn = tf.where(near > _LAST / 2, drawn, -1)
        at = tf.where(near > _LAST / 2, at, self.count)
        at = tf.gather(at, tf.argsort(drawn, 1, direction="DESCENDING"), batch_dims=1)
        # place j explores when the share of j + 1 places makes one more than that of j
        share = tf.math.floor(tf.range(places + 1, dtype=tf.float32) * self._share + 1e-4)
        turn = tf.cast(share[:-1], tf.int32)
        explores = (share[1:] > share[:-1]) & (turn < tf.shape(at)[1])
        rows = tf.gather(self._row, tf.gather(at, tf.minimum(turn, tf.shape(at)[1] - 1), axis=1))
        return tf.where(explores, rows, 0)


def with_new(
    row: tf.Tensor, position: tf.Tensor, score: tf.Tensor, new: tf.Tensor, nowhere: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """A ranked list (each [B, K']) with new items (rows, int32 [B, K], 0 = none) in their places.

    Returns:
      (row, position, score, bool whether it is a new item), each [B, K].
    """
    explored = new > 0
    before = tf.cumsum(tf.cast(explored, tf.int32), 1, exclusive=True)
    at = tf.range(tf.shape(new)[1]) - before
    last = tf.shape(position)[1]
    there = ~explored & (at < last)

    def moved(values: tf.Tensor, empty: tf.Tensor | float) -> tf.Tensor:
        values = tf.pad(values, [[0, 0], [0, 1]])  # something to gather from an empty list
        return tf.where(there, tf.gather(values, tf.clip_by_value(at, 0, last), batch_dims=1), empty)

    return moved(row, new), moved(position, nowhere), moved(score, 0.0), explored
