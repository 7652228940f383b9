"""The retrieval model: two towers trained with a sampled softmax over the batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.towers import ItemTower, QueryTower

MEAN_LOSS = "mean_loss"


class RetrievalModel(tfrs.Model):
    """Two towers and `tfrs.tasks.Retrieval` with the logQ correction.

    Args:
      query_tower: requests to vectors.
      item_tower: item rows to vectors.
      sampling_probability: float32 [V], the share of training targets that each item is: how
        often it turns up as an in-batch negative. Its logarithm is subtracted from the
        logits (Bengio and Senécal 2008; Yi et al., RecSys 2019), or popular items would be
        punished for being drawn often.
      temperature: divides the cosine similarities.
      known: int32 [K], the rows that uniform negatives are drawn from.
      hard_negatives: only so many negatives of the highest scores are learned from; all by default.

    A training batch has the query tower's inputs for B sessions and `target_row` int32
    [B, P], P targets drawn from each session (0 = none): the query side runs once a session. The
    negatives of a target are the batch's other targets and, if given, `negative_row` int32 [N],
    drawn uniformly (mixed negative sampling: Yang et al., WWW 2020), without the rows of
    `owned_row` int32 [B, O], which the session's user had at some time (0 = none).
    """

    def __init__(
        self,
        query_tower: QueryTower,
        item_tower: ItemTower,
        sampling_probability: np.ndarray,
        temperature: float,
        known: np.ndarray,
        hard_negatives: int | None = None,
    ) -> None:
        super().__init__()
        self.query_tower = query_tower
        self.item_tower = item_tower
        self._sampling_probability = tf.constant(sampling_probability, tf.float32)
        uniform = np.zeros(len(sampling_probability), np.float32)
        uniform[known] = 1 / max(len(known), 1)
        self._uniform_probability = tf.constant(uniform)
        self._task = tfrs.tasks.Retrieval(
            temperature=temperature, remove_accidental_hits=True, num_hard_negatives=hard_negatives
        )
        self._mean_loss = tf.keras.metrics.Mean(MEAN_LOSS)

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Mean cross-entropy, in nats, of the targets among the batch's targets (scalar)."""
        target = inputs["target_row"]
        queries = self.query_tower(inputs, training=training)
        session = tf.cast(tf.where(target > 0), tf.int32)
        row = tf.gather_nd(target, session)
        candidate = tf.concat([row, inputs["negative_row"]], 0) if "negative_row" in inputs else row
        # how often an item is among the candidates: the targets' draw and the uniform one together
        drawn = tf.cast(tf.size(row), tf.float32) * tf.gather(self._sampling_probability, candidate)
        uniform = tf.cast(tf.size(candidate) - tf.size(row), tf.float32)
        drawn += uniform * tf.gather(self._uniform_probability, candidate)
        allowed = None
        if "owned_row" in inputs:
            free = tf.gather(
                not_among(candidate, inputs["owned_row"], len(self._sampling_probability)), session[:, 0]
            )
            allowed = free | tf.eye(tf.size(row), tf.size(candidate), dtype=tf.bool)
        loss = self._task(
            tf.gather(queries, session[:, 0]),
            self.item_tower(candidate, training=training),
            candidate_sampling_probability=drawn / tf.cast(tf.maximum(tf.size(candidate), 1), tf.float32),
            candidate_ids=candidate,
            score_mask=allowed,
            compute_metrics=False,
            compute_batch_metrics=False,
        )
        # the task sums over the batch; a mean keeps the learning rate independent of its size
        loss /= tf.cast(tf.maximum(tf.size(row), 1), tf.float32)
        self._mean_loss.update_state(loss)
        return loss


def not_among(candidate: tf.Tensor, owned: tf.Tensor, rows: int) -> tf.Tensor:
    """Which candidates a session's user never had.

    Args:
      candidate: int32 [N], rows, some of them several times.
      owned: int32 [B, O], rows; 0 = none.
      rows: V.

    Returns:
      bool [B, N].
    """
    distinct, place = tf.unique(candidate)
    count = tf.size(distinct)
    # a row's place among the distinct candidates; `count` for the many that are none
    slot = tf.tensor_scatter_nd_update(tf.fill([rows], count), distinct[:, None], tf.range(count))
    slot = tf.where(owned > 0, tf.gather(slot, owned), count)
    batch = tf.shape(owned)[0]
    index = tf.stack([tf.repeat(tf.range(batch), tf.shape(owned)[1]), tf.reshape(slot, [-1])], 1)
    free = tf.tensor_scatter_nd_update(
        tf.ones([batch, count + 1], tf.bool), index, tf.zeros(tf.shape(index)[:1], tf.bool)
    )
    return tf.gather(free, place, axis=1)


def training_curves(history: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """The curves of a Keras history that say something.

    `tfrs.Model` logs the loss of an epoch's last batch, the regularisation loss (0 without
    regularisation) and their sum; the models here add the epoch's mean, which becomes `loss`.
    """
    dull = ("regularization_loss", "total_loss")
    last_batch = ("loss", "val_loss")
    kept = {
        name: values for name, values in history.items() if not name.endswith(dull) and name not in last_batch
    }
    return {name.replace(MEAN_LOSS, "loss"): values for name, values in kept.items()}
