"""Items added and withdrawn by rebuilding the index alone, with the models as they are."""

import functools
import os

import numpy as np
import pytest
import tensorflow as tf

from components.candidate_index import executor
from components.common import artifacts
from components.common.catalogue import index_catalogue
from components.common.retriever_inputs import RetrieverFactory
from models.data import arrays
from models.funnel.servable import Funnel
from schema import names as F
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, rank_inputs, recommend_inputs, text

pytestmark = pytest.mark.slow

# A copy of an item that no tower has an identity of, one with a text that was never encoded, and
# one of the ids that events speak of and the catalogue lacked.
COPY, UNSEEN, KNOWN_ID = "1580", "0novel", tiny_shop.STRANGER
WITHDRAWN, MOVED = "100", "103"
NEW = (COPY, UNSEEN, KNOWN_ID)


@functools.cache
def catalogue():
    """The catalogue of today: the rows of all items differ from those that were learned from."""
    frame = tiny_shop.item_frame().copy()
    copy, unseen, stranger = (frame[frame["item_id"] == "158"].copy() for _ in range(3))
    copy["item_id"], unseen["item_id"], stranger["item_id"] = COPY, UNSEEN, KNOWN_ID
    unseen["text"] = "cheese. no 777"
    frame.loc[frame["item_id"] == MOVED, "department"] = 3
    kept = frame[frame["item_id"] != WITHDRAWN]
    rows = type(frame)(np.concatenate([kept, copy, unseen, stranger]), columns=frame.columns)
    return tiny_shop.write_items(rows, tiny_shop.folder() / "items_today/Split-items")


@functools.cache
def index():
    """(artifact folder, what was found)"""
    out = str(tiny_shop.folder() / "index_today")
    towers = tiny_shop.towers()[0]
    vectors, new = executor.encode_catalogue(
        catalogue(), tiny_shop.items(), tiny_shop.item_vocabulary(), tiny_shop.text_encoder()[0], towers, out
    )
    queries = executor.load_queries(towers, tiny_shop.items(), catalogue())
    found = executor.run(
        tiny_shop.past_log(),
        tiny_shop.event_types(),
        catalogue(),
        vectors,
        queries,
        new,
        [CUTOFF],
        CONFIG.candidates,
        0.95,
        out,
        CONFIG.exposures,
        CONFIG.items.category,
    )
    return out, found


@functools.cache
def factory():
    items, tables = index_catalogue(index()[0])
    # lists long enough for every candidate
    sizes = CONFIG.candidates.model_copy(update={"two_tower": 80})
    config = CONFIG.model_copy(update={"candidates": sizes})
    return RetrieverFactory(
        config, items, tiny_shop.vocabularies(), tiny_shop.towers()[0], index()[0], tables
    )


@functools.cache
def before():
    """(vectors by id, towers) of the catalogue that was learned from"""
    towers = tiny_shop.towers()[0]
    vectors = arrays.load(os.path.join(towers, artifacts.ITEM_VECTORS))["vectors"]
    return dict(zip(tiny_shop.items().item_id, vectors, strict=True)), towers


@functools.cache
def today():
    return dict(zip(factory().items.item_id, factory().item_vectors, strict=True))


@functools.cache
def servable():
    """Signatures of today's servable, exported and loaded."""
    ranker = tiny_shop.load(artifacts.model_folder(tiny_shop.built().ranking))
    encoder = tiny_shop.load(artifacts.model_folder(tiny_shop.text_encoder()[0]))
    funnel = Funnel(factory().at(CUTOFF), ranker, encoder.encode, encoder, factory().items, CONFIG)
    folder = str(tiny_shop.folder() / "servable_today")
    tf.saved_model.save(funnel, folder, signatures=funnel.signatures())
    loaded = tf.saved_model.load(folder)  # kept: its signatures do not keep its variables

    def call(name, **inputs):
        return {key: text(value) for key, value in loaded.signatures[name](**inputs).items()}

    return call


def test_the_index_carries_its_catalogue():
    items = factory().items
    assert set(items.item_id) == {"", *tiny_shop.ITEMS, *NEW} - {WITHDRAWN}
    assert items.same_items(catalogue())
    found = index()[1]
    assert found["items"] == len(tiny_shop.ITEMS) + 2
    assert found["new_items"] == 3
    assert found["summary"].endswith("; 3 items that no model learned from")


def test_an_unchanged_catalogue_is_that_of_the_models(tmp_path):
    towers = tiny_shop.towers()[0]
    vectors, new = executor.encode_catalogue(
        tiny_shop.items(), tiny_shop.items(), [], "not read", towers, str(tmp_path)
    )
    np.testing.assert_array_equal(
        vectors, arrays.load(os.path.join(towers, artifacts.ITEM_VECTORS))["vectors"]
    )
    assert not len(new)
    assert index_catalogue(str(tmp_path)) is None


