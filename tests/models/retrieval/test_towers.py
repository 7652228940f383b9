"""The towers: unit vectors, dropout in training only, and the pooling against numpy."""

import numpy as np
import pytest
import tensorflow as tf

from models.retrieval.towers import (
    AGE_BUCKETS,
    HistoryPooling,
    ItemEmbedding,
    ItemTower,
    QuerySpec,
    QueryTower,
)
from schema import names as F
from tests.shops import tiny_shop

DIM = 6
SPEC = QuerySpec(users=9, event_types=3, attributes={"region": 3}, contexts={"store_id": 4})
ROWS = np.arange(61, dtype=np.int32)
ID_INDEX = np.where(ROWS % 3 == 0, 0, np.cumsum(ROWS % 3 > 0)).astype(np.int32)


def make_embedding(dropout=0.0):
    tf.keras.utils.set_random_seed(1)
    layer = ItemEmbedding(tiny_shop.items(), ID_INDEX, DIM, dropout)
    layer(tf.constant(ROWS))
    return layer


def make_query_tower(user_dropout=0.0, history_dropout=0.0, id_dropout=0.0):
    return QueryTower(make_embedding(id_dropout), SPEC, DIM, user_dropout, history_dropout)


def query_inputs(batch=7, length=5, seed=2, **fixed):
    rng = np.random.default_rng(seed)

    def codes(size, shape=(batch,)):
        return tf.constant(rng.integers(0, size, shape), tf.int32)

    return {
        "user": codes(9),
        "user_region": codes(3),
        "context_store_id": codes(4),
        "weekday": codes(8),
        "hour": codes(25),
        "history_row": codes(61, (batch, length)),
        F.HISTORY_AGE_DAYS: tf.constant(rng.uniform(0, 300, (batch, length)), tf.float32),
        F.HISTORY_EVENT_TYPE: codes(3, (batch, length)),
    } | fixed


def make_item_tower(dropout=0.0):
    table = tiny_shop.items()
    rng = np.random.default_rng(4)
    texts = rng.normal(size=(len(table), 10)).astype(np.float32)
    return ItemTower(make_embedding(dropout), texts, np.arange(len(table)), DIM)


def test_item_embedding_is_the_sum_of_identity_and_categories():
    layer, table = make_embedding(), tiny_shop.items()
    weights = {"identity": layer._identity.embeddings.numpy()}
    weights |= {name: table.embeddings.numpy() for name, table in layer._categories.items()}
    for row, vector in zip(ROWS, layer(tf.constant(ROWS)).numpy(), strict=True):
        expected = weights["identity"][ID_INDEX[row]]
        for name in ("department", "brand"):
            expected = expected + weights[name][table.categorical[name][row]]
        np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-6)


def test_identity_dropout_leaves_the_content_and_only_in_training():
    layer = make_embedding(dropout=1.0)
    rows = tf.constant(ROWS)
    without_identity = ItemEmbedding(tiny_shop.items(), np.zeros_like(ID_INDEX), DIM, 0.0)
    without_identity(rows)
    for theirs, ours in zip(without_identity.trainable_weights, layer.trainable_weights, strict=True):
        theirs.assign(ours[: theirs.shape[0]])
    np.testing.assert_allclose(layer(rows, training=True), without_identity(rows), atol=1e-6)
    for flag in (False, None):
        assert not np.allclose(layer(rows, training=flag), without_identity(rows), atol=1e-3)


def test_identity_dropout_takes_the_share_it_says():
    layer = make_embedding(dropout=0.3)
    row = int(np.flatnonzero(ID_INDEX)[0])
    vectors = layer(tf.fill([4000], row), training=True).numpy()
    kept = np.isclose(vectors, layer(tf.constant([row])).numpy(), atol=1e-6).all(1)
    assert 0.65 < kept.mean() < 0.75


