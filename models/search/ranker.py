"""The order of found items: a small network on features of the pair, and of the user."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from models.data import arrays
from models.data.frozen import frozen_table

_LARGEST = 5.0  # normalised features are cut off here
_SEED = 17


class SearchRanker(tf.Module):
    """Scores (query, candidate) pairs; trained with `tf.GradientTape` on `trainable_variables`.

    A linear model of the normalised features plus a network of one hidden layer, whose output starts at 0.
    Before training it ranks by the reciprocal ranks of the sources (`fused`), which needs no data.

    Args:
      features: names of the Q features (`Searcher.feature_names`).
      personal: names of the P personal features; () for a shop without events.
      hidden: width of the hidden layer; 0 is a linear model.
    """

    def __init__(self, features: Iterable[str], personal: Iterable[str] = (), hidden: int = 16) -> None:
        super().__init__(name="search_ranker")
        self.features, self.personal = tuple(features), tuple(personal)
        width = len(self.features) + len(self.personal)
        linear = np.zeros((width, 1), np.float32)
        if "fused" in self.features:
            linear[self.features.index("fused")] = 1.0
        self._mean = frozen_table(np.zeros(width), tf.float32, "mean")
        self._deviation = frozen_table(np.ones(width), tf.float32, "deviation")
        self._linear = tf.Variable(linear, name="linear")
        self._hidden = None
        if hidden:
            start = np.random.default_rng(_SEED).normal(0, width**-0.5, (width, hidden))
            self._hidden = tf.Variable(start, dtype=tf.float32, name="hidden")
            self._offset = tf.Variable(np.zeros(hidden), dtype=tf.float32, name="offset")
            self._output = tf.Variable(np.zeros((hidden, 1)), dtype=tf.float32, name="output")

    def adapt(self, features: np.ndarray, personal: np.ndarray | None = None) -> None:
        """Learns mean and deviation of the features; the order before training stays the same.

        Args:
          features: float32 [rows, Q], of valid pairs.
          personal: float32 [rows, P].
        """
        rows = features if personal is None else np.concatenate([features, personal], 1)
        self._mean.assign(rows.mean(0))
        self._deviation.assign(np.maximum(rows.std(0), 1e-3))

    @tf.Module.with_name_scope
    def score(self, features: tf.Tensor, personal: tf.Tensor | None = None) -> tf.Tensor:
        """float32 [B, N], learned relevance of pairs.

        Args:
          features: float32 [B, N, Q].
          personal: float32 [B, N, P]; None where P is 0.
        """
        rows = features if personal is None else tf.concat([features, personal], -1)
        rows = tf.where(tf.math.is_finite(rows), rows, 0.0)
        rows = tf.clip_by_value((rows - self._mean) / self._deviation, -_LARGEST, _LARGEST)
        score = tf.tensordot(rows, self._linear, 1)
        if self._hidden is not None:
            inner = tf.nn.relu(tf.tensordot(rows, self._hidden, 1) + self._offset)
            score += tf.tensordot(inner, self._output, 1)
        return score[..., 0]

    @tf.Module.with_name_scope
    def order(self, score: tf.Tensor, exact: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        """float32 [B, N]: `score` squeezed into (0, 1), plus 1 where `exact`, -1 where not valid.

        So an item that the query names exactly comes first whoever asks, whatever was learned.
        """
        # strictly below 1, also where the sigmoid of a large score rounds up; of scores, not of ranks:
        # equal ones stay equal
        squeezed = 0.5 + 0.499 * score / (1 + tf.abs(score))
        return tf.where(valid, squeezed + tf.cast(exact, tf.float32), -1.0)

    def save(self, path: str) -> None:
        """Writes names and weights as one .npz file."""
        weights = {
            variable.name.split(":")[0].split("/")[-1]: variable.numpy() for variable in self.variables
        }
        names = {"features": np.asarray(self.features), "personal": np.asarray(self.personal, "U")}
        arrays.save(path, weights | names)

    @classmethod
    def load(cls, path: str) -> SearchRanker:
        """Reads what :meth:`save` wrote."""
        content = arrays.load(path)
        hidden = content["hidden"].shape[1] if "hidden" in content else 0
        ranker = cls(content["features"].tolist(), content["personal"].tolist(), hidden)
        for variable in ranker.variables:
            variable.assign(content[variable.name.split(":")[0].split("/")[-1]])
        return ranker