def test_items_keep_their_vectors():
    for item in set(tiny_shop.ITEMS) - {WITHDRAWN, MOVED}:
        np.testing.assert_allclose(today()[item], before()[0][item], atol=1e-6)
    assert np.abs(today()[MOVED] - before()[0][MOVED]).max() > 1e-3  # it has another category


def test_a_new_item_is_encoded_from_its_text_and_categories():
    # nobody bought 158: no identity, so content is all that the tower sees of it
    for item in (COPY, KNOWN_ID):
        np.testing.assert_allclose(today()[item], before()[0]["158"], atol=1e-6)
    assert np.abs(today()[UNSEEN] - today()[COPY]).max() > 1e-3  # another text
    items, tables = index_catalogue(index()[0])
    encoder = tiny_shop.load(artifacts.model_folder(tiny_shop.text_encoder()[0]))
    got = tables["text_vectors"][tables["text_index"]]
    np.testing.assert_allclose(got, encoder.encode(tf.constant(items.text.tolist())), atol=1e-5)


def test_a_new_item_is_a_candidate_at_once_and_a_withdrawn_one_is_none():
    at = factory().at(CUTOFF).sources
    names = set(factory().items.item_id[at.candidate_row.numpy()[:-1]])
    old = tiny_shop.factory().at(CUTOFF).sources
    expected = set(tiny_shop.items().item_id[old.candidate_row.numpy()[:-1]])
    assert WITHDRAWN in expected
    assert names == expected - {WITHDRAWN} | set(NEW)


def test_requests_are_answered_from_the_catalogue_of_today():
    inputs = tiny_shop.request(["u01", "u02", "nobody"], [[("101", 3.0), (WITHDRAWN, 2.0)], [], []])
    answer = servable()("recommend", **recommend_inputs(inputs, 80))
    for ids in answer[F.ITEM_ID]:
        assert WITHDRAWN not in ids
        assert set(NEW) <= set(ids)
    of = {row[0]: row for row in zip(*(answer[name][0] for name in (F.ITEM_ID, F.ITEM_TEXT)), strict=True)}
    assert of[UNSEEN][1] == "cheese. no 777"
    near = servable()("similar", item_id=tf.constant([COPY, WITHDRAWN]), k=tf.constant([3, 3]))
    assert near[F.ITEM_ID][0, 0] == KNOWN_ID  # of the same text and categories
    assert set(near[F.SOURCE][1]) == {F.TRENDING}  # it is unknown now
    asked = tf.constant([[COPY, WITHDRAWN, "101"]] * 3)
    score = servable()("rank", **rank_inputs(inputs, asked))[F.SCORE]
    assert (score[:, [0, 2]] > 0).all()
    assert not score[:, 1].any()
    vectors = servable()("embed_item", item_id=tf.constant([COPY, WITHDRAWN]))[F.EMBEDDING]
    np.testing.assert_allclose(vectors[0, : CONFIG.retrieval.embedding_dim], before()[0]["158"], atol=1e-6)
    assert not vectors[1].any()


def test_a_click_on_a_new_item_is_understood():
    """The history's tables are those of today as well."""
    at = factory().at(CUTOFF)
    old = tiny_shop.factory().at(CUTOFF)

    def learned(retriever, item):
        query = retriever.query(retriever.parser(tiny_shop.request(["u01"], [[(item, 1.0)]])))
        return query.numpy()[:, : CONFIG.retrieval.embedding_dim]

    np.testing.assert_allclose(learned(at, COPY), learned(old, "158"), atol=1e-6)
    assert np.abs(learned(at, COPY) - learned(at, "no such item")).max() > 1e-3
    np.testing.assert_array_equal(learned(at, WITHDRAWN), learned(at, "no such item"))


def test_the_measured_queries_follow_the_items_to_their_new_rows():
    towers = tiny_shop.towers()[0]
    then = executor.load_queries(towers, tiny_shop.items(), tiny_shop.items())["history_row"]
    now = executor.load_queries(towers, tiny_shop.items(), catalogue())["history_row"]
    old, new = tiny_shop.items().item_id[then], catalogue().item_id[now]
    assert (old == WITHDRAWN).any()
    np.testing.assert_array_equal(new, np.where(old == WITHDRAWN, "", old))


def test_every_table_of_the_towers_is_replaced():
    """Else the rows of one catalogue would be looked up in another."""
    folder = artifacts.model_folder(tiny_shop.towers()[0])
    towers = tf.saved_model.load(folder)
    assert set(towers.item_tables) == set(index_catalogue(index()[0])[1])
    rows = len(tiny_shop.items())
    by_row = [name for name, table in towers.item_tables.items() if len(table.numpy()) == rows]
    shapes = [shape for _, shape in tf.train.list_variables(os.path.join(folder, "variables", "variables"))]
    assert len([shape for shape in shapes if shape and shape[0] == rows]) == len(by_row)
    assert set(towers.item_tables) - set(by_row) == {"text_vectors"}