@pytest.mark.parametrize("training", [False, True])
def test_item_vectors_have_length_one(training):
    vectors = make_item_tower(0.5)(tf.constant(ROWS), training=training)
    assert vectors.shape == (len(ROWS), DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_item_vectors_depend_on_text_and_identity():
    tower = make_item_tower()
    base = tower(tf.constant(ROWS)).numpy()
    identity = tower._embedding._identity.embeddings
    identity.assign(tf.tensor_scatter_nd_add(identity, [[5]], tf.ones([1, DIM])))
    changed = np.abs(tower(tf.constant(ROWS)).numpy() - base).max(1) > 1e-4
    np.testing.assert_array_equal(changed, ID_INDEX == 5)
    tower._text_vectors.assign(-tower._text_vectors)
    assert (np.abs(tower(tf.constant(ROWS)).numpy() - base).max(1) > 1e-4).all()


@pytest.mark.parametrize("training", [False, True])
def test_query_vectors_have_length_one_for_any_codes(training):
    tower = make_query_tower(0.5, 0.5, 0.5)
    unknown = {name: tf.zeros_like(value) for name, value in query_inputs().items()}
    for inputs in (query_inputs(), unknown):
        vectors = tower(inputs, training=training)
        assert vectors.shape == (7, DIM)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("dropouts", "same_as"),
    [
        ({"user_dropout": 1.0}, {"user": tf.zeros([7], tf.int32)}),
        ({"history_dropout": 1.0}, {"history_row": tf.zeros([7, 5], tf.int32)}),
    ],
)
def test_query_dropout_removes_what_it_says_and_only_in_training(dropouts, same_as):
    tower = make_query_tower(**dropouts)
    whole = tower(query_inputs(), training=False).numpy()
    np.testing.assert_array_equal(whole, tower(query_inputs(), training=False))
    without = tower(query_inputs(**same_as), training=False).numpy()
    np.testing.assert_allclose(tower(query_inputs(), training=True), without, atol=1e-5)
    assert np.abs(whole - without).max() > 1e-3


@pytest.mark.parametrize(
    "name", ["user", "user_region", "context_store_id", "weekday", "hour", "history_row"]
)
def test_every_input_matters(name):
    tower = make_query_tower()
    inputs = query_inputs()
    sizes = {"user_region": 3, "context_store_id": 4}
    changed = inputs | {name: (inputs[name] + 1) % sizes.get(name, 7)}
    assert np.abs(tower(inputs) - tower(changed)).max() > 1e-4


def test_padding_at_the_front_changes_nothing():
    tower, inputs = make_query_tower(), query_inputs()
    padded = dict(inputs)
    for name in ("history_row", F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE):
        padded[name] = tf.pad(inputs[name], [[0, 0], [4, 0]])
    np.testing.assert_allclose(tower(inputs), tower(padded), atol=1e-5)


def test_no_place_for_history_equals_an_empty_one():
    tower, inputs = make_query_tower(), query_inputs(length=3)
    empty, none = dict(inputs), dict(inputs)
    for name in ("history_row", F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE):
        empty[name] = tf.zeros_like(inputs[name])
        none[name] = inputs[name][:, :0]
    np.testing.assert_allclose(tower(empty), tower(none), atol=1e-6)


def test_pooling_equals_numpy():
    tf.keras.utils.set_random_seed(3)
    heads, rng = 3, np.random.default_rng(6)
    layer = HistoryPooling(heads, 3, 0.0)
    embedded = rng.normal(size=(4, 8, DIM)).astype(np.float32)
    ages = rng.choice([0.0, 0.5, 0.6, 7.0, 7.1, 270.0, 271.0, 3650.0, 30.0], (4, 8)).astype(np.float32)
    types = rng.integers(0, 3, (4, 8)).astype(np.int32)
    mask = rng.random((4, 8)) < 0.6
    mask[3] = False
    got = layer(*map(tf.constant, (embedded, ages, types, mask)), training=False).numpy()
    content, age, kind = (weight.numpy() for weight in layer.weights)
    age, kind = age * 20, kind * 20  # the initial weights are too small to be seen
    layer.set_weights([content, age, kind])
    got = layer(*map(tf.constant, (embedded, ages, types, mask)), training=False).numpy()
    for b in range(4):
        pooled = np.zeros((heads, DIM))
        for h in range(heads):
            weights = np.zeros(8)
            for place in np.flatnonzero(mask[b]):
                bucket = sum(ages[b, place] > limit for limit in AGE_BUCKETS)
                logit = embedded[b, place] @ content[:, h] + age[bucket, h] + kind[types[b, place], h]
                weights[place] = np.exp(logit)
            if weights.any():
                pooled[h] = (weights / weights.sum()) @ embedded[b]
        np.testing.assert_allclose(got[b], pooled.ravel(), rtol=1e-4, atol=1e-5)
    assert not got[3].any()
