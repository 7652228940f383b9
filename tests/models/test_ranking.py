"""The ranker's loss against a naive one, and the export."""

import numpy as np
import pytest
import tensorflow as tf

from components.ranking_trainer import executor
from models.ranking import PiecewiseLinearEncoding, RankingModel
from tests.models.tiny_shop import CONFIG

WIDTH = 4


def make(list_loss_weight=0.3):
    tf.keras.utils.set_random_seed(2)
    model = RankingModel(
        WIDTH,
        {"department": 4, "brand": 5},
        CONFIG.ranking.model_copy(update={"list_loss_weight": list_loss_weight}),
    )
    model.adapt(tf.random.normal([200, WIDTH]) * [1.0, 2.0, 5.0, 0.1] + [0.0, 3.0, -5.0, 1.0])
    return model


def batch(seed=1, lists=5, size=6):
    rng = np.random.default_rng(seed)
    label = (rng.random((lists, size)) < 0.4).astype(np.float32)
    weight = rng.choice([1.0, 1.0, 3.5, 0.0], (lists, size)).astype(np.float32)
    weight = np.where(label > 0, 1, weight).astype(np.float32)
    label[1], weight[2] = 0, 0  # a list without a purchase, and one of padding
    label[2] = 0
    return {
        "features": tf.constant(rng.normal(size=(lists, size, WIDTH)), tf.float32),
        "codes": {
            "department": tf.constant(rng.integers(0, 4, (lists, size)), tf.int32),
            "brand": tf.constant(rng.integers(0, 5, (lists, size)), tf.int32),
        },
        "label": tf.constant(label),
        "weight": tf.constant(weight),
    }


def naive_loss(logits, label, weight, list_weight):
    pointwise = total = 0.0
    lists = []
    for row in range(len(logits)):
        for logit, y, w in zip(logits[row], label[row], weight[row], strict=True):
            p = 1 / (1 + np.exp(-logit))
            pointwise -= w * (y * np.log(p) + (1 - y) * np.log(1 - p))
            total += w
        # a candidate that stands for w candidates counts w times in the list's softmax
        mass = sum(w * np.exp(logit) for logit, w in zip(logits[row], weight[row], strict=True))
        losses = [
            -np.log(w * np.exp(logit) / mass)
            for logit, y, w in zip(logits[row], label[row], weight[row], strict=True)
            if y and w
        ]
        if losses:
            lists.append(np.mean(losses))
    return pointwise / total + list_weight * np.mean(lists)


@pytest.mark.parametrize("seed", [1, 4])
@pytest.mark.parametrize("list_loss_weight", [0.0, 0.3])
def test_loss_equals_the_naive_one(seed, list_loss_weight):
    model, inputs = make(list_loss_weight), batch(seed)
    logits = model(inputs).numpy().astype(np.float64)
    assert logits.shape == (5, 6)
    expected = naive_loss(logits, inputs["label"].numpy(), inputs["weight"].numpy(), list_loss_weight)
    np.testing.assert_allclose(model.compute_loss(inputs), expected, rtol=1e-4)


def test_padding_is_ignored():
    model, inputs = make(), batch()
    padding = inputs["weight"][..., None] == 0
    assert padding.numpy().any()
    other = inputs | {"features": tf.where(padding, 1e3, inputs["features"])}
    np.testing.assert_allclose(model.compute_loss(inputs), model.compute_loss(other), rtol=1e-6)
    longer = {
        name: tf.pad(value, [[0, 0], [0, 3]] + [[0, 0]] * (value.shape.rank - 2))
        for name, value in inputs.items()
        if name != "codes"
    }
    longer["codes"] = {name: tf.pad(value, [[0, 0], [0, 3]]) for name, value in inputs["codes"].items()}
    np.testing.assert_allclose(model.compute_loss(inputs), model.compute_loss(longer), rtol=1e-6)


