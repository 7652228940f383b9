"""RequestParser against naive parsing of each request."""

import dataclasses
import datetime as dt
import math

import numpy as np
import pytest
import tensorflow as tf

from models.data.preprocessing import hour_of, weekday_of
from models.data.requests import RequestParser, Vocabularies
from tests.shops import tiny_shop

UTC = dt.UTC


@pytest.fixture(scope="module")
def items():
    return tiny_shop.items()


def parse(items, inputs, length=6):
    parser = RequestParser(items, tiny_shop.vocabularies(), length)
    eager = parser(inputs)
    graph = tf.function(parser, autograph=False)(inputs)
    for name, value in eager.items():
        np.testing.assert_array_equal(value, graph[name])
    return {name: value.numpy() for name, value in eager.items()}


def inputs_of(ids, ages=None, types=None, user="u03"):
    ages = [[1.0] * len(row) for row in ids] if ages is None else ages
    types = [["purchase"] * len(row) for row in ids] if types is None else types
    size = len(ids)
    return tiny_shop.request([user] * size, [[]] * size) | {
        "history_item_id": tf.constant(ids),
        "history_age_days": tf.constant(ages, tf.float32),
        "history_event_type": tf.constant(types),
    }


def test_padding_anywhere_goes_to_the_front_and_the_order_stays(items):
    ids = [["", "105", "", "101", "103"], ["110", "", "", "", ""], ["", "", "", "", ""]]
    ages = [[0, 9, 0, 5, 1], [4, 0, 0, 0, 0], [0] * 5]
    types = [["", "view", "", "purchase", "gift"], ["purchase", "", "", "", ""], [""] * 5]
    parsed = parse(items, inputs_of(ids, ages, types))
    row = {item: index for index, item in enumerate(items.item_id)}
    assert parsed["history_row"].tolist() == [
        [0, 0, row["105"], row["101"], row["103"]],
        [0, 0, 0, 0, row["110"]],
        [0] * 5,
    ]
    assert parsed["history_age_days"].tolist() == [[0, 0, 9, 5, 1], [0, 0, 0, 0, 4], [0] * 5]
    # view is the second of the vocabulary, gift is unknown
    assert parsed["history_event_type"].tolist() == [[0, 0, 2, 1, 0], [0, 0, 0, 0, 1], [0] * 5]


@pytest.mark.parametrize("length", [1, 3, 5, 9])
def test_a_history_longer_than_the_limit_keeps_its_last_events(items, length):
    ids = [["101", "", "102", "103", "", "104", "105", ""]]
    ages = [[8, 0, 7, 6, 0, 5, 4, 0]]
    parsed = parse(items, inputs_of(ids, ages), length)
    expected = [(item, age) for item, age in zip(ids[0], ages[0], strict=True) if item][-length:]
    width = min(length, 8)
    got = [
        (items.item_id[r], a)
        for r, a in zip(parsed["history_row"][0], parsed["history_age_days"][0], strict=True)
    ]
    assert len(got) == width
    assert got[width - len(expected) :] == expected
    assert {item for item, _ in got[: width - len(expected)]} <= {""}


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (3.5, 3.5), (0.0, 0.0), (-0.1, 0.0), (-1e9, 0.0), (1e9, 3650.0),
        (math.nan, 3650.0), (math.inf, 3650.0), (-math.inf, 3650.0),
    ],
)  # fmt: skip
def test_ages_are_made_sound(items, age, expected):
    parsed = parse(items, inputs_of([["101", "102"]], [[age, 2.0]]))
    assert parsed["history_age_days"].tolist() == [[expected, 2.0]]


def test_unknown_items_users_stores_and_types_are_zero(items):
    inputs = inputs_of([[tiny_shop.STRANGER, "100"]], types=[["stolen", "view"]], user="nobody")
    inputs["context_store_id"] = tf.constant(["s3"])  # not in the vocabulary
    parsed = parse(items, inputs)
    assert parsed["history_row"].tolist() == [[0, 1]]
    assert parsed["history_event_type"].tolist() == [[0, 2]]
    assert parsed["user"].tolist() == [0]
    assert parsed["user_region"].tolist() == [0]
    assert parsed["context_store_id"].tolist() == [0]


