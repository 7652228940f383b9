"""The ranker: a deep and cross network over pair features.

DCN-v2: Wang et al., "DCN V2: Improved deep & cross network and practical lessons for
web-scale learning to rank systems", WWW 2021. Numbers enter piecewise-linearly encoded:
Gorishniy et al., "On embeddings for numerical features in tabular deep learning", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models import features as F
from models.retrieval import MEAN_LOSS
from pipeline.config import Ranking

_CODE_DIM = 8
_BINS = 16
_ENCODED_DIM = 64  # what the cross network sees of the encoding
_NOWHERE = 1e9  # lower edge of a bin that no value reaches


class PiecewiseLinearEncoding(tf.keras.layers.Layer):
    """Each number as how far it has come through each of its quantile bins.

    Feature j with edges b_0 < ... < b_T becomes T numbers, the t-th being
    clip((x - b_(t-1)) / (b_t - b_(t-1)), 0, 1). A skewed feature (most candidates were never
    bought) keeps its resolution where its values are, which standardising and clipping loses.

    Args:
      features: F, how many numbers.
      bins: T; a feature with fewer distinct quantiles leaves the rest at 0.

    Call arguments:
      values: float32 [R, F].

    Returns:
      float32 [R, F * T].
    """

    def __init__(self, features: int, bins: int = _BINS, **kwargs) -> None:
        super().__init__(**kwargs)
        self._bins = bins
        shape = [features, bins]
        self._lower = self.add_weight("lower", shape, trainable=False, initializer="zeros")
        self._width = self.add_weight("width", shape, trainable=False, initializer="ones")

    def adapt(self, values: np.ndarray) -> None:
        """Places the edges at quantiles of `values`, float32 [rows, F]."""
        quantiles = np.quantile(values, np.linspace(0, 1, 4 * self._bins + 1), axis=0)
        lower = np.full(self._lower.shape, _NOWHERE, np.float32)
        width = np.ones(self._width.shape, np.float32)
        for feature in range(values.shape[1]):
            edges = np.unique(quantiles[:, feature].astype(np.float32))
            if len(edges) > self._bins + 1:
                edges = edges[np.linspace(0, len(edges) - 1, self._bins + 1).round().astype(int)]
            lower[feature, : len(edges) - 1] = edges[:-1]
            width[feature, : len(edges) - 1] = np.diff(edges)
        self._lower.assign(lower)
        self._width.assign(width)

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Runs the layer; the class docstring has the arguments."""
        encoded = tf.clip_by_value((values[:, :, None] - self._lower) / self._width, 0.0, 1.0)
        return tf.reshape(encoded, [-1, self._lower.shape[0] * self._bins])


class RankingModel(tfrs.Model):
    """Probability that a candidate is bought within the label window.

    Args:
      features: F, how many numbers describe a pair.
      code_sizes: category -> vocabulary size.
      config: layer sizes.

    A batch has `features` float32 [B, N, F], `codes` name -> int32 [B, N], and in training
    `label` float32 [B, N] (1 = bought), `weight` float32 [B, N] (0 for padding; the inverse
    of the probability with which the candidate was sampled, so that the probabilities are
    those of all candidates).
    """

    def __init__(self, features: int, code_sizes: Mapping[str, int], config: Ranking) -> None:
        super().__init__()
        self._encode = PiecewiseLinearEncoding(features, name="encode")
        self._project = tf.keras.layers.Dense(_ENCODED_DIM, name="project")
        self._normalise = tf.keras.layers.Normalization(name="normalise")
        self._embeddings = {
            name: tf.keras.layers.Embedding(size, _CODE_DIM, name=name) for name, size in code_sizes.items()
        }
        self._cross = [
            tfrs.layers.dcn.Cross(projection_dim=32, name=f"cross_{i}") for i in range(config.cross_layers)
        ]
        self._deep = tf.keras.Sequential(name="deep")
        for units in config.hidden:
            self._deep.add(tf.keras.layers.Dense(units, activation="relu"))
            self._deep.add(tf.keras.layers.Dropout(config.dropout))
        self._head = tf.keras.layers.Dense(1, name=F.P_PURCHASE)
        self._list_weight = config.list_loss_weight
        self._mean_loss = tf.keras.metrics.Mean(MEAN_LOSS)
        self._task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.BinaryCrossentropy(from_logits=True, reduction=tf.keras.losses.Reduction.SUM)
        )

    def adapt(self, features: tf.Tensor) -> None:
        """Learns the features' mean, variance and quantiles, float32 [rows, F]."""
        self._normalise.adapt(features)
        self._encode.adapt(np.asarray(features))

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Logits, float32 [B, N]."""
        features, codes = inputs["features"], inputs["codes"]
        shape = tf.shape(features)
        flat = tf.reshape(features, [-1, features.shape[-1]])  # Cross takes matrices
        encoded = self._encode(flat)
        embedded = [
            tf.reshape(layer(codes[name]), [-1, _CODE_DIM]) for name, layer in self._embeddings.items()
        ]
        normal = tf.clip_by_value(self._normalise(flat), -5.0, 5.0)
        joined = tf.concat([normal, self._project(encoded), *embedded], -1)
        crossed = joined
        for layer in self._cross:
            crossed = layer(joined, crossed)
        deep = self._deep(tf.concat([encoded, *embedded], -1), training=training)
        return tf.reshape(self._head(tf.concat([crossed, deep], -1)), shape[:2])

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
        loss = pointwise + self._list_weight * listwise
        self._mean_loss.update_state(loss)
        return loss
