"""What the user bought of the candidate itself: how much, how often, when, and whether it is due."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.ranking.features.block import OWN_PURCHASES, Column, Feature, FeatureBlock
from models.ranking.features.context import NEVER_DAYS, PairContext, once, rows, sessions, totals
from models.retrieval.snapshot import Snapshot
from models.retrieval.sources.candidate_sources import CandidateSources

_MOST_DUE = 5.0  # intervals since the last purchase


@dataclasses.dataclass(frozen=True)
class OwnHistory:
    """What a request's history says of its candidates.

    Attributes:
      counts: float32 [B, N, 1 + decays], events and decayed events of the item.
      count: float32 [B, N], events.
      bought: bool [B, N], whether there is one.
      first, last: float32 [B, N], age in days of the first and the last event.
      gap: float32 [B, N], mean days between two events.
    """

    counts: tf.Tensor
    count: tf.Tensor
    bought: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor
    gap: tf.Tensor


@once
def own_history(pairs: PairContext) -> OwnHistory:
    """The history of each candidate; ages and gaps are `NEVER_DAYS` where there is none."""
    counts, first, last = tf.split(
        pairs.found.own.of(pairs.position), [len(pairs.sources.own_names), 1, 1], -1
    )
    count = counts[..., 0]
    bought = count > 0
    first, last = (tf.where(bought, age[..., 0], NEVER_DAYS) for age in (first, last))
    gap = tf.where(count > 1, (first - last) / tf.maximum(count - 1, 1.0), NEVER_DAYS)
    return OwnHistory(counts, count, bought, first, last, gap)


def own_purchases(snapshot: Snapshot, sources: CandidateSources) -> list[FeatureBlock]:
    """Counts, ages and shares of a candidate's own events.

    Args:
      snapshot: item tables; `log_cycle` of its statistics is read by name.
      sources: the candidate sources; their `own_names` name the counts.
    """
    # float32 [V], days: the usual interval of all who repeat the item
    cycle = frozen_table(np.expm1(snapshot.stats[:, snapshot.stat_names.index("log_cycle")]), tf.float32)
    return [
        FeatureBlock(
            [Column(f"own_{name}", OWN_PURCHASES) for name in sources.own_names],
            lambda pairs: tf.math.log1p(own_history(pairs).counts),
        ),
        FeatureBlock.stacked(
            [
                Feature("own_log_last_age", OWN_PURCHASES, lambda pairs: own_history(pairs).last),
                Feature("own_log_first_age", OWN_PURCHASES, lambda pairs: own_history(pairs).first),
                Feature("own_log_gap", OWN_PURCHASES, lambda pairs: own_history(pairs).gap),
            ],
            then=lambda days, _: tf.math.log1p(days),
        ),
        FeatureBlock.stacked(
            [
                Feature(
                    "own_due",
                    OWN_PURCHASES,
                    lambda pairs: _due(pairs, own_history(pairs).count > 1, own_history(pairs).gap),
                ),
                Feature(
                    "own_due_of_item",
                    OWN_PURCHASES,
                    lambda pairs: _due(pairs, own_history(pairs).bought, tf.gather(cycle, rows(pairs))),
                ),
                Feature(
                    "own_share",
                    OWN_PURCHASES,
                    lambda pairs: own_history(pairs).count / tf.maximum(totals(pairs)[:, :1], 1.0),
                ),
                Feature(
                    "own_share_of_sessions",
                    OWN_PURCHASES,
                    lambda pairs: own_history(pairs).count / tf.maximum(sessions(pairs)[:, :1], 1.0),
                ),
            ],
            tables=[cycle],
        ),
    ]


def _due(pairs: PairContext, known: tf.Tensor, interval: tf.Tensor) -> tf.Tensor:
    """float32 [B, N]: how many intervals ago the last purchase was; 1 = as long ago as usual.

    Args:
      pairs: the pairs.
      known: bool [B, N], elsewhere the answer is 0.
      interval: float32 [B, N], days.
    """
    return tf.where(known, tf.minimum(own_history(pairs).last / tf.maximum(interval, 0.5), _MOST_DUE), 0.0)
