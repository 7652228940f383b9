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

    A training batch has the query tower's inputs for B sessions and `target_row` int32
    [B, P], P targets drawn from each session (0 = none): the query side runs once a session.
    """

    def __init__(
        self,
        query_tower: QueryTower,
        item_tower: ItemTower,
        sampling_probability: np.ndarray,
        temperature: float,
    ) -> None:
        super().__init__()
        self.query_tower = query_tower
        self.item_tower = item_tower
        self._sampling_probability = tf.constant(sampling_probability, tf.float32)
        self._task = tfrs.tasks.Retrieval(temperature=temperature, remove_accidental_hits=True)
        self._mean_loss = tf.keras.metrics.Mean(MEAN_LOSS)

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Mean cross-entropy, in nats, of the targets among the batch's targets (scalar)."""
        target = inputs["target_row"]
        queries = self.query_tower(inputs, training=training)
        session = tf.cast(tf.where(target > 0), tf.int32)
        row = tf.gather_nd(target, session)
        loss = self._task(
            tf.gather(queries, session[:, 0]),
            self.item_tower(row, training=training),
            candidate_sampling_probability=tf.gather(self._sampling_probability, row),
            candidate_ids=row,
            compute_metrics=False,
            compute_batch_metrics=False,
        )
        # the task sums over the batch; a mean keeps the learning rate independent of its size
        loss /= tf.cast(tf.maximum(tf.size(row), 1), tf.float32)
        self._mean_loss.update_state(loss)
        return loss


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
