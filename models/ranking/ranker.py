"""The ranker: crosses and a mixture of experts over pair features, with one head a question.

DCN-v2: Wang et al., "DCN V2: Improved deep & cross network and practical lessons for
web-scale learning to rank systems", WWW 2021. Its layers are in `models.ranking.layers`, its losses
in `models.ranking.losses`.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.ranking.calibration import fit_platt
from models.ranking.layers import MixtureOfExperts, PiecewiseLinearEncoding
from models.ranking.losses import PURCHASE, REPEAT, TASKS, VALUE, multi_task_loss
from models.ranking.trees import TreeEnsemble, grow
from models.retrieval.two_tower import MEAN_LOSS
from schema import names as F
from schema.config import Ranking

_CODE_DIM = 8
_ENCODED_DIM = 64  # width of the projected encoding
_CROSS_RANK = 32
_GROWN_AT_ONCE = 65_536
_MOST_LOG_VALUE = 20.0  # a value of e^20: beyond it float32 overflows soon


class RankingModel(tfrs.Model):
    """What a candidate's features say of its purchase within the label window.

    Three heads: whether it is bought; of what is bought, whether again (in two or more sessions)
    and for how much. The last two learn from purchases only, so that p_repeat = p_purchase x
    p(again | bought) never exceeds p_purchase, and likewise the expected value.

    Args:
      features: F, how many numbers describe a pair.
      code_sizes: category -> vocabulary size.
      config: layer sizes and the losses' weights.
      of_item: S, how many of the numbers, the first ones, are the item's alone. What is computed from
        those and from the categories is the same for every request, so a server looks it up.

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
        self._trees: TreeEnsemble | None = None
        self._mean_loss = tf.keras.metrics.Mean(MEAN_LOSS)
        self._task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.BinaryCrossentropy(from_logits=True, reduction=tf.keras.losses.Reduction.SUM)
        )

    def adapt(self, features: np.ndarray, bought: np.ndarray) -> None:
        """Learns the features' mean, variance and quantiles.

        Quantiles are taken over a 50/50 mix of purchases and random rows. Of all rows one in twenty
        was bought, but those stand high in a list, where the order counts and bins have to be narrow.

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

    def grow_trees(self, features: np.ndarray, bought: np.ndarray, weight: np.ndarray) -> None:
        """Adds trees to the trained network; whoever has traced a function of it has to do so again.

        Args:
          features: float32 [rows, F].
          bought: bool [rows].
          weight: float32 [rows].
        """
        numbers = np.empty_like(features)
        for start in range(0, len(features), _GROWN_AT_ONCE):
            part = tf.constant(features[start : start + _GROWN_AT_ONCE])
            of_item, of_pair = tf.split(part, self._widths, 1)
            numbers[start : start + _GROWN_AT_ONCE] = self._tree_input(self._normalised(of_item, 0), of_pair)
        self._trees = grow(numbers, bought, weight, self._config)

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
        return self._normalised(values, whose), self._encode[whose](values)

    def _normalised(self, values: tf.Tensor, whose: int) -> tf.Tensor:
        if not self._widths[whose]:
            return values
        return tf.clip_by_value(self._normalise[whose](values), -5.0, 5.0)

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
            # equals one product with both parts in a row, without copying them together
            parts = tf.split(head.kernel, [joined.shape[-1], mixed[task].shape[-1]])
            logits = tf.matmul(crossed, parts[0]) + tf.matmul(mixed[task], parts[1])
            found[task] = tf.nn.bias_add(logits, head.bias)
        if self._trees is not None:
            found[PURCHASE] += self._trees(self._tree_input(of_item, of_pair))
        return found

    def _tree_input(self, of_item: tf.Tensor, of_pair: tf.Tensor) -> tf.Tensor:
        """float32 [R, F]: the items' numbers as `item_parts` begins with them, and the pairs' as they are.

        What the network reads is cut off at five standard deviations, above which half of what a user buys
        again and again would be one number to a tree.
        """
        return tf.concat([of_item[:, : self._widths[0]], of_pair], 1)

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
        loss = multi_task_loss(self(inputs, training=training), inputs, self._config, self._task)
        self._mean_loss.update_state(loss)
        return loss
