"""The ranker: crosses and a mixture of experts over pair features, with one head a question.

DCN-v2: Wang et al., "DCN V2: Improved deep & cross network and practical lessons for
web-scale learning to rank systems", WWW 2021. MMoE: Ma et al., "Modeling task relationships in
multi-task learning with multi-gate mixture-of-experts", KDD 2018. Numbers enter
piecewise-linearly encoded: Gorishniy et al., "On embeddings for numerical features in tabular
deep learning", NeurIPS 2022.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.ranking.calibration import fit_platt
from models.retrieval.two_tower import MEAN_LOSS
from schema import names as F
from schema.config import Ranking

_CODE_DIM = 8
_BINS = 8
_TOGETHER = 16  # features that are encoded by one matrix product
_ENCODED_DIM = 64  # what is seen of the encoding
_CROSS_RANK = 32
_MOST_LOG_VALUE = 20.0  # a value of e^20: beyond it float32 overflows soon
PURCHASE, REPEAT, VALUE = "purchase", "repeat", "value"
TASKS = (PURCHASE, REPEAT, VALUE)


class PiecewiseLinearEncoding(tf.keras.layers.Layer):
    """Each number as how far it has come through each of its quantile bins, projected.

    Feature j with edges b_0 < ... < b_T becomes T numbers, the t-th being
    clip((x - b_(t-1)) / (b_t - b_(t-1)), 0, 1). A skewed feature (most candidates were never
    bought) keeps its resolution where its values are, which standardising and clipping loses.
    A feature has as many bins as it has distinct quantiles, at most `bins`. The bins of some features
    at a time come from one matrix product and one `relu6`: several times faster than feature by
    feature, and than all at once, where most of the product is with zeros.

    Args:
      features: F, how many numbers.
      units: D, the projection's width.
      bins: T, the most bins of a feature.

    Call arguments:
      values: float32 [R, F].

    Returns:
      float32 [R, D].
    """

    def __init__(self, features: int, units: int, bins: int = _BINS, **kwargs) -> None:
        super().__init__(**kwargs)
        self._features, self._units, self._bins = features, units, bins

    def adapt(self, values: np.ndarray) -> None:
        """Places the edges at quantiles of `values`, float32 [rows, F]."""
        quantiles = np.quantile(values, np.linspace(0, 1, 4 * self._bins + 1), axis=0).astype(np.float32)
        self._slope, self._offset = [], []
        for first in range(0, self._features, _TOGETHER):
            group = range(first, min(first + _TOGETHER, self._features))
            slope, offset = [], []
            for place, feature in enumerate(group):
                edges = np.unique(quantiles[:, feature])
                if len(edges) > self._bins + 1:
                    edges = edges[np.linspace(0, len(edges) - 1, self._bins + 1).round().astype(int)]
                width = np.diff(edges)
                slope.append(np.zeros((len(group), len(width)), np.float32))
                slope[-1][place] = 6 / width
                offset.append(-6 * edges[:-1] / width)
            for name, kept, parts in (("slope", self._slope, slope), ("offset", self._offset, offset)):
                kept.append(tf.Variable(np.concatenate(parts, -1), trainable=False, name=name))
        bins = sum(offset.shape[0] for offset in self._offset)
        self._kernel = self.add_weight("kernel", [bins, self._units])
        self._bias = self.add_weight("bias", [self._units], initializer="zeros")

    def encode(self, values: tf.Tensor) -> list[tf.Tensor]:
        """6 times the encoding, float32 [R, K_g] for each group of features: what `relu6` cuts at 6."""
        parts = tf.split(values, [slope.shape[0] for slope in self._slope], 1)
        return [
            tf.nn.relu6(tf.nn.bias_add(tf.matmul(part, slope), offset))
            for part, slope, offset in zip(parts, self._slope, self._offset, strict=True)
        ]

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Runs the layer; the class docstring has the arguments."""
        kernels = tf.split(self._kernel / 6, [offset.shape[0] for offset in self._offset])
        parts = zip(self.encode(values), kernels, strict=True)
        return tf.nn.bias_add(tf.add_n([tf.matmul(part, kernel) for part, kernel in parts]), self._bias)


