"""The ranker's losses and calibration against naive ones, what it learns, and the export."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models.ranking import training
from models.ranking.layers import PiecewiseLinearEncoding
from models.ranking.losses import listwise_loss, pairwise_loss
from models.ranking.ranker import RankingModel
from tests.shops.tiny_shop import CONFIG

WIDTH = 4


LOSSES = {
    "list_loss_weight": 0.3,
    "pair_loss_weight": 0.2,
    "repeat_loss_weight": 0.4,
    "value_loss_weight": 0.5,
}


CONFIGURED = CONFIG.ranking.model_copy(update=LOSSES | {"hidden": [8, 6], "experts": 3})


OF_ITEM = 1  # of the features


def make(of_item=OF_ITEM):
    tf.keras.utils.set_random_seed(2)
    model = RankingModel(WIDTH, {"department": 4, "brand": 5}, CONFIGURED, of_item)
    features = tf.random.normal([200, WIDTH]) * [1.0, 2.0, 5.0, 0.1] + [0.0, 3.0, -5.0, 1.0]
    model.adapt(features.numpy(), np.arange(200) % 20 == 0)
    return model


@functools.cache
def untrained():
    """One for all tests that change nothing of it: making one takes longer than asking it."""
    return make()


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
        "label_repeat": tf.constant(label * (rng.random(label.shape) < 0.5), tf.float32),
        "label_value": tf.constant(label * rng.exponential(3, label.shape), tf.float32),
        "weight": tf.constant(weight),
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive_cross_entropy(logits, label, weight):
    loss = total = 0.0
    for z, y, w in zip(np.ravel(logits), np.ravel(label), np.ravel(weight), strict=True):
        loss -= w * (y * np.log(sigmoid(z)) + (1 - y) * np.log(1 - sigmoid(z)))
        total += w
    return loss / max(total, 1)


def naive_listwise(logits, label, weight):
    lists = []
    for row in range(len(logits)):
        # a candidate that stands for w candidates counts w times in the list's softmax
        mass = sum(w * np.exp(z) for z, w in zip(logits[row], weight[row], strict=True))
        bought = [
            (w, -np.log(np.exp(z) / mass))
            for z, y, w in zip(logits[row], label[row], weight[row], strict=True)
            if y and w
        ]
        if bought:
            lists.append(sum(w * loss for w, loss in bought) / sum(w for w, _ in bought))
    return np.mean(lists)


def naive_pairwise(logits, label, weight):
    lists = []
    for z, y, w in zip(logits, label, weight, strict=True):
        places = range(len(z))
        # the rank in the full list, where a candidate that stands for w candidates takes w places
        rank = [1 + sum(w[j] for j in places if z[j] > z[i]) for i in places]
        ideal = sum(1 / np.log2(1 + place) for place in range(1, round(sum(w * y)) + 1))
        loss = 0.0
        for i in places:
            for j in places:
                if y[i] and not y[j]:
                    swap = abs(1 / np.log2(1 + rank[i]) - 1 / np.log2(1 + rank[j])) / ideal
                    loss += w[i] * w[j] * swap * np.log(1 + np.exp(z[j] - z[i]))
        if (w * y).sum():
            lists.append(loss)
    return np.mean(lists)


@pytest.mark.parametrize("seed", [1, 4])
def test_losses_equal_naive_ones(seed, monkeypatch):
    model, inputs = untrained(), batch(seed)
    found = {name: values.numpy().astype(np.float64) for name, values in model(inputs).items()}
    assert {values.shape for values in found.values()} == {(5, 6)}
    logits = found["purchase"]
    label, again, value, weight = (
        inputs[name].numpy().astype(np.float64) for name in ("label", "label_repeat", "label_value", "weight")
    )
    listwise, pairwise = naive_listwise(logits, label, weight), naive_pairwise(logits, label, weight)
    as_tensors = [tf.constant(values, tf.float32) for values in (logits, label, weight)]
    np.testing.assert_allclose(listwise_loss(*as_tensors), listwise, rtol=1e-4)
    np.testing.assert_allclose(pairwise_loss(*as_tensors), pairwise, rtol=1e-4)
    bought = weight * label
    parts = {
        "purchase": naive_cross_entropy(logits, label, weight),
        "list_loss_weight": listwise,
        "pair_loss_weight": pairwise,
        "repeat_loss_weight": naive_cross_entropy(found["repeat"], again, bought),
        "value_loss_weight": (bought * (found["value"] - np.log1p(value)) ** 2).sum() / bought.sum(),
    }
    expected = sum(LOSSES.get(name, 1.0) * part for name, part in parts.items())
    np.testing.assert_allclose(model.compute_loss(inputs), expected, rtol=1e-4)
    for name in LOSSES:  # each can be switched off
        monkeypatch.setattr(model, "_config", CONFIGURED.model_copy(update={name: 0.0}))
        np.testing.assert_allclose(
            model.compute_loss(inputs), expected - LOSSES[name] * parts[name], rtol=1e-4
        )


def test_a_purchase_that_stands_for_several_has_as_many_votes():
    """Where not all purchases fitted into a list, the kept ones are weighted."""
    inputs = batch()
    weight = tf.where(inputs["label"] > 0, 2.5, inputs["weight"])
    logits = untrained()(inputs)["purchase"]
    arguments = [values.numpy().astype(np.float64) for values in (logits, inputs["label"], weight)]
    np.testing.assert_allclose(
        listwise_loss(logits, inputs["label"], weight), naive_listwise(*arguments), rtol=1e-4
    )


def test_padding_is_ignored():
    model, inputs = untrained(), batch()
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
    assert np.isfinite(untrained().compute_loss(inputs))
    inputs["weight"] = tf.zeros_like(inputs["weight"])
    assert float(untrained().compute_loss(inputs)) == 0.0


@pytest.mark.parametrize("of_item", [0, 1, WIDTH])
def test_what_is_known_of_the_item_alone_can_be_looked_up(of_item):
    model, inputs = make(of_item), batch()
    flat = tf.reshape(inputs["features"], [-1, WIDTH])
    codes = {name: tf.reshape(code, [-1]) for name, code in inputs["codes"].items()}
    expected = model.score(inputs["features"], inputs["codes"])
    parts = model.item_parts(flat[:, :of_item], codes)
    shape = inputs["label"].shape
    found = model.score_with(
        inputs["features"][..., of_item:], *(tf.reshape(part, [*shape, part.shape[-1]]) for part in parts)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # and every item has its own
    others = model.item_parts(flat[::-1, :of_item], {n: c[::-1] for n, c in codes.items()})
    assert not np.allclose(others[0], parts[0])
    assert not of_item or not np.allclose(others[1], parts[1])


def test_a_pairs_logit_does_not_depend_on_its_list():
    model, inputs = untrained(), batch()
    order = tf.constant([4, 0, 5, 2, 1, 3])
    shuffled = tf.nest.map_structure(lambda value: tf.gather(value, order, axis=1), inputs)
    for task, values in model(inputs).items():
        np.testing.assert_allclose(tf.gather(values, order, axis=1), model(shuffled)[task], atol=1e-5)


def test_every_code_and_feature_matters_to_every_head():
    model, inputs = untrained(), batch()
    before = {task: values.numpy() for task, values in model(inputs).items()}
    changes = [
        inputs | {"codes": inputs["codes"] | {name: (inputs["codes"][name] + 1) % 4}}
        for name in ("department", "brand")
    ]
    changes += [
        inputs | {"features": inputs["features"] + tf.one_hot(feature, WIDTH)} for feature in range(WIDTH)
    ]
    for changed in changes:
        for task, values in model(changed).items():
            assert np.abs(values.numpy() - before[task]).max() > 1e-5


def test_features_far_outside_what_was_seen_are_clipped():
    model, inputs = untrained(), batch()
    for sign in (-1, 1):
        far, farther = (
            inputs | {"features": tf.fill(inputs["features"].shape, sign * x)} for x in (1e6, 1e8)
        )
        np.testing.assert_allclose(model(far)["purchase"], model(farther)["purchase"], atol=1e-5)


@pytest.mark.parametrize(("bought_from", "share"), [(1.5, 0.5), (9.0, 0.07)])
def test_half_of_the_bins_are_where_purchases_are(bought_from, share):
    values = np.random.default_rng(0).normal(size=(4000, WIDTH)).astype(np.float32)
    model = RankingModel(WIDTH, {}, CONFIGURED)
    model.adapt(values, values[:, 0] > bought_from)  # one in fifteen, or none
    (layer,) = [
        part for part in model.submodules if isinstance(part, PiecewiseLinearEncoding) and part.weights
    ]
    far = tf.constant([[1.5, 0, 0, 0], [99, 0, 0, 0]], tf.float32)
    encoded = np.concatenate(layer.encode(far), 1) / 6
    of_first = encoded[1] != encoded[0]  # only the first feature differs
    bins = 8
    assert abs((encoded[1] - encoded[0])[of_first].sum() / bins - share) < 0.1


@pytest.mark.slow  # trains a model
def test_it_learns_to_order_what_comes_again_and_for_how_much():
    model, inputs = make(), batch(lists=40)
    label = inputs["features"][..., 0] > 0.5
    again = label & (inputs["features"][..., 1] > 0)
    worth = tf.where(label, tf.exp(inputs["features"][..., 2]), 0.0)
    inputs |= {"label": tf.cast(label, tf.float32), "weight": tf.ones(label.shape)}
    inputs |= {"label_repeat": tf.cast(again, tf.float32), "label_value": worth}
    model.compile(tf.keras.optimizers.Adam(0.02))
    model.fit(tf.data.Dataset.from_tensors(inputs).repeat(60), epochs=1, verbose=0)
    found = {name: values.numpy() for name, values in model(inputs).items()}
    assert ((found["purchase"] > 0) == label.numpy()).mean() > 0.95
    assert ((found["repeat"] > 0) == again.numpy())[label].mean() > 0.9
    assert np.corrcoef(found["value"][label], np.log1p(worth)[label])[0, 1] > 0.9


def test_calibration_makes_the_heads_say_what_happens():
    """On data whose purchases are rarer, rarer again and dearer than the untrained heads say."""
    rng = np.random.default_rng(5)
    model, inputs = make(), batch(lists=400, size=20)
    (bias,) = [weight for weight in model.weights if weight.name.endswith("value/bias:0")]
    bias.assign([3.0])  # around 0, where values are cut off, a few pairs would make the mean
    logits = {name: values.numpy() for name, values in model(inputs).items()}
    label = rng.random(logits["purchase"].shape) < sigmoid(2 * logits["purchase"] - 1)
    again = label & (rng.random(label.shape) < sigmoid(0.5 * logits["repeat"] + 0.7))
    worth = label * 3 * np.expm1(np.maximum(logits["value"], 0)) * rng.exponential(1, label.shape)
    inputs |= {"label": label, "label_repeat": again, "label_value": worth, "weight": np.ones(label.shape)}
    inputs = tf.nest.map_structure(
        lambda v: tf.cast(v, tf.int32 if v.dtype == tf.int32 else tf.float32), inputs
    )
    before = model.predict_heads(inputs["features"], inputs["codes"])
    assert abs(before["p_purchase"].numpy().mean() - label.mean()) > 0.02
    order = np.argsort(before["p_purchase"].numpy(), axis=None)
    model.calibrate(tf.data.Dataset.from_tensor_slices(inputs).batch(64))
    heads = {name: v.numpy() for name, v in model.predict_heads(inputs["features"], inputs["codes"]).items()}
    assert heads["p_purchase"].mean() == pytest.approx(label.mean(), abs=0.003)
    assert heads["p_repeat"].mean() == pytest.approx(again.mean(), abs=0.01)
    assert heads["expected_value"].mean() == pytest.approx(worth.mean(), rel=0.1)
    assert (heads["p_repeat"] <= heads["p_purchase"]).all()
    assert (np.diff(heads["p_purchase"].ravel()[order]) >= -1e-7).all()
    score = model.score(inputs["features"], inputs["codes"])
    np.testing.assert_allclose(tf.sigmoid(score), heads["p_purchase"], atol=1e-6)


def test_save_load(tmp_path):
    model, inputs = make(), batch()
    model.calibrate([inputs])
    training.export(model, WIDTH, OF_ITEM, ["department", "brand"], str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for chosen in (inputs, tf.nest.map_structure(lambda v: v[:1, :2], inputs)):
        arguments = chosen["features"], chosen["codes"]
        np.testing.assert_allclose(loaded.score(*arguments), model.score(*arguments), rtol=1e-5, atol=1e-6)
        heads = loaded.heads(*arguments)
        assert set(heads) == {"p_purchase", "p_repeat", "expected_value"}
        for name, values in model.predict_heads(*arguments).items():
            np.testing.assert_allclose(heads[name], values, rtol=1e-5, atol=1e-6)
