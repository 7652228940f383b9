"""What the ranker minimises: a loss for each head, and for the order of each list."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from schema import names as F
from schema.config import Ranking

# The questions that the ranker's heads answer.
PURCHASE, REPEAT, VALUE = "purchase", "repeat", "value"
TASKS = (PURCHASE, REPEAT, VALUE)


def multi_task_loss(
    found: Mapping[str, tf.Tensor], inputs: Mapping[str, tf.Tensor], config: Ranking, task: tfrs.tasks.Ranking
) -> tf.Tensor:
    """All heads' losses, weighted as configured.

    Args:
      found: what the heads say by task, float32 [B, N] each: logits of `purchase` and `repeat`,
        log1p of `value`.
      inputs: the labels of CandidateSampler and `weight`, float32 [B, N] each.
      config: the losses' weights; the cross-entropy of purchases has weight 1.
      task: the binary cross-entropy of logits, summed.

    Returns:
      The loss (scalar).
    """
    logits, label, weight = found[PURCHASE], inputs[F.LABEL], inputs["weight"]
    loss = cross_entropy(logits, label, weight, task)
    loss += config.list_loss_weight * listwise_loss(logits, label, weight)
    if config.pair_loss_weight:
        loss += config.pair_loss_weight * pairwise_loss(logits, label, weight)
    # the other heads learn from purchases only
    bought = weight * label
    loss += config.repeat_loss_weight * cross_entropy(found[REPEAT], inputs[F.LABEL_REPEAT], bought, task)
    error = tf.square(found[VALUE] - tf.math.log1p(tf.maximum(inputs[F.LABEL_VALUE], 0.0)))
    loss += config.value_loss_weight * tf.reduce_sum(bought * error) / tf.maximum(tf.reduce_sum(bought), 1.0)
    return loss


def cross_entropy(
    logits: tf.Tensor, label: tf.Tensor, weight: tf.Tensor, task: tfrs.tasks.Ranking
) -> tf.Tensor:
    """Weighted mean over the pairs, in nats (scalar).

    Args:
      logits, label, weight: float32 [B, N].
      task: the binary cross-entropy of logits, summed.
    """
    return task(
        labels=tf.reshape(label, [-1, 1]),
        predictions=tf.reshape(logits, [-1, 1]),
        sample_weight=tf.reshape(weight, [-1, 1]),
        compute_metrics=False,
    ) / tf.maximum(tf.reduce_sum(weight), 1.0)


def listwise_loss(logits: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """A softmax over each list: ListNet's top-one loss (Cao et al., ICML 2007).

    Args:
      logits, label, weight: float32 [B, N]; a candidate that stands for w candidates counts w
        times in the softmax.

    Returns:
      Mean over the lists with a purchase of the mean over purchases, in nats.
    """
    log_share = tf.nn.log_softmax(
        tf.where(weight > 0, logits + tf.math.log(tf.maximum(weight, 1e-6)), -1e9), 1
    )
    # one purchase is one vote, also where not all purchases fitted into the list
    of_one = log_share - tf.math.log(tf.maximum(weight, 1e-6))
    bought = tf.reduce_sum(label * weight, 1)
    of_list = -tf.reduce_sum(label * weight * tf.where(weight > 0, of_one, 0.0), 1) / tf.maximum(bought, 1.0)
    has = tf.cast(bought > 0, tf.float32)
    return tf.reduce_sum(of_list * has) / tf.maximum(tf.reduce_sum(has), 1.0)


def pairwise_loss(logits: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Logistic loss of (bought, passed over) pairs, each weighted by what a swap costs in NDCG.

    RankNet's loss with LambdaRank's weights, in the form of Wang et al., "The LambdaLoss
    framework for ranking metric optimization", CIKM 2018. Ranks are those of the full list:
    a sampled candidate that stands for w candidates takes w places.

    Args:
      logits, label, weight: float32 [B, N].

    Returns:
      Mean over the lists with a purchase (scalar).
    """
    fixed = tf.stop_gradient(logits)
    above = tf.cast(fixed[:, None] > fixed[:, :, None], tf.float32)  # [B, i, j]: j above i
    rank = 1 + tf.einsum("bij,bj->bi", above, weight)
    discount = np.log(2.0) / tf.math.log1p(rank)
    count = tf.reduce_sum(label * weight, 1)
    places = tf.range(1, tf.shape(label)[1] + 1, dtype=tf.float32)
    ideal = tf.reduce_sum(tf.where(places <= count[:, None], np.log(2.0) / tf.math.log1p(places), 0.0), 1)
    cost = tf.abs(discount[:, :, None] - discount[:, None]) / tf.maximum(ideal, 1e-6)[:, None, None]
    pair = (label * weight)[:, :, None] * ((1 - label) * weight)[:, None]
    loss = tf.reduce_sum(pair * cost * tf.nn.softplus(logits[:, None] - logits[:, :, None]), [1, 2])
    has = tf.cast(count > 0, tf.float32)
    return tf.reduce_sum(loss * has) / tf.maximum(tf.reduce_sum(has), 1.0)