class MixtureOfExperts(tf.keras.layers.Layer):
    """Experts that all tasks share, and for each task a gate that mixes them.

    Args:
      experts: E.
      hidden: units of each expert's layers.
      tasks: names.
      dropout: after each layer, when training.

    Call arguments:
      inputs: float32 [R, D].

    Returns:
      task -> float32 [R, hidden[-1]].
    """

    def __init__(
        self, experts: int, hidden: list[int], tasks: tuple[str, ...], dropout: float, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self._experts, self._units = experts, hidden
        self._dropout = tf.keras.layers.Dropout(dropout)
        self._gates = {
            task: tf.keras.layers.Dense(experts, activation="softmax", name=f"gate_{task}") for task in tasks
        }

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the weights: the first layer's [D, E, units], the others' [E, units, units]."""
        self._kernels, self._biases = [], []
        widths = [input_shape[-1], *self._units]
        for index, (width, units) in enumerate(itertools.pairwise(widths)):
            shape = [width, self._experts] if index == 0 else [self._experts, width]
            self._kernels.append(self.add_weight(f"expert_{index}/kernel", [*shape, units]))
            bias = self.add_weight(f"expert_{index}/bias", [self._experts, units], initializer="zeros")
            self._biases.append(bias)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Runs the layer; the class docstring has the arguments."""
        of_expert = [inputs] * self._experts
        # one product an expert: a batched one costs twice as much on a CPU
        for index, (kernels, biases) in enumerate(zip(self._kernels, self._biases, strict=True)):
            layers = zip(
                of_expert, tf.unstack(kernels, axis=1 if index == 0 else 0), tf.unstack(biases), strict=True
            )
            of_expert = [self._dropout(_relu_layer(*layer), training=training) for layer in layers]
        mixed = {}
        for task, gate in self._gates.items():
            shares = tf.split(gate(inputs), self._experts, 1)
            mixed[task] = tf.add_n([part * share for part, share in zip(of_expert, shares, strict=True)])
        return mixed


def _relu_layer(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(tf.nn.bias_add(tf.matmul(inputs, kernel), bias))


class RankingModel(tfrs.Model):
    """What a candidate's features say of its purchase within the label window.

    Three heads: whether it is bought; of what is bought, whether again (in two or more sessions)
    and for how much. The last two learn from purchases only, so that p_repeat = p_purchase x
    p(again | bought) never exceeds p_purchase, and likewise the expected value.

    Args:
      features: F, how many numbers describe a pair.
      code_sizes: category -> vocabulary size.
      config: layer sizes and the losses' weights.
      of_item: S, how many of the numbers, the first ones, are the item's alone. What is computed of
        those and of the categories is the same for every request: a server looks it up.

    A batch has `features` float32 [B, N, F], `codes` name -> int32 [B, N], and in training the
    labels of CandidateSampler and `weight`, float32 [B, N] (0 for padding; the inverse of the
    probability with which the candidate was sampled, so that the probabilities are those of
    all candidates).
    """

    def __init__(
        self, features: int, code_sizes: Mapping[str, int], config: Ranking, of_item: int = 0
    ) -> None:
        super().__init__()
        self._config = config
        # the numbers of the item, then those of the pair
        self._widths = [of_item, features - of_item]
        self._encode = [
            PiecewiseLinearEncoding(width, _ENCODED_DIM, name=f"encode_{whose}")
            for whose, width in zip(("item", "pair"), self._widths, strict=True)
        ]
        self._normalise = [tf.keras.layers.Normalization(name=f"normalise_{i}") for i in range(2)]
        self._embeddings = {
            name: tf.keras.layers.Embedding(size, _CODE_DIM, name=name) for name, size in code_sizes.items()
        }
        self._cross = [
            tfrs.layers.dcn.Cross(projection_dim=_CROSS_RANK, name=f"cross_{i}")
            for i in range(config.cross_layers)
        ]
        self._experts = MixtureOfExperts(config.experts, config.hidden, TASKS, config.dropout, name="experts")
        self._heads = {task: tf.keras.layers.Dense(1, name=task) for task in TASKS}
        seen = features + _ENCODED_DIM + _CODE_DIM * len(code_sizes) + config.hidden[-1]
        for task, head in self._heads.items():
            with tf.name_scope(task):
                head.build([None, seen])
        # slope and offset of the logits; of `value`, what a mean of logarithms falls short of
        self._calibration = {
            task: tf.Variable([1.0, 0.0], trainable=False, name=f"calibration_{task}")
            for task in (PURCHASE, REPEAT)
        }
        self._smearing = tf.Variable(1.0, trainable=False, name="smearing")
        self._mean_loss = tf.keras.metrics.Mean(MEAN_LOSS)
        self._task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.BinaryCrossentropy(from_logits=True, reduction=tf.keras.losses.Reduction.SUM)
        )

    def adapt(self, features: np.ndarray, bought: np.ndarray) -> None:
        """Learns the features' mean, variance and quantiles.

        Half of what the quantiles are of was bought: one row in twenty is, but those are what stands
        high in a list, where the order counts and the bins have to be narrow.

        Args:
          features: float32 [rows, F], drawn at random.
          bought: bool [rows].
        """
        half = (len(features) + 1) // 2
        purchases = np.flatnonzero(bought)
        known = (
            np.concatenate([np.arange(half), np.resize(purchases, half)]) if len(purchases) else slice(None)
        )
        parts = np.split(features, [self._widths[0]], 1)
        for part, normalise, encode in zip(parts, self._normalise, self._encode, strict=True):
            if part.shape[1]:
                normalise.adapt(tf.constant(part))
                encode.adapt(part[known])

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> dict[str, tf.Tensor]:
        """What the heads say, float32 [B, N] each: `purchase` and `repeat` logits, `value` in log1p."""
        features = inputs["features"]
        shape = tf.shape(features)
        flat = tf.reshape(features, [-1, features.shape[-1]])  # Cross takes matrices
        of_item, of_pair = tf.split(flat, self._widths, 1)
        codes = {name: tf.reshape(code, [-1]) for name, code in inputs["codes"].items()}
        found = self._answers(of_pair, *self.item_parts(of_item, codes), training)
        return {task: tf.reshape(answer, shape[:2]) for task, answer in found.items()}

    def item_parts(self, features: tf.Tensor, codes: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """What is the same in every request.

        Args:
          features: float32 [R, S], the items' numbers.
          codes: category -> int32 [R].

        Returns:
          float32 [R, S + P]: normalised numbers and the categories' embeddings; float32 [R, Q]: the
          numbers' encoding.
        """
        numbers, encoded = self._numbers(features, 0)
        embedded = [layer(codes[name]) for name, layer in self._embeddings.items()]
        return tf.concat([numbers, *embedded], -1), encoded

    def _numbers(self, values: tf.Tensor, whose: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Numbers of the item (0) or the pair (1), normalised, and their encoding."""
        if not self._widths[whose]:
            return values, tf.zeros([tf.shape(values)[0], _ENCODED_DIM])
        return tf.clip_by_value(self._normalise[whose](values), -5.0, 5.0), self._encode[whose](values)

    def _answers(
        self, of_pair: tf.Tensor, of_item: tf.Tensor, encoded: tf.Tensor, training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """What the heads say, float32 [R, 1], of pairs' numbers [R, F - S] and both `item_parts`."""
        pair, pair_encoded = self._numbers(of_pair, 1)
        joined = tf.concat([of_item, pair, encoded + pair_encoded], -1)
        crossed = joined
        for layer in self._cross:
            crossed = layer(joined, crossed)
        mixed = self._experts(joined, training=training)
        found = {}
        for task, head in self._heads.items():
            # as of one row of both, which would have to be copied together
            parts = tf.split(head.kernel, [joined.shape[-1], mixed[task].shape[-1]])
            logits = tf.matmul(crossed, parts[0]) + tf.matmul(mixed[task], parts[1])
            found[task] = tf.nn.bias_add(logits, head.bias)
        return found

    def calibrate(self, batches: Iterable[Mapping[str, tf.Tensor]]) -> None:
        """Fits the heads' calibration to held-out batches, weighted to stand for all candidates.

        Probabilities by Platt scaling; the value, whose logarithm is learned, by the smearing
        estimate: the mean of value / expm1(prediction) (Duan, JASA 1983), here a ratio of totals.
        """
        rows: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        for inputs in batches:
            found = {name: logits.numpy() for name, logits in self(inputs).items()}
            real = inputs["weight"].numpy() > 0
            for name, values in found.items():
                rows[name].append(values[real])
            for name in ("weight", F.LABEL, F.LABEL_REPEAT, F.LABEL_VALUE):
                rows[name].append(inputs[name].numpy()[real])
        column = {name: np.concatenate(values).astype(np.float64) for name, values in rows.items()}
        weight, label = column["weight"], column[F.LABEL]
        self._calibration[PURCHASE].assign(fit_platt(column[PURCHASE], label, weight))
        self._calibration[REPEAT].assign(fit_platt(column[REPEAT], column[F.LABEL_REPEAT], weight * label))
        bought = weight * label
        said = np.sum(bought * np.expm1(np.clip(column[VALUE], 0, _MOST_LOG_VALUE)))
        if said > 0:
            self._smearing.assign(np.sum(bought * column[F.LABEL_VALUE]) / said)

    def score(self, features: tf.Tensor, codes: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Calibrated logit of a purchase, float32 [B, N]."""
        return self._calibrated(self({"features": features, "codes": codes}, training=False), PURCHASE)

    def score_with(self, of_pair: tf.Tensor, of_item: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
        """`score`, float32 [B, N], of pairs' numbers alone, float32 [B, N, F - S], and the
        candidates' `item_parts`, float32 [B, N, S + P] and [B, N, Q].
        """
        flat = [tf.reshape(values, [-1, values.shape[-1]]) for values in (of_pair, of_item, encoded)]
        return tf.reshape(self._calibrated(self._answers(*flat), PURCHASE), tf.shape(of_pair)[:2])

    def predict_heads(self, features: tf.Tensor, codes: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """All heads, calibrated, float32 [B, N].

        Returns:
          `p_purchase`: probability that the item is bought within the label window; `p_repeat`:
          that it is bought in two or more sessions; `expected_value`: what is expected to be spent
          on it, in the currency of the events' value.
        """
        found = self({"features": features, "codes": codes}, training=False)
        purchase = tf.sigmoid(self._calibrated(found, PURCHASE))
        value = tf.math.expm1(tf.clip_by_value(found[VALUE], 0.0, _MOST_LOG_VALUE)) * self._smearing
        return {
            F.P_PURCHASE: purchase,
            F.P_REPEAT: purchase * tf.sigmoid(self._calibrated(found, REPEAT)),
            F.EXPECTED_VALUE: purchase * value,
        }

    def _calibrated(self, found: Mapping[str, tf.Tensor], task: str) -> tf.Tensor:
        slope, offset = tf.unstack(self._calibration[task])
        return slope * found[task] + offset

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The heads' losses, weighted as configured (scalar)."""
        config, found = self._config, self(inputs, training=training)
        logits, label, weight = found[PURCHASE], inputs[F.LABEL], inputs["weight"]
        loss = self._cross_entropy(logits, label, weight)
        loss += config.list_loss_weight * listwise_loss(logits, label, weight)
        if config.pair_loss_weight:
            loss += config.pair_loss_weight * pairwise_loss(logits, label, weight)
        bought = weight * label
        loss += config.repeat_loss_weight * self._cross_entropy(found[REPEAT], inputs[F.LABEL_REPEAT], bought)
        error = tf.square(found[VALUE] - tf.math.log1p(tf.maximum(inputs[F.LABEL_VALUE], 0.0)))
        loss += (
            config.value_loss_weight * tf.reduce_sum(bought * error) / tf.maximum(tf.reduce_sum(bought), 1.0)
        )
        self._mean_loss.update_state(loss)
        return loss

    def _cross_entropy(self, logits: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """Weighted mean, in nats a pair."""
        return self._task(
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


def estimated_ndcg(logits: np.ndarray, label: np.ndarray, weight: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of each full list, estimated from its sample.

    Args:
      logits, label, weight: float32 [B, N]; a candidate that stands for w candidates takes w
        places.
      k: the cut-off.

    Returns:
      float64 [B]; NaN for a list without a purchase.
    """
    order = np.argsort(-np.where(weight > 0, logits, -np.inf), 1, kind="stable")
    weight, label = (np.take_along_axis(values, order, 1).astype(np.float64) for values in (weight, label))
    rank = np.cumsum(weight, 1) - weight + 1
    gain = np.where(rank <= k, 1 / np.log2(1 + rank), 0.0)
    count = np.rint((label * weight).sum(1)).astype(int)
    ideal = np.append(0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))[np.minimum(count, k)]
    with np.errstate(invalid="ignore"):
        return (gain * label * weight).sum(1) / np.where(count > 0, ideal, np.nan)
