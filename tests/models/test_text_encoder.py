"""The BERT text encoder: the real MiniLM, once for this file."""

import os

import numpy as np
import pytest
import tensorflow as tf

from components import shop
from components.text_encoder_trainer import executor
from models import arrays, text_encoder
from pipeline.errors import ConfigError, UserError
from tests.models import tiny_shop

LENGTH = tiny_shop.CONFIG.text_encoder.sequence_length
TEXTS = ["", "whole milk. dairy", "bread", "fresh whole wheat bread. 500 g", "Bière brune — 0.5 l", "x"]


@pytest.fixture(scope="module")
def encoder():
    return text_encoder.TextEncoder(tiny_shop.CONFIG.text_encoder.preset, LENGTH)


@pytest.fixture(scope="module")
def encode(encoder):
    spec = [tf.TensorSpec([None], tf.string)]
    return tf.function(encoder.__call__, input_signature=spec, autograph=False)


@pytest.fixture(scope="module")
def vectors(encode):
    return encode(tf.constant(TEXTS)).numpy()


def test_vectors_have_length_one_also_of_an_empty_text(encoder, vectors):
    assert vectors.shape == (len(TEXTS), encoder.dim) == (len(TEXTS), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("place", range(len(TEXTS)))
def test_a_text_alone_has_the_vector_it_has_in_a_batch(encode, vectors, place):
    np.testing.assert_allclose(encode(tf.constant([TEXTS[place]])).numpy()[0], vectors[place], atol=2e-5)


def test_similar_texts_are_nearer_than_dissimilar_ones(encode):
    texts = ["whole milk", "skimmed milk 1 l", "toothbrush", "electric tooth brush", "red wine", "merlot"]
    near = encode(tf.constant(texts)).numpy()
    near = near @ near.T
    for one, other in ((0, 1), (2, 3), (4, 5)):
        strangers = [place for place in range(len(texts)) if place not in (one, other)]
        assert near[one, other] > max(near[one, strangers].max(), near[other, strangers].max()) + 0.1


def test_tokens_are_word_pieces_between_cls_and_sep(encoder):
    ids = encoder.tokenize(
        tf.constant(["Milk and bread", "", "one two three four five six seven eight nine"])
    )
    words = np.asarray(encoder._vocabulary)[ids.numpy()].tolist()
    assert words[0] == ["[CLS]", "milk", "and", "bread", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert words[1] == ["[CLS]", "[SEP]"] + ["[PAD]"] * 6
    assert words[2] == ["[CLS]", "one", "two", "three", "four", "five", "six", "[SEP]"]
    assert len(words[2]) == LENGTH


def test_case_and_accents_do_not_matter(encode):
    pair = encode(tf.constant(["CRÈME Brûlée", "creme brulee"])).numpy()
    np.testing.assert_allclose(pair[0], pair[1], atol=1e-6)


def test_mean_pooling_leaves_padding_out(encoder):
    """The definition, step by step, for one text beside a longer one."""
    texts = tf.constant(["bread", "fresh whole wheat bread"])
    ids = encoder.tokenize(texts)
    hidden = encoder._backbone(
        {"token_ids": ids, "segment_ids": tf.zeros_like(ids), "padding_mask": tf.cast(ids > 0, tf.int32)}
    )["sequence_output"].numpy()
    for place, size in enumerate((3, 6)):
        mean = hidden[place, :size].mean(0)
        np.testing.assert_allclose(encoder(texts)[place], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_encode_all_keeps_order_and_encodes_each_text_once(encode, batch_size):
    seen = []

    def counted(texts):
        seen.extend(texts.numpy().tolist())
        assert len(texts) <= batch_size
        return encode(texts)

    texts = np.asarray(["bread", "", "whole milk. dairy", "bread", "x", "bread"], object)
    got = text_encoder.encode_all(counted, texts, batch_size)
    np.testing.assert_allclose(got, encode(tf.constant(texts.tolist())), atol=2e-5)
    assert sorted(seen) == sorted({text.encode() for text in texts})


def test_encode_all_refuses_vectors_that_are_not_finite():
    def broken(texts):
        return tf.where(tf.strings.length(texts)[:, None] == 2, np.nan, tf.ones([1, 3]))

    with pytest.raises(UserError, match="not finite for 'no'"):
        text_encoder.encode_all(broken, np.asarray(["yes", "no"], object), 8)


@pytest.mark.parametrize(
    "preset", ["package:no_such_package/model", "package:numpy/nowhere", "/no/such/folder"]
)
def test_a_preset_that_is_not_there_is_a_config_error(preset):
    with pytest.raises(ConfigError, match="text_encoder.preset"):
        text_encoder.TextEncoder(preset, LENGTH)


def test_best_dtype_is_one_the_encoder_takes():
    assert text_encoder.best_dtype() in ("float32", "bfloat16")


def test_the_component_exports_the_encoder_and_the_catalogues_vectors(encode, encoder):
    """Save -> load -> equal, and every item finds its text's vector."""
    folder, summary = tiny_shop.text_encoder()
    loaded = tf.saved_model.load(shop.model_folder(folder))
    expected = encode(tf.constant(TEXTS)).numpy()
    np.testing.assert_allclose(loaded.encode(tf.constant(TEXTS)), expected, atol=1e-5)
    served = loaded.signatures["serving_default"](text=tf.constant(TEXTS))
    np.testing.assert_allclose(served["embedding"], expected, atol=1e-5)

    items = tiny_shop.items()
    table = arrays.load(os.path.join(folder, executor.VECTORS))
    distinct = len(set(items.text))
    assert len(table["vectors"]) == distinct < len(items)
    of_items = encode(tf.constant(items.text.tolist())).numpy()
    np.testing.assert_allclose(table["vectors"][table["index"]], of_items, atol=2e-5)
    assert summary.startswith(f"{distinct} distinct texts of {len(items) - 1} items to 384 dimensions")


def test_the_export_holds_every_weight_once():
    folder, _ = tiny_shop.text_encoder()
    variables = tf.train.list_variables(os.path.join(shop.model_folder(folder), "variables", "variables"))
    stored = sum(int(np.prod(shape)) for _, shape in variables)
    # MiniLM-L6 has 22.7 million parameters
    assert 22e6 < stored < 23.5e6