def test_lists_without_a_purchase_or_weight_are_finite():
    inputs = batch()
    inputs["label"] = tf.zeros_like(inputs["label"])
    assert np.isfinite(make().compute_loss(inputs))
    inputs["weight"] = tf.zeros_like(inputs["weight"])
    assert float(make().compute_loss(inputs)) == 0.0


def test_a_pairs_logit_does_not_depend_on_its_list():
    model, inputs = make(), batch()
    order = tf.constant([4, 0, 5, 2, 1, 3])
    shuffled = tf.nest.map_structure(lambda value: tf.gather(value, order, axis=1), inputs)
    np.testing.assert_allclose(tf.gather(model(inputs), order, axis=1), model(shuffled), atol=1e-5)


def test_every_code_and_feature_matters():
    model, inputs = make(), batch()
    logits = model(inputs).numpy()
    for name in ("department", "brand"):
        codes = inputs["codes"] | {name: (inputs["codes"][name] + 1) % 4}
        assert np.abs(model(inputs | {"codes": codes}).numpy() - logits).max() > 1e-5
    for feature in range(WIDTH):
        moved = inputs["features"] + tf.one_hot(feature, WIDTH)
        assert np.abs(model(inputs | {"features": moved}).numpy() - logits).max() > 1e-5


def test_features_far_outside_what_was_seen_are_clipped():
    model, inputs = make(), batch()
    for sign in (-1, 1):
        far, farther = (
            inputs | {"features": tf.fill(inputs["features"].shape, sign * x)} for x in (1e6, 1e8)
        )
        np.testing.assert_allclose(model(far), model(farther), atol=1e-5)


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
    layer = PiecewiseLinearEncoding(4, bins)
    layer.adapt(seen)
    values = np.concatenate([seen[:40], [[-9, -9, -9, -9], [99, 99, 99, 99]]]).astype(np.float32)
    got = layer(tf.constant(values)).numpy().reshape(len(values), 4, bins)
    for feature in range(4):
        column = seen[:, feature]
        edges = sorted({float(np.float32(q)) for q in np.quantile(column, np.linspace(0, 1, 4 * bins + 1))})
        if len(edges) > bins + 1:
            edges = [edges[round(place)] for place in np.linspace(0, len(edges) - 1, bins + 1)]
        assert edges[0] == column.min()
        assert edges[-1] == column.max()
        for row, value in enumerate(values[:, feature]):
            expected = [min(max((value - a) / (b - a), 0), 1) for a, b in zip(edges, edges[1:], strict=False)]
            expected += [0] * (bins - len(expected))
            np.testing.assert_allclose(got[row, feature], expected, atol=1e-4)
    # nothing to tell apart, nothing told; otherwise greater values never give smaller numbers
    assert not got[:, 2].any()
    order = np.argsort(values[:, 0])
    assert (np.diff(got[order, 0], axis=0) >= -1e-6).all()


def test_it_learns_to_order():
    model, inputs = make(), batch(lists=40)
    label = inputs["features"][..., 0] > 0.5
    inputs |= {"label": tf.cast(label, tf.float32), "weight": tf.ones(label.shape)}
    model.compile(tf.keras.optimizers.Adam(0.02))
    model.fit(tf.data.Dataset.from_tensors(inputs).repeat(80), epochs=1, verbose=0)
    logits = model(inputs).numpy()
    assert logits[label].min() > np.median(logits[~label.numpy()])
    assert ((logits > 0) == label.numpy()).mean() > 0.95


def test_save_load(tmp_path):
    model, inputs = make(), batch()
    expected = model(inputs)
    executor._export(model, WIDTH, ["department", "brand"], str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.score(inputs["features"], inputs["codes"]), expected, atol=1e-6)
    other = tf.nest.map_structure(lambda v: v[:1, :2], inputs)
    np.testing.assert_allclose(loaded.score(other["features"], other["codes"]), model(other), atol=1e-6)
