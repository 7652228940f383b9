"""The ranker: a deep and cross network over pair features.

DCN-v2: Wang et al., "DCN V2: Improved deep & cross network and practical lessons for
web-scale learning to rank systems", WWW 2021.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tensorflow_recommenders as tfrs

from models import features as F
from pipeline.config import Ranking

_CODE_DIM = 8


class RankingModel(tfrs.Model):
    """Probability that a candidate is bought within the label window.

    Args:
      code_sizes: category -> vocabulary size.
      config: layer sizes.

    A batch has `features` float32 [B, N, F], `codes` name -> int32 [B, N], and in training
    `label` float32 [B, N] (1 = bought), `weight` float32 [B, N] (0 for padding; the inverse
    of the probability with which the candidate was sampled, so that the probabilities are
    those of all candidates).
    """

    def __init__(self, code_sizes: Mapping[str, int], config: Ranking) -> None:
        super().__init__()
        self._normalise = tf.keras.layers.Normalization(name="normalise")
        self._embeddings = {
            name: tf.keras.layers.Embedding(size, _CODE_DIM, name=name) for name, size in code_sizes.items()
        }
        self._cross = [
            tfrs.layers.dcn.Cross(projection_dim=32, kernel_initializer="glorot_uniform", name=f"cross_{i}")
            for i in range(config.cross_layers)
        ]
        self._deep = tf.keras.Sequential(
            [tf.keras.layers.Dense(units, activation="relu") for units in config.hidden], name="deep"
        )
        self._head = tf.keras.layers.Dense(1, name=F.P_PURCHASE)
        self._list_weight = config.list_loss_weight
        self._task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.BinaryCrossentropy(from_logits=True, reduction=tf.keras.losses.Reduction.SUM)
        )

    def adapt(self, features: tf.Tensor) -> None:
        """Learns the features' mean and variance, float32 [rows, F]."""
        self._normalise.adapt(features)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Logits, float32 [B, N]."""
        dense = tf.clip_by_value(self._normalise(inputs["features"]), -5.0, 5.0)
        codes = inputs["codes"]
        joined = tf.concat([dense, *(layer(codes[name]) for name, layer in self._embeddings.items())], -1)
        shape = tf.shape(joined)
        flat = tf.reshape(joined, [-1, joined.shape[-1]])  # Cross takes matrices
        crossed = flat
        for layer in self._cross:
            crossed = layer(flat, crossed)
        logits = self._head(tf.concat([crossed, self._deep(flat, training=training)], -1))
        return tf.reshape(logits, shape[:2])

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Weighted cross-entropy, in nats a pair, plus a softmax over each list (scalar).

        The pointwise part calibrates, the listwise part orders (ListNet's top-one loss, Cao
        et al., ICML 2007).
        """
        logits = self(inputs, training=training)
        label, weight = inputs[F.LABEL], inputs["weight"]
        pointwise = self._task(
            labels=tf.reshape(label, [-1, 1]),
            predictions=tf.reshape(logits, [-1, 1]),
            sample_weight=tf.reshape(weight, [-1, 1]),
            compute_metrics=False,
        ) / tf.maximum(tf.reduce_sum(weight), 1.0)
        log_share = tf.nn.log_softmax(
            tf.where(weight > 0, logits + tf.math.log(tf.maximum(weight, 1e-6)), -1e9), 1
        )
        bought = tf.reduce_sum(label, 1)
        of_list = -tf.reduce_sum(label * tf.where(weight > 0, log_share, 0.0), 1) / tf.maximum(bought, 1.0)
        has = tf.cast(bought > 0, tf.float32)
        listwise = tf.reduce_sum(of_list * has) / tf.maximum(tf.reduce_sum(has), 1.0)
        return pointwise + self._list_weight * listwise
