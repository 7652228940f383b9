"""A BERT layer without dropout in few matrix products: the values of KerasHub's layer in half its time.

KerasHub computes a layer with `einsum` on [N, L, ...] tensors. Here all places are rows of one matrix,
so that TensorFlow's kernels fuse products with biases and activations, query, key and value are one
product, and what is not a product (sums, normalisation) is float32, which the processor adds without
conversions. Vaswani et al., "Attention is all you need", NeurIPS 2017; post-normalised as in BERT.
"""

from __future__ import annotations

import keras
import tensorflow as tf

_NEVER = -1e9


def apply(layer: keras.layers.Layer, hidden: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """The output of a `keras_hub.layers.TransformerEncoder` outside of training.

    Args:
      layer: built, of a `BertBackbone`; low-rank updates of its kernels count.
      hidden: [N, L, dim] in any float type.
      real: bool [N, L], False for padding, to which nothing attends.

    Returns:
      float32 [N, L, dim].
    """
    attention = layer._self_attention_layer
    dtype = attention.compute_dtype
    size, dim = tf.unstack(tf.shape(hidden))[:2], hidden.shape[-1]
    rows = tf.reshape(tf.cast(hidden, tf.float32), [-1, dim])
    attended = _attend(attention, tf.cast(rows, dtype), size, real)
    rows = _normalise(layer._self_attention_layer_norm, rows + tf.cast(attended, tf.float32))
    inner, outer = layer._feedforward_intermediate_dense, layer._feedforward_output_dense
    found = inner.activation(_dense(inner, tf.cast(rows, dtype)))
    found = tf.cast(_dense(outer, found), tf.float32)
    rows = _normalise(layer._feedforward_layer_norm, rows + found)
    return tf.reshape(rows, [*size, dim])


def _attend(
    attention: keras.layers.Layer, rows: tf.Tensor, size: list[tf.Tensor], real: tf.Tensor
) -> tf.Tensor:
    """Self-attention's output, [N * L, dim], of rows [N * L, dim] in the compute type."""
    heads, width = attention._num_heads, attention._key_dim
    parts = (attention._query_dense, attention._key_dense, attention._value_dense)
    kernel = tf.concat([tf.reshape(_value(part.kernel, rows), [rows.shape[-1], -1]) for part in parts], 1)
    bias = tf.concat([tf.reshape(_value(part.bias, rows), [-1]) for part in parts], 0)
    projected = tf.nn.bias_add(tf.matmul(rows, kernel), bias)
    by_head = tf.transpose(tf.reshape(projected, [*size, 3, heads, width]), [2, 0, 3, 1, 4])
    query, key, value = tf.unstack(by_head)
    score = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) * width**-0.5
    score += tf.where(real, 0.0, _NEVER)[:, None, None, :]
    mixed = tf.matmul(tf.cast(tf.nn.softmax(score), rows.dtype), value)  # [N, heads, L, width]
    return _dense(attention._output_dense, tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), tf.shape(rows)))


def _dense(layer: keras.layers.Layer, rows: tf.Tensor) -> tf.Tensor:
    """Product and bias of a dense layer whose output is one axis, without its activation."""
    bias = tf.reshape(_value(layer.bias, rows), [-1])
    kernel = tf.reshape(_value(layer.kernel, rows), [-1, bias.shape[0]])
    return tf.nn.bias_add(tf.matmul(rows, kernel), bias)


def _normalise(layer: keras.layers.Layer, rows: tf.Tensor) -> tf.Tensor:
    """Layer normalisation of float32 [N * L, dim]."""
    mean, variance = tf.nn.moments(rows, [-1], keepdims=True)
    gain = tf.math.rsqrt(variance + layer.epsilon) * _value(layer.gamma, rows)
    return (rows - mean) * gain + _value(layer.beta, rows)


def _value(variable: keras.Variable | tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(variable), like.dtype)
