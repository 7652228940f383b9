"""How much the user buys and since when, the same for all candidates of a request."""

from __future__ import annotations

import tensorflow as tf

from models.ranking.features.block import ACTIVITY, Feature, FeatureBlock
from models.ranking.features.context import (
    NEVER_DAYS,
    PairContext,
    for_each_candidate,
    is_purchase,
    once,
    recent,
    sessions,
    totals,
)
from schema import names as F

_LATELY_DAYS = 90.0


def user_activity() -> FeatureBlock:
    """Events, sessions and ages of the history; each value is float32 [B]."""
    return FeatureBlock.stacked(
        [
            Feature("user_log_events", ACTIVITY, lambda pairs: _totals(pairs)[0]),
            Feature("user_log_events_45", ACTIVITY, lambda pairs: _totals(pairs)[recent(pairs.sources)]),
            Feature("user_log_sessions", ACTIVITY, lambda pairs: _sessions(pairs)[0]),
            Feature("user_log_sessions_45", ACTIVITY, lambda pairs: _sessions(pairs)[1]),
            Feature("user_log_last_age", ACTIVITY, _newest),
            Feature("user_log_span", ACTIVITY, _oldest),
            Feature("user_log_basket_90", ACTIVITY, lambda pairs: _lately(pairs)[0]),
            Feature("user_log_new_share_90", ACTIVITY, lambda pairs: _lately(pairs)[1]),
            Feature("user_log_visit_trend", ACTIVITY, _visit_trend),
        ],
        then=_for_each_candidate,
    )


@once
def _totals(pairs: PairContext) -> list[tf.Tensor]:
    return tf.unstack(totals(pairs), axis=-1)


@once
def _sessions(pairs: PairContext) -> list[tf.Tensor]:
    return tf.unstack(sessions(pairs), axis=-1)


# Both ages are bounded, so that padding (or a request with no place for events at all) changes nothing.


def _newest(pairs: PairContext) -> tf.Tensor:
    """float32 [B], age in days of the last event; `NEVER_DAYS` where there is none."""
    age = tf.where(is_purchase(pairs), pairs.request[F.HISTORY_AGE_DAYS], NEVER_DAYS)
    return tf.minimum(tf.reduce_min(age, 1), NEVER_DAYS)


def _oldest(pairs: PairContext) -> tf.Tensor:
    """float32 [B], age in days of the first event; 0 where there is none."""
    age = tf.where(is_purchase(pairs), pairs.request[F.HISTORY_AGE_DAYS], 0.0)
    return tf.maximum(tf.reduce_max(age, 1), 0.0)


@once
def _lately(pairs: PairContext) -> tuple[tf.Tensor, tf.Tensor]:
    """Of the last 90 days: float32 [B], events a session; and the share of events whose item the history
    has no earlier event of.
    """
    age = pairs.request[F.HISTORY_AGE_DAYS]
    recent = tf.cast(is_purchase(pairs) & (age <= _LATELY_DAYS), tf.float32)
    count = tf.reduce_sum(recent, 1)
    new = tf.reduce_sum(recent * tf.cast(age >= pairs.found.events["first"], tf.float32), 1)
    return count / tf.maximum(_sessions(pairs)[3], 1.0), new / tf.maximum(count, 1.0)


def _visit_trend(pairs: PairContext) -> tf.Tensor:
    """float32 [B]: sessions of the last 28 days over what those of the last 90 let expect."""
    *_, month, quarter = _sessions(pairs)
    return (month + 1) / (quarter * (28 / _LATELY_DAYS) + 1)


def _for_each_candidate(values: tf.Tensor, pairs: PairContext) -> tf.Tensor:
    """float32 [B, N, n]: log1p of the requests' values (float32 [B, n])."""
    return for_each_candidate(tf.math.log1p(values)[:, None], pairs)
