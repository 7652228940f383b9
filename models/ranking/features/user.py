"""How much the user buys and since when, the same for all candidates of a request."""

from __future__ import annotations

import tensorflow as tf

from models.ranking.features.block import ACTIVITY, Feature, FeatureBlock
from models.ranking.features.context import NEVER_DAYS, PairContext, is_event, recent, sessions, totals
from schema import names as F


def user_activity() -> FeatureBlock:
    """Events, sessions and ages of the history; each value is float32 [B]."""
    return FeatureBlock.stacked(
        [
            Feature("user_log_events", ACTIVITY, lambda pairs: totals(pairs)[:, 0]),
            Feature("user_log_events_45", ACTIVITY, lambda pairs: totals(pairs)[:, recent(pairs.sources)]),
            Feature("user_log_sessions", ACTIVITY, lambda pairs: sessions(pairs)[:, 0]),
            Feature("user_log_sessions_45", ACTIVITY, lambda pairs: sessions(pairs)[:, 1]),
            Feature("user_log_last_age", ACTIVITY, _newest),
            Feature("user_log_span", ACTIVITY, _oldest),
        ],
        then=_for_each_candidate,
    )


# Both ages are bounded, so that padding (or a request with no place for events at all) changes nothing.


def _newest(pairs: PairContext) -> tf.Tensor:
    """float32 [B], age in days of the last event; `NEVER_DAYS` where there is none."""
    age = tf.where(is_event(pairs), pairs.request[F.HISTORY_AGE_DAYS], NEVER_DAYS)
    return tf.minimum(tf.reduce_min(age, 1), NEVER_DAYS)


def _oldest(pairs: PairContext) -> tf.Tensor:
    """float32 [B], age in days of the first event; 0 where there is none."""
    age = tf.where(is_event(pairs), pairs.request[F.HISTORY_AGE_DAYS], 0.0)
    return tf.maximum(tf.reduce_max(age, 1), 0.0)


def _for_each_candidate(values: tf.Tensor, pairs: PairContext) -> tf.Tensor:
    """float32 [B, N, n]: log1p of the requests' values (float32 [B, n])."""
    return tf.repeat(tf.math.log1p(values)[:, None], tf.shape(pairs.position)[1], 1)
