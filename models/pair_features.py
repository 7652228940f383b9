"""Features of a (request, candidate) pair, computed in the graph from the request alone and
the snapshot's tables: the same code when the ranker learns and when it serves.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models import features as F
from models.item_table import ItemTable
from models.snapshot import Snapshot
from models.sources import CandidateSources, Found, segment_sum
from models.tables import table

_NEVER_DAYS = 720.0  # age given to "never bought"


class PairFeatures(tf.Module):
    """Dense features and category codes of candidates.

    Args:
      snapshot: item tables.
      items: the catalogue.
      sources: the candidate sources that found the candidates.
    """

    def __init__(self, snapshot: Snapshot, items: ItemTable, sources: CandidateSources) -> None:
        super().__init__(name="pair_features")
        self._sources = sources
        stats = snapshot.stats[snapshot.candidate_row]
        self._stats = table(np.concatenate([stats, np.zeros_like(stats[:1])]), tf.float32)
        self._codes = {name: table(code, tf.int32) for name, code in items.categorical.items()}
        self._sizes = {name: len(items.vocabularies[name]) for name in items.categorical}
        own = sources.own_names
        self.names: tuple[str, ...] = (
            *snapshot.stat_names,
            *(f"own_{name}" for name in own),
            "own_log_last_age",
            "own_log_first_age",
            "own_log_gap",
            "own_due",
            "own_share",
            *(f"{name}_{kind}" for name in self._codes for kind in ("all", "decay_45", "share")),
            "two_tower_score",
            *(f"{name}_log_rank" for name in sources.ranks_of),
            "co_purchased_score",
            "user_log_events",
            "user_log_events_45",
            "user_log_last_age",
            "user_log_span",
        )
        self.code_names = tuple(self._codes)

    @property
    def code_sizes(self) -> dict[str, int]:
        """Vocabulary size of each category code."""
        return dict(self._sizes)

    @tf.Module.with_name_scope
    def __call__(
        self, request: Mapping[str, tf.Tensor], found: Found
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Features of every candidate.

        Args:
          request: from `RequestParser`.
          found: from `CandidateSources`.

        Returns:
          (float32 [B, N, len(names)], category codes name -> int32 [B, N]).
        """
        at = found.position
        row = tf.gather(self._sources.candidate_row, at)
        events = self._sources.history(request)
        weights = events["weights"]
        total = tf.reduce_sum(weights, 1)  # [B, 1 + decays]

        own = tf.gather(found.own, at, batch_dims=1)
        count = own[..., 0]
        bought = count > 0
        last = tf.where(bought, tf.gather(found.last_age, at, batch_dims=1), _NEVER_DAYS)
        first = tf.where(bought, tf.gather(found.first_age, at, batch_dims=1), _NEVER_DAYS)
        gap = tf.where(count > 1, (first - last) / tf.maximum(count - 1, 1.0), _NEVER_DAYS)
        parts = [
            tf.gather(self._stats, at),
            tf.math.log1p(own),
            tf.math.log1p(last)[..., None],
            tf.math.log1p(first)[..., None],
            tf.math.log1p(gap)[..., None],
            # 1 = as long ago as the item's usual interval for this user
            tf.where(count > 1, tf.minimum(last / tf.maximum(gap, 0.5), 5.0), 0.0)[..., None],
            (count / tf.maximum(total[:, :1], 1.0))[..., None],
        ]
        history_row = request["history_row"]
        codes = {}
        for name, code in self._codes.items():
            codes[name] = tf.gather(code, row)
            # all events and those of the last weeks, by category
            mine = segment_sum(
                tf.gather(weights, [0, 2], axis=2), tf.gather(code, history_row), self._sizes[name]
            )
            mine = tf.gather(mine, codes[name], batch_dims=1)
            mine *= tf.cast(codes[name] > 0, tf.float32)[..., None]
            parts.append(tf.math.log1p(mine))
            parts.append(mine[..., 1:] / tf.maximum(total[:, None, 2:3], 1e-3))
        parts.append(self._sources.index.score(found.query, at)[..., None])
        for name in self._sources.ranks_of:
            parts.append(tf.math.log1p(tf.gather(found.ranks[name], at, batch_dims=1))[..., None])
        together = tf.gather(
            found.scores[F.CO_PURCHASED], tf.minimum(at, self._sources.count - 1), batch_dims=1
        )
        parts.append(tf.math.log1p(together)[..., None])

        age = request[F.HISTORY_AGE_DAYS]
        real = history_row > 0
        # bounded, so that padding (or a request with no place for events at all) changes nothing
        newest = tf.minimum(tf.reduce_min(tf.where(real, age, _NEVER_DAYS), 1), _NEVER_DAYS)
        oldest = tf.maximum(tf.reduce_max(tf.where(real, age, 0.0), 1), 0.0)
        of_user = tf.stack(
            [
                tf.math.log1p(total[:, 0]),
                tf.math.log1p(total[:, 2]),
                tf.math.log1p(newest),
                tf.math.log1p(oldest),
            ],
            1,
        )
        parts.append(tf.repeat(of_user[:, None], tf.shape(at)[1], 1))
        return tf.concat(parts, -1), codes

    def describe(self) -> dict[str, np.ndarray]:
        """Index of each feature by name (for explanations and tests)."""
        return {name: np.int32(index) for index, name in enumerate(self.names)}
