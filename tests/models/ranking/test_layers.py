"""The ranker's layers against loops."""

import numpy as np
import pytest
import tensorflow as tf

from models.ranking.layers import MixtureOfExperts, PiecewiseLinearEncoding


@pytest.mark.parametrize("bins", [4, 16])
def test_piecewise_linear_encoding_equals_loops(bins):
    rng = np.random.default_rng(3)
    seen = np.stack(
        [
            rng.normal(size=500),
            np.where(rng.random(500) < 0.9, 0, rng.exponential(size=500)),  # mostly one value
            np.full(500, 3.0),
            rng.integers(0, 2, 500),
        ],
        1,
    ).astype(np.float32)
    seen = np.tile(seen, 5)  # more than are encoded by one matrix product
    layer = PiecewiseLinearEncoding(20, 3, bins)
    layer.adapt(seen)
    values = np.concatenate([seen[:40], [[-9] * 20, [99] * 20]]).astype(np.float32)
    encoded = np.concatenate(layer.encode(tf.constant(values)), 1) / 6
    projected = encoded @ layer.trainable_weights[0].numpy() + layer.trainable_weights[1].numpy()
    np.testing.assert_allclose(layer(tf.constant(values)), projected, atol=1e-5)
    at = 0
    for feature in range(20):
        column = seen[:, feature]
        edges = sorted({float(np.float32(q)) for q in np.quantile(column, np.linspace(0, 1, 4 * bins + 1))})
        if len(edges) > bins + 1:
            edges = [edges[round(place)] for place in np.linspace(0, len(edges) - 1, bins + 1)]
        assert edges[0] == column.min()
        assert edges[-1] == column.max()
        # nothing to tell apart, nothing told
        assert (len(edges) == 1) == (feature % 4 == 2)
        for row, value in enumerate(values[:, feature]):
            expected = [min(max((value - a) / (b - a), 0), 1) for a, b in zip(edges, edges[1:], strict=False)]
            np.testing.assert_allclose(encoded[row, at : at + len(expected)], expected, atol=1e-4)
        at += len(edges) - 1
    assert at == encoded.shape[1]


@pytest.mark.parametrize("constant", [range(16), range(16, 20), range(20)])
def test_features_that_never_vary_are_in_no_product(constant):
    values = np.random.default_rng(5).normal(size=(50, 20)).astype(np.float32)
    values[:, list(constant)] = 1.0
    layer = PiecewiseLinearEncoding(20, 3)
    layer.adapt(values)
    kernel, bias = layer.trainable_weights
    bias.assign([1.0, 2.0, 3.0])
    call = tf.function(layer).get_concrete_function(tf.TensorSpec([None, 20]))
    # oneDNN would end the process when the graph runs
    products = [op for op in call.graph.get_operations() if op.type == "MatMul"]
    assert all(product.inputs[1].shape.num_elements() for product in products)
    found = call(tf.constant(values))
    assert kernel.shape[0] == 8 * (20 - len(constant))
    encoded = np.concatenate([np.zeros((50, 0), np.float32), *layer.encode(tf.constant(values))], 1) / 6
    np.testing.assert_allclose(found, encoded @ kernel.numpy() + [1, 2, 3], atol=1e-5)


def test_experts_are_mixed_by_each_tasks_gate():
    tf.keras.utils.set_random_seed(3)
    layer = MixtureOfExperts(3, [5, 2], ("a", "b"), 0.5)
    inputs = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    got = layer(tf.constant(inputs))
    weights = {variable.name: variable.numpy() for variable in layer.weights}
    experts = []
    for expert in range(3):
        hidden = inputs
        for index in range(2):
            kernel, bias = (
                weights[f"mixture_of_experts/expert_{index}/{name}:0"] for name in ("kernel", "bias")
            )
            kernel = kernel[:, expert] if index == 0 else kernel[expert]
            hidden = np.maximum(hidden @ kernel + bias[expert], 0)
        experts.append(hidden)
    for task in ("a", "b"):
        kernel, bias = (weights[f"mixture_of_experts/gate_{task}/{name}:0"] for name in ("kernel", "bias"))
        share = np.exp(inputs @ kernel + bias)
        share /= share.sum(1, keepdims=True)
        expected = sum(share[:, [expert]] * experts[expert] for expert in range(3))
        np.testing.assert_allclose(got[task], expected, atol=1e-5)
    assert np.abs(got["a"] - got["b"]).max() > 1e-3