def test_users_attributes_and_stores_are_coded(items):
    vocabularies = tiny_shop.vocabularies()
    names = [*tiny_shop.USERS, "", "nobody"]
    for store in ("s1", "s2", ""):
        parsed = parse(items, tiny_shop.request(names, [[]] * len(names), [store] * len(names)))
        for place, name in enumerate(names):
            users = list(vocabularies.users)
            assert parsed["user"][place] == (users.index(name) + 1 if name in users else 0)
            known = list(vocabularies.attribute_user)
            region = vocabularies.attributes["region"][known.index(name)] if name in known else 0
            assert parsed["user_region"][place] == region
            assert parsed["context_store_id"][place] == {"s2": 1, "s1": 2}.get(store, 0)
    # else the test shows nothing
    assert len(set(parsed["user_region"])) == 3
    assert set(vocabularies.attribute_user) != set(vocabularies.users)


def test_positions_of_a_request_without_any_place_for_history(items):
    """serving_default makes [B, 0] of examples that all lack a history."""
    inputs = inputs_of([["101"]]) | {
        "history_item_id": tf.zeros([2, 0], tf.string),
        "history_age_days": tf.zeros([2, 0]),
        "history_event_type": tf.zeros([2, 0], tf.string),
    }
    parsed = parse(items, inputs)
    assert parsed["history_row"].shape[0] == 2
    assert not parsed["history_row"].any()


def test_a_shop_without_users_table_types_or_contexts(items):
    empty = Vocabularies([], [], {}, [], {}, {})
    parsed = RequestParser(items, empty, 4)(inputs_of([["101", ""]]))
    assert parsed["user"].numpy().tolist() == [0]
    assert parsed["history_event_type"].numpy().tolist() == [[0, 0]]
    assert not [name for name in parsed if name.startswith(("user_", "context_"))]


@pytest.mark.parametrize(
    "when",
    [
        dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        dt.datetime(2000, 2, 29, 23, 59, 59, tzinfo=UTC),
        dt.datetime(2017, 12, 4, 4, 1, 20, tzinfo=UTC),
        dt.datetime(2024, 6, 30, tzinfo=UTC),
        dt.datetime(2026, 11, 22, 12, 30, tzinfo=UTC),
        *(dt.datetime(2017, 1, day, 2 * day, tzinfo=UTC) for day in range(2, 9)),
    ],
)
def test_weekday_and_hour_equal_the_calendar(items, when):
    stamp = int(when.timestamp())
    parsed = parse(items, tiny_shop.request(["u01"], [[]], timestamp=stamp))
    assert parsed["weekday"].tolist() == [when.isoweekday()]
    assert parsed["hour"].tolist() == [when.hour + 1]


@pytest.mark.parametrize("stamp", [0, -1, -(10**9)])
def test_an_unknown_time_has_no_weekday_or_hour(stamp):
    values = tf.constant([stamp], tf.int64)
    assert weekday_of(values).numpy().tolist() == hour_of(values).numpy().tolist() == [0]
    assert weekday_of(values).dtype == hour_of(values).dtype == tf.int32


@pytest.mark.parametrize("name", ["history_age_days", "history_event_type"])
@pytest.mark.parametrize("size", [1, 3])
def test_ages_and_types_that_are_not_one_an_event_are_refused_by_name(items, name, size):
    inputs = inputs_of([["101", "102"]])
    inputs[name] = tf.repeat(inputs[name][:, :1], size, 1)
    parser = RequestParser(items, tiny_shop.vocabularies(), 6)
    # as a signature sees it: the sizes are not known when the graph is made
    spec = {key: tf.TensorSpec([None] * value.ndim, value.dtype) for key, value in inputs.items()}
    graph = tf.function(parser, autograph=False, input_signature=[spec])
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} must have the shape of history_item"):
        graph(inputs)


def test_the_catalogue_is_stored_beside_the_graph_and_not_in_it(items, tmp_path):
    """A version of 100,000 items loads in seconds only if the optimiser does not copy their ids."""
    ids = np.asarray(["", *(f"article {name}" for name in items.item_id[1:])], object)
    module = tf.Module()
    module.parser = RequestParser(dataclasses.replace(items, item_id=ids), tiny_shop.vocabularies(), 6)
    module.rows = tf.function(
        lambda ids: tf.gather(module.parser.item_ids, module.parser.rows(ids)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    assert ids[-1].encode() not in (tmp_path / "saved_model.pb").read_bytes()
    asked = [*ids, "never seen"]
    loaded = tf.saved_model.load(str(tmp_path))
    assert [name.decode() for name in loaded.rows(tf.constant(asked)).numpy()] == [*ids, ""]
