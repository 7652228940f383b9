"""A BERT layer without dropout in few matrix products: the values of KerasHub's layer in half its time.

KerasHub computes a layer with `einsum` on [N, L, ...] tensors. Here all places are rows of one matrix,
so that TensorFlow's kernels fuse products with biases and activations, query, key and value are one
product, and what is not a product (sums, normalisation) is float32, which the processor adds without
conversions. Vaswani et al., "Attention is all you need", NeurIPS 2017; post-normalised as in BERT.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

_NEVER = -1e9


@dataclasses.dataclass(frozen=True)
class LayerForm:
    """What a layer is, besides its weights.

    Attributes:
      heads: of the attention.
      epsilons: of the two normalisations.
      activation: of the inner dense layer.
    """

    heads: int
    epsilons: tuple[float, float]
    activation: Callable[[tf.Tensor], tf.Tensor]

    @classmethod
    def of(cls, layer: keras.layers.Layer) -> LayerForm:
        """The form of a built `keras_hub.layers.TransformerEncoder`."""
        norms = layer._self_attention_layer_norm, layer._feedforward_layer_norm
        return cls(
            heads=layer._self_attention_layer._num_heads,
            epsilons=(norms[0].epsilon, norms[1].epsilon),
            activation=layer._feedforward_intermediate_dense.activation,
        )


def weights_of(layer: keras.layers.Layer) -> dict[str, tf.Tensor]:
    """A layer's weights as :func:`run` reads them; low-rank updates of its kernels count.

    Returns:
      kernels [in, out] and biases [out] in the layer's compute type: `attention` (query, key and value
      next to each other), `mixed`, `inner`, `outer`, each also with `_bias`; and float32 [dim]:
      `first_gain`, `first_shift`, `second_gain`, `second_shift` of the normalisations.
    """
    attention = layer._self_attention_layer
    dtype, dim = attention.compute_dtype, layer._feedforward_output_dense.bias.shape[0]
    parts = [attention._query_dense, attention._key_dense, attention._value_dense]
    weights = {
        "attention": tf.concat([_kernel(part, dim, dtype) for part in parts], 1),
        "attention_bias": tf.concat([_bias(part, dtype) for part in parts], 0),
    }
    for name, part in (
        ("mixed", attention._output_dense),
        ("inner", layer._feedforward_intermediate_dense),
        ("outer", layer._feedforward_output_dense),
    ):
        bias = _bias(part, dtype)
        weights |= {name: _kernel(part, None, dtype, bias.shape[0]), f"{name}_bias": bias}
    for name, norm in (
        ("first", layer._self_attention_layer_norm),
        ("second", layer._feedforward_layer_norm),
    ):
        weights |= {f"{name}_gain": _value(norm.gamma, "float32")}
        weights |= {f"{name}_shift": _value(norm.beta, "float32")}
    return weights


def apply(layer: keras.layers.Layer, hidden: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """The output of a `keras_hub.layers.TransformerEncoder` outside of training.

    Args:
      layer: built, of a `BertBackbone`; low-rank updates of its kernels count.
      hidden: [N, L, dim] in any float type.
      real: bool [N, L], False for padding, to which nothing attends.

    Returns:
      float32 [N, L, dim].
    """
    return run(LayerForm.of(layer), weights_of(layer), hidden, real)


def run(form: LayerForm, weights: Mapping[str, tf.Tensor], hidden: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """:func:`apply` of a layer's form and its weights (from :func:`weights_of`)."""
    dtype = weights["attention"].dtype
    size, dim = tf.unstack(tf.shape(hidden))[:2], hidden.shape[-1]
    rows = tf.reshape(tf.cast(hidden, tf.float32), [-1, dim])
    attended = _attend(form, weights, tf.cast(rows, dtype), size, real)
    rows = normalise(rows + tf.cast(attended, tf.float32), *_norm(weights, "first"), form.epsilons[0])
    found = form.activation(_dense(weights, "inner", tf.cast(rows, dtype)))
    found = tf.cast(_dense(weights, "outer", found), tf.float32)
    rows = normalise(rows + found, *_norm(weights, "second"), form.epsilons[1])
    return tf.reshape(rows, [*size, dim])


def normalise(rows: tf.Tensor, gain: tf.Tensor, shift: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Layer normalisation of float32 [N, dim], with gain and shift (float32 [dim])."""
    mean, variance = tf.nn.moments(rows, [-1], keepdims=True)
    return (rows - mean) * (tf.math.rsqrt(variance + epsilon) * gain) + shift


def _attend(
    form: LayerForm,
    weights: Mapping[str, tf.Tensor],
    rows: tf.Tensor,
    size: list[tf.Tensor],
    real: tf.Tensor,
) -> tf.Tensor:
    """Self-attention's output, [N * L, dim], of rows [N * L, dim] in the compute type."""
    projected = _dense(weights, "attention", rows)
    width = projected.shape[-1] // (3 * form.heads)
    by_head = tf.transpose(tf.reshape(projected, [*size, 3, form.heads, width]), [2, 0, 3, 1, 4])
    query, key, value = tf.unstack(by_head)
    score = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) * width**-0.5
    score += tf.where(real, 0.0, _NEVER)[:, None, None, :]
    mixed = tf.matmul(tf.cast(tf.nn.softmax(score), rows.dtype), value)  # [N, heads, L, width]
    return _dense(weights, "mixed", tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), tf.shape(rows)))


def _dense(weights: Mapping[str, tf.Tensor], name: str, rows: tf.Tensor) -> tf.Tensor:
    """Product and bias of a dense layer, without its activation."""
    return tf.nn.bias_add(tf.matmul(rows, weights[name]), weights[f"{name}_bias"])


def _norm(weights: Mapping[str, tf.Tensor], name: str) -> tuple[tf.Tensor, tf.Tensor]:
    return weights[f"{name}_gain"], weights[f"{name}_shift"]


def _kernel(layer: keras.layers.Layer, rows: int | None, dtype: str, columns: int = -1) -> tf.Tensor:
    """A dense layer's kernel as a matrix [rows, columns], of which one is given."""
    return tf.reshape(_value(layer.kernel, dtype), [-1 if rows is None else rows, columns])


def _bias(layer: keras.layers.Layer, dtype: str) -> tf.Tensor:
    return tf.reshape(_value(layer.bias, dtype), [-1])


def _value(variable: keras.Variable | tf.Tensor, dtype: str) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(variable), dtype)
