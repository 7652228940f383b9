"""The ranker's layers: how numbers enter it, and the experts that its heads share.

Piecewise-linear encoding: Gorishniy et al., "On embeddings for numerical features in tabular deep
learning", NeurIPS 2022. MMoE: Ma et al., "Modeling task relationships in multi-task learning with
multi-gate mixture-of-experts", KDD 2018.
"""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf

_BINS = 8
_TOGETHER = 16  # features that are encoded by one matrix product


class PiecewiseLinearEncoding(tf.keras.layers.Layer):
    """Each number as how far it has come through each of its quantile bins, projected.

    Feature j with edges b_0 < ... < b_T becomes T numbers, the t-th being
    clip((x - b_(t-1)) / (b_t - b_(t-1)), 0, 1). A skewed feature (most candidates were never
    bought) keeps its resolution where its values are, which standardising and clipping loses.
    A feature has as many bins as it has distinct quantiles, at most `bins`. The bins of some features
    at a time come from one matrix product and one `relu6`: several times faster than feature by
    feature, and also faster than all at once, where most of the product is with zeros.

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
        """6 times the encoding, float32 [R, K_g] for each group of features that has bins: what `relu6` cuts
        at 6.
        """
        parts = tf.split(values, [slope.shape[0] for slope in self._slope], 1)
        # features that are constant have no bins, and oneDNN ends the process at a product with no columns
        return [
            tf.nn.relu6(tf.nn.bias_add(tf.matmul(part, slope), offset))
            for part, slope, offset in zip(parts, self._slope, self._offset, strict=True)
            if offset.shape[0]
        ]

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Runs the layer; the class docstring has the arguments."""
        parts = self.encode(values)
        if not parts:
            return tf.zeros([tf.shape(values)[0], self._units]) + self._bias
        kernels = tf.split(self._kernel / 6, [part.shape[-1] for part in parts])
        products = [tf.matmul(part, kernel) for part, kernel in zip(parts, kernels, strict=True)]
        return tf.nn.bias_add(tf.add_n(products), self._bias)


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
