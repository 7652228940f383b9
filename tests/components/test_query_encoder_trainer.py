"""The query encoder: its loss against plain loops, hard negatives, a shorter copy, and who answers."""

import numpy as np
import pytest
import tensorflow as tf

from components.common.queries import Queries
from components.query_encoder_trainer import executor, training
from models.text.alignment import QueryAlignment, tokenized
from models.text.encoder import TextEncoder
from schema.config import QueryEncoder
from schema.config import TextEncoder as TextEncoderSettings
from tests.shops import tiny_shop


@pytest.fixture(scope="module")
def preset():
    return tiny_shop.bert_preset(3)


def unit(rng, *shape):
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_loss_equals_plain_loops(preset):
    encoder = TextEncoder(preset, 8, mode="full", dropout=0.0)
    rng = np.random.default_rng(0)
    texts = np.asarray(["milk", "bread roll", "pear", "apple"], object)
    ids = tokenized(encoder, texts)
    target, item = unit(rng, 4, encoder.dim), unit(rng, 4, 3, encoder.dim)
    row = np.asarray([[5, 6, -1], [6, 7, 8], [-1, -1, -1], [9, 5, 7]], np.int32)
    right = np.asarray([[5, -1], [6, 9], [-1, -1], [9, 7]], np.int32)
    batch = {"ids": ids, "target": target, "item": item, "row": row, "right": right}
    tensors = {name: tf.constant(value) for name, value in batch.items()}
    found = QueryAlignment(encoder, 0.1, 0.5).loss(tensors)
    vectors = encoder(tf.constant(texts.tolist())).numpy()
    near, told = 0.0, []
    for q in range(4):
        near += ((vectors[q] - target[q]) ** 2).sum() / 4
        if row[q, 0] < 0:
            continue
        others = [
            float(vectors[q] @ item[p, slot]) / 0.1
            for p in range(4)
            for slot in range(3)
            if (p, slot) == (q, 0) or (row[p, slot] >= 0 and row[p, slot] not in right[q])
        ]
        own = float(vectors[q] @ item[q, 0]) / 0.1
        told.append(np.log(np.exp(others).sum()) - own)
    assert float(found) == pytest.approx(near + 0.5 * np.mean(told), rel=1e-3)


def test_hard_negatives_are_ranked_high_and_not_right():
    queries = Queries.of(["a", "b"], [0, 0, 1], [3, 4, 9], 1.0)
    ranked = [np.asarray([[3, 4, 5, 6], [9, 1, 2, 3]]), np.asarray([[6, 7, -1, -1], [-1, -1, -1, -1]])]
    drawn = training.hard_negatives(queries, ranked, 4, np.random.default_rng(0))
    assert sorted(drawn[0].tolist()) == [-1, 5, 6, 7]
    assert sorted(drawn[1].tolist()) == [-1, 1, 2, 3]
    assert (training.hard_negatives(queries, [], 2, np.random.default_rng(0)) == -1).all()


def test_nearest_items_are_those_of_a_full_sort():
    rng = np.random.default_rng(1)
    vectors, items = unit(rng, 300, 6), unit(rng, 40, 6)
    assert (training.nearest(vectors, items, 7) == np.argsort(-(vectors @ items.T), 1)[:, :7]).all()


@pytest.mark.parametrize(("layers", "chosen"), [(1, [2]), (2, [1, 2]), (3, [0, 1, 2]), (0, [0, 1, 2])])
def test_a_shorter_encoder_takes_layers_at_equal_distances(preset, layers, chosen):
    short, whole = TextEncoder(preset, 8, mode="full", layers=layers), TextEncoder(preset, 8)
    texts = tf.constant(["milk", "rye bread"])
    ids = whole.tokenize(texts)
    hidden = whole.lower(ids)
    for place in chosen:
        hidden = whole.backbone.transformer_layers[place](hidden, padding_mask=ids > 0)
    assert short(texts).numpy() == pytest.approx(whole.pool(hidden, ids).numpy(), abs=1e-5)
    used = short.backbone.transformer_layers
    taught = {id(weight) for place in chosen for weight in used[place].trainable_variables}
    assert {id(weight) for weight in short.trained} == taught
    assert short.merged()(texts).numpy() == pytest.approx(short(texts).numpy(), abs=1e-5)


@pytest.mark.parametrize(("tolerance", "kept"), [(1.0, "distilled"), (0.0, "text_encoder")])
def test_what_was_trained_answers_only_if_it_finds_enough(preset, tmp_path, tolerance, kept):
    teacher = TextEncoder(preset, 8)
    words = np.asarray([f"{kind} {brand}" for kind in tiny_shop.KINDS for brand in tiny_shop.BRANDS], object)
    items = training.encode_texts(teacher.function(), words)
    every = Queries.of(words, np.arange(len(words)), np.arange(len(words)))
    steps = {"steps": 4, "batch_size": 8, "validate_every": 2}
    config = QueryEncoder(mode="distilled", layers=1, tolerance=tolerance, **steps)
    text = TextEncoderSettings(preset=preset, dtype="float32")
    found = executor.learn(every, every, items, teacher.function(), teacher, text, config, 3)
    assert found.kept == kept
    assert found.figures["text_encoder"] == pytest.approx(1.0)
    executor.export(found, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert loaded.encode(tf.constant(["milk"])).numpy() == pytest.approx(
        found.encode(tf.constant(["milk"])).numpy(), abs=1e-5
    )
    assert loaded.signatures["serving_default"](text=tf.constant(["milk"]))["embedding"].shape == [1, 16]


def test_without_queries_to_measure_by_nothing_is_trained(preset):
    none = Queries.none()
    found = executor.learn(
        *(none, none, np.zeros((3, 16), np.float32), None, tf.Module(), TextEncoderSettings(preset=preset)),
        *(QueryEncoder(mode="tuned"), 1),
    )
    assert (found.kept, found.figures) == ("text_encoder", {})
