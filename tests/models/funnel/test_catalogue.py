"""The servable of a shop without events, against the tiny shop's catalogue."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts, servables
from models.funnel.catalogue import CatalogueServable
from models.funnel.signatures import signature_specs
from schema import names as F
from tests.shops import tiny_search, tiny_shop
from tests.shops.tiny_shop import CONFIG, ITEMS, text

HISTORY = [("101", 2.0), ("101", 9.0)]


@functools.cache
def servable():
    config = CONFIG.model_copy(update={"search": tiny_search.SEARCH, "events": None, "users": None})
    encoder = tiny_shop.load(artifacts.model_folder(tiny_shop.text_encoder()[0]))
    return CatalogueServable(tiny_shop.items(), encoder.encode, encoder, tiny_search.parts(None), config)


@functools.cache
def signatures():
    return servable().signatures()


def ask(name, **given):
    """Answers of a batch of one; what is not given is neutral."""
    neutral = servables.neutral_inputs(tiny_shop.items(), np.arange(1, 9)) | servables.nobody()
    inputs = {
        key: tf.constant(np.asarray(given.get(key, neutral[key])).tolist(), spec.dtype)
        for key, spec in signatures()[name].structured_input_signature[1].items()
    }
    return {key: text(value) for key, value in signatures()[name](**inputs).items()}


@pytest.fixture(scope="module")
def vectors():
    encoder = tiny_shop.load(artifacts.model_folder(tiny_shop.text_encoder()[0]))
    return encoder.encode(tf.constant(tiny_shop.items().text[1:].tolist())).numpy()


def test_it_has_the_signatures_that_need_no_events():
    """With the inputs of every other shop, but for the contexts of events."""
    wanted = {"search", "suggest", "similar", "embed_text", "embed_item"}
    assert set(signatures()) == wanted
    for name in wanted:
        assert set(signatures()[name].structured_input_signature[1]) == set(signature_specs(())[name])


def test_search_finds_filters_and_tells_what_the_request_s_user_did():
    answer = ask("search", query=["milk"], k=[60])
    milks = [item for item, words in zip(ITEMS, tiny_shop.items().text[1:], strict=True) if "milk" in words]
    assert set(answer[F.ITEM_ID][0][: len(milks)]) == set(milks)
    known = {F.HISTORY_ITEM_ID: [["101", "101"]], F.HISTORY_AGE_DAYS: [[2.0, 9.0]]}
    known |= {F.HISTORY_EVENT_TYPE: [["purchase"] * 2], F.CONTEXT_TIMESTAMP: [tiny_shop.CUTOFF]}
    told = ask("search", query=["milk"], k=[60], **known)
    reasons = dict(zip(told[F.ITEM_ID][0], told[F.REASON][0], strict=True))
    assert reasons["101"] == "Matches 'milk'; you bought it twice, last on Wednesday"
    assert sum(";" in reason for reason in reasons.values()) == 1
    hidden = ask("search", query=["milk"], k=[60], drop_bought_days=[5.0], **known)
    assert set(told[F.ITEM_ID][0]) - set(hidden[F.ITEM_ID][0]) == {"101"}


def test_suggest_completes():
    answer = ask("suggest", prefix=["chee"], k=[3])
    assert answer[F.COMPLETION][0][0].startswith("cheese")


def test_similar_items_have_near_texts(vectors):
    place = ITEMS.index("113")
    answer = ask("similar", item_id=["113"], k=[7])
    near = vectors @ vectors[place]
    near[place] = -np.inf
    expected = np.sort(near)[::-1][:7]
    np.testing.assert_allclose(answer[F.SCORE][0], expected, atol=1e-5)
    np.testing.assert_allclose(
        [near[ITEMS.index(item)] for item in answer[F.ITEM_ID][0]], expected, atol=1e-5
    )
    assert set(answer[F.SOURCE][0]) == {"similar"}
    assert set(answer[F.REASON][0]) == {"Similar to milk"}


def test_similar_to_something_unknown_is_what_most_people_bought():
    popularity = tiny_search.catalogue().popularity
    answer = ask("similar", item_id=["nothing"], k=[80])
    wanted = [ITEMS[at] for at in np.argsort(-popularity, kind="stable") if popularity[at] > 0]
    assert [item for item in answer[F.ITEM_ID][0] if item] == wanted
    assert answer[F.SCORE][0][0] == 1
    assert answer[F.REASON][0][0] == CONFIG.serving.reasons.trending
    assert not answer[F.REASON][0][-1]


def test_vectors_of_items_are_those_of_their_texts(vectors):
    for item in ("100", "159"):
        np.testing.assert_allclose(
            ask("embed_item", item_id=[item])[F.EMBEDDING][0], vectors[ITEMS.index(item)]
        )
    assert not ask("embed_item", item_id=["nothing"])[F.EMBEDDING].any()
    words = tiny_shop.items().text[1]
    np.testing.assert_allclose(ask("embed_text", text=[words])[F.EMBEDDING][0], vectors[0], atol=1e-5)


def test_it_can_be_exported_and_warmed_up(tmp_path):
    """As the pipeline does it: stock ops, and every signature answers as before."""
    folder = str(tmp_path / "1")
    servables.export(servable(), signatures(), folder)
    values = servables.neutral_inputs(tiny_shop.items(), np.arange(1, 9)) | servables.nobody()
    requests = servables.predict_requests(signatures(), values)
    servables.write_warmup(requests, folder)
    loaded = tf.saved_model.load(folder)
    assert {request.model_spec.signature_name for request in requests} == set(loaded.signatures)
    for request in requests:
        name = request.model_spec.signature_name
        given = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        again = loaded.signatures[name](**given)
        for key, value in signatures()[name](**given).items():
            if value.dtype.is_floating:
                np.testing.assert_allclose(again[key], value, atol=1e-5)
            else:
                np.testing.assert_array_equal(again[key], value)
