"""The BERT text encoder: the real MiniLM, once for this file."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from scipy.special import erf

from components.common import artifacts
from models.data import arrays
from models.text import encoder as text_encoder
from models.text.served import ServedEncoder
from schema.errors import ConfigError, UserError
from tests.shops import tiny_shop

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
    texts = [
        "whole milk",
        "skimmed milk 1 l",
        "toothbrush",
        "electric tooth brush",
        "red wine",
        "wine from red grapes",
    ]
    near = encode(tf.constant(texts)).numpy()
    near = near @ near.T
    for one, other in ((0, 1), (2, 3), (4, 5)):
        strangers = [place for place in range(len(texts)) if place not in (one, other)]
        assert near[one, other] > max(near[one, strangers].max(), near[other, strangers].max()) + 0.1


def numpy_bert(ids):
    """Mean of the last layer, by the paper's equations and the weights' file, of one text's ids."""
    folder = Path(text_encoder.preset_folder(tiny_shop.CONFIG.text_encoder.preset))
    weights = load_file(folder / "model.safetensors")
    heads = json.loads((folder / "config.json").read_text())["num_attention_heads"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    embeddings = [weights[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")]
    x = norm(embeddings[0][ids] + embeddings[1][: len(ids)] + embeddings[2][0], "embeddings.LayerNorm")
    for layer in range(6):
        at = f"encoder.layer.{layer}."
        query, key, value = (
            linear(x, f"{at}attention.self.{name}").reshape(len(ids), heads, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        attention = np.exp(query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1]))
        attention /= attention.sum(-1, keepdims=True)
        mixed = (attention @ value).transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(x + linear(mixed, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        wide = linear(x, f"{at}intermediate.dense")
        wide = wide / 2 * (1 + erf(wide / np.sqrt(2)))
        x = norm(x + linear(wide, f"{at}output.dense"), f"{at}output.LayerNorm")
    return x.mean(0)


def test_vectors_equal_bert_in_numpy(encoder, vectors):
    for ids, vector in zip(encoder.tokenize(tf.constant(TEXTS)).numpy(), vectors, strict=True):
        mean = numpy_bert(ids[ids > 0])
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-3)


def test_tokens_are_word_pieces_between_cls_and_sep(encoder):
    ids = encoder.tokenize(
        tf.constant(["Milk and bread", "", "one two three four five six seven eight nine"])
    )
    words = np.asarray(encoder.vocabulary)[ids.numpy()].tolist()
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
    hidden = encoder.backbone(
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


@pytest.mark.parametrize(("unit", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_the_type_is_that_of_the_machine(monkeypatch, unit, expected):
    monkeypatch.setattr(text_encoder, "has_bfloat16", lambda: unit)
    assert text_encoder.dtype_here() == expected


def test_bfloat16_vectors_are_nearly_those_of_float32():
    exact = text_encoder.TextEncoder(tiny_shop.bert_preset(1), LENGTH)(tf.constant(TEXTS)).numpy()
    rough = text_encoder.TextEncoder(tiny_shop.bert_preset(1), LENGTH, "bfloat16")(tf.constant(TEXTS)).numpy()
    assert rough.dtype == np.float32
    np.testing.assert_allclose((exact * rough).sum(1), 1, atol=0.02)


# --- the component, with a tiny BERT -----------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    return text_encoder.TextEncoder(tiny_shop.bert_preset(1), LENGTH)


def test_the_component_exports_the_encoder_and_the_catalogues_vectors(tiny):
    """Save -> load -> equal, and every item finds its text's vector."""
    folder, summary = tiny_shop.text_encoder()
    loaded = tf.saved_model.load(artifacts.model_folder(folder))
    texts = tf.constant(TEXTS)
    expected = tiny(texts).numpy()
    assert np.abs(expected[1] - expected[2]).max() > 0.01
    np.testing.assert_allclose(loaded.encode(texts), expected, atol=1e-5)
    served = loaded.signatures["serving_default"](text=texts)
    np.testing.assert_allclose(served["embedding"], expected, atol=1e-5)

    items = tiny_shop.items()
    table = arrays.load(os.path.join(folder, artifacts.TEXT_VECTORS))
    distinct = len(set(items.text))
    assert len(table["vectors"]) == distinct == 31 < len(items)
    of_items = tiny(tf.constant(items.text.tolist())).numpy()
    np.testing.assert_allclose(table["vectors"][table["index"]], of_items, atol=2e-5)
    assert summary.startswith(f"{distinct} distinct texts of {len(items) - 1} items to {tiny.dim} dimensions")


def test_the_export_holds_every_weight_once(tiny):
    folder, _ = tiny_shop.text_encoder()
    variables = tf.train.list_variables(
        os.path.join(artifacts.model_folder(folder), "variables", "variables")
    )
    stored = sum(int(np.prod(shape)) for name, shape in variables if "OBJECT_GRAPH" not in name)
    bert = tiny.backbone
    read = bert.token_embedding.weights + bert.embeddings_layer_norm.weights
    read += [weight for layer in tiny.layers for weight in layer.weights]
    # and a vector for each place that a text can have
    assert stored == sum(int(np.prod(weight.shape)) for weight in read) + LENGTH * tiny.dim


@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_the_served_encoder_gives_the_vectors_of_the_one_that_was_trained(dtype, near):
    encoder = text_encoder.TextEncoder(tiny_shop.bert_preset(2), LENGTH, dtype, layers=1)
    rng = np.random.default_rng(3)
    for weight in encoder.backbone.weights:  # what was trained has no gain of 1 and no shift of 0
        weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    texts = tf.constant(TEXTS)
    np.testing.assert_allclose(ServedEncoder(encoder)(texts), encoder(texts), atol=near)


def test_serving_casts_and_joins_no_weights():
    """Both cost more than the products of a short query."""
    encoder = text_encoder.TextEncoder(tiny_shop.bert_preset(1), LENGTH, "bfloat16")
    graph = ServedEncoder(encoder).function().get_concrete_function().graph
    small = LENGTH * 4 * encoder.dim
    for op in graph.get_operations():
        if op.type in ("Cast", "ConcatV2"):
            shapes = [tensor.shape for tensor in op.inputs]
            assert all(not shape.is_fully_defined() or shape.num_elements() < small for shape in shapes), op


def test_one_long_text_does_not_make_all_others_long():
    """An array of str gives every text the width of the longest: 4 bytes a letter, for each of them."""
    texts = np.asarray([f"text {number}" for number in range(2000)] + ["long " * 10_000], object)
    tracemalloc.start()
    distinct, place = text_encoder.distinct_texts(texts)
    vectors = text_encoder.encode_all(lambda batch: tf.ones([len(batch), 2]), texts, 256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert vectors.shape == (2001, 2)
    assert distinct.tolist() == sorted(texts)
    assert distinct[place].tolist() == texts.tolist()
    assert peak < 20 * 2**20  # the array of str alone takes 382 MiB


@pytest.mark.parametrize(("mode", "dtype", "near"), [("lora", "float32", 1e-5), ("full", "bfloat16", 0.1)])
def test_layers_give_what_kerashub_s_give_with_padding_and_low_rank_updates(mode, dtype, near):
    encoder = text_encoder.TextEncoder(tiny_shop.bert_preset(2), LENGTH, dtype, mode, 1, 2)
    rng = np.random.default_rng(3)
    for weight in encoder.trained:  # the updates begin at nothing
        weight.assign(weight + rng.normal(0, 0.3, weight.shape))
    ids = encoder.tokenize(tf.constant(TEXTS))
    assert 0 in ids[0]
    assert 0 not in ids[3]
    hidden = encoder.lower(ids)
    assert hidden.dtype == dtype
    inputs = {"token_ids": ids, "segment_ids": tf.zeros_like(ids), "padding_mask": tf.cast(ids > 0, tf.int32)}
    expected = tf.cast(encoder.backbone(inputs)["sequence_output"], tf.float32)
    got = encoder.upper(hidden, ids)
    np.testing.assert_allclose(got[ids > 0], expected[ids > 0], atol=near)


def test_lengths_are_those_of_the_inputs(encoder):
    longest = encoder.lengths(np.asarray([*TEXTS, "word " * 50], object))
    padded = (encoder.tokenize(tf.constant([*TEXTS, "word " * 50])).numpy() > 0).sum(1)
    np.testing.assert_array_equal(longest, padded)
    assert longest.max() == LENGTH


def test_texts_of_one_length_are_encoded_together():
    """Letters do not say how many word pieces a text has."""
    seen = []

    def shapes(texts):
        seen.append(sorted(texts.numpy().tolist()))
        return tf.ones([len(texts), 2])

    texts = np.asarray(["aaaaaaaaaaaa", "b c d", "eeeeeeeeeeeeeeeee", "f g h i"], object)
    words = lambda some: np.asarray([len(text.split()) for text in some])  # noqa: E731
    text_encoder.encode_all(shapes, texts, 2, words)
    assert seen == [[b"aaaaaaaaaaaa", b"eeeeeeeeeeeeeeeee"], [b"b c d", b"f g h i"]]
