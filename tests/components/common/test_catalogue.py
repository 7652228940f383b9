"""Vocabularies as the models read them, from graphs that Transform's own analysis wrote."""

import functools

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_transform import beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from components.common import catalogue
from components.retrieval_trainer import examples
from models.data import example_io, preprocessing
from models.data.requests import RequestParser
from schema import names as F
from schema.config import Users
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, record_batch

slow = pytest.mark.slow  # Transform analyses two tables
USERS = Users(path="x", user_id="x", categorical={"region": "x", "age": "x"}, sensitive=["age"])
ROWS = [("u01", "north", "30"), ("ü02", "süd", "40"), ("u03", "north", "")]


def write_graph(rows, function, custom_config, folder):
    """Analyses rows of lists as the component Transform does, and writes the graph."""
    types = {str: tf.string, int: tf.int64, float: tf.float32}
    spec = {
        name: tf.io.VarLenFeature(next(types[type(value)] for row in rows for value in row[name]))
        for name in rows[0]
    }
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with tft_beam.Context(temp_dir=str(folder / "temporary")), beam.Pipeline() as pipeline:
        data = pipeline | beam.Create(rows)
        _, transform = (data, metadata) | tft_beam.AnalyzeAndTransformDataset(
            functools.partial(function, custom_config=custom_config)
        )
        _ = transform | tft_beam.WriteTransformFn(str(folder / "graph"))
    return str(folder / "graph")


@pytest.fixture(scope="module")
def event_graph(tmp_path_factory):
    rows = [
        {
            F.USER_ID: [user],
            F.TIMESTAMP: [tiny_shop.START],
            F.TARGET_ITEM_ID: ["ид 1", "7"],
            F.TARGET_EVENT_TYPE: ["purchase", "view"],
            F.HISTORY_ITEM_ID: ["7"],
            F.HISTORY_EVENT_TYPE: ["purchase"],
            F.HISTORY_AGE_DAYS: [2.0],
            F.context("store_id"): ["s1"],
        }
        for user, _, _ in ROWS
    ]
    config = {"contexts": ["store_id"], "min_item_events": 1}
    folder = tmp_path_factory.mktemp("events")
    return write_graph(rows, preprocessing.events_preprocessing_fn, config, folder)


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    """(folder of the transformed users, graph): what Transform knows of them, sensitive or not."""
    folder = tmp_path_factory.mktemp("users")
    rows = [{F.USER_ID: [user], "region": [region], "age": [age]} for user, region, age in ROWS]
    graph = write_graph(
        rows, preprocessing.users_preprocessing_fn, {"categorical": ["region", "age"]}, folder
    )
    codes = {"region": ["north", "süd"], "age": ["40", "30"]}
    columns = {F.USER_ID: [[user] for user, _, _ in ROWS]}
    for place, name in enumerate(("region", "age"), 1):
        columns[name] = [[codes[name].index(row[place]) + 1 if row[place] else 0] for row in ROWS]
    example_io.write_records(str(folder / "Split-users"), [record_batch(columns)])
    return str(folder), graph


@pytest.fixture(scope="module")
def vocabularies(event_graph, users):
    return catalogue.load_vocabularies(event_graph, ["store_id"], USERS, *users)


def test_sensitive_attributes_are_not_for_models():
    assert catalogue.attribute_names(USERS) == ["region"]
    assert catalogue.attribute_names(USERS.model_copy(update={"sensitive": []})) == ["region", "age"]


@slow
def test_sensitive_attributes_are_in_no_vocabulary(vocabularies, event_graph, users):
    assert set(vocabularies.attributes) == set(vocabularies.attribute_values) == {"region"}
    assert vocabularies.attribute_values["region"] == ["north", "süd"]
    # by id, whatever the order of the records
    assert vocabularies.attribute_user == ["u01", "u03", "ü02"]
    assert vocabularies.attributes["region"].tolist() == [1, 1, 2]
    # else the test shows nothing: only the setting keeps the other attribute out
    open_to_all = USERS.model_copy(update={"sensitive": []})
    everything = catalogue.load_vocabularies(event_graph, ["store_id"], open_to_all, *users)
    assert set(everything.attributes) == {"region", "age"}


@slow
def test_sensitive_attributes_are_no_input_of_the_towers(vocabularies):
    """Neither what a request becomes nor what the towers are taught with has one."""
    items = tiny_shop.items()
    request = tiny_shop.request(["u01", "ü02"], [[("101", 2.0)], []])
    served = RequestParser(items, vocabularies, 4)(request)
    sessions = {name: np.ones(3, np.int32) for name in ("user", "weekday", "hour", "context_store_id")}
    sessions |= {name: np.ones((3, 4), np.int32) for name in ("history_item", F.HISTORY_EVENT_TYPE)}
    sessions |= {F.HISTORY_AGE_DAYS: np.ones((3, 4), np.float32), "target_item": np.ones(3, np.int32)}
    sessions |= {"target_start": np.arange(3, dtype=np.int32), "target_count": np.ones(3, np.int32)}
    data = examples.batches(
        sessions, np.arange(3), np.asarray([0, 1], np.int32), vocabularies, CONFIG.retrieval, training=False
    )
    taught = data.element_spec
    for inputs in (served, taught):
        assert {name for name in inputs if name.startswith("user_")} == {"user_region"}


@slow
def test_vocabularies_of_events_hold_letters_beyond_ascii(vocabularies, event_graph):
    assert set(vocabularies.users) == {"u01", "ü02", "u03"}
    assert vocabularies.contexts == {"store_id": ["s1"]}
    assert set(catalogue.item_vocabulary(event_graph)) == {"ид 1", "7"}


@slow
def test_a_shop_without_users_has_no_attributes(event_graph):
    found = catalogue.load_vocabularies(event_graph, ["store_id"], None, None, None)
    assert (found.attributes, found.attribute_values, found.attribute_user) == ({}, {}, [])
