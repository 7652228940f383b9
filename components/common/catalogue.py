"""The catalogue and the vocabularies, read from artifacts as every model component needs them."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft

from components.common import artifacts
from models.data import arrays, example_io
from models.data.item_table import ItemTable
from models.data.requests import Vocabularies
from schema import names as F
from schema.config import Exposures, Items, Users


def channels(exposures: Exposures | None) -> list[str]:
    """Exposure channels of the shop, none without exposures."""
    return list(exposures.channels) if exposures else []


def load_items(examples_uri: str, graph_uri: str, items: Items, exposure_channels: list[str]) -> ItemTable:
    """The catalogue from ItemTransform's outputs.

    Args:
      examples_uri: transformed items.
      graph_uri: the transform graph.
      items: the configuration's section.
      exposure_channels: channels to keep the exposures of.
    """
    table = example_io.read_table(example_io.split_folder(examples_uri, artifacts.ITEMS_SPLIT))
    return _item_table(table, tft.TFTransformOutput(graph_uri), items, exposure_channels)


def transform_items(
    examples_uri: str, graph_uri: str, items: Items, exposure_channels: list[str], batch: int = 65_536
) -> ItemTable:
    """A catalogue from raw items, with what ItemTransform learned, maybe of another version of it.

    Args:
      examples_uri: CatalogExampleGen's items.
      graph_uri: the transform graph.
      items: the configuration's section.
      exposure_channels: channels to keep the exposures of.
      batch: items transformed at a time.

    Returns:
      What :func:`load_items` gives of the same items; a category that the graph does not know is
      missing (0).
    """
    graph = tft.TFTransformOutput(graph_uri)
    files = example_io.record_files(example_io.split_folder(examples_uri, artifacts.ITEMS_SPLIT))
    layer, spec = graph.transform_features_layer(), graph.raw_feature_spec()
    records = tf.data.TFRecordDataset(files, "GZIP" if files[0].endswith(".gz") else "").batch(batch)
    tables = [example_io.to_table(layer(tf.io.parse_example(record, spec))) for record in records]
    return _item_table(pa.concat_tables(tables), graph, items, exposure_channels)


def _item_table(
    table: pa.Table, graph: tft.TFTransformOutput, items: Items, channels: list[str]
) -> ItemTable:
    vocabularies = {name: _vocabulary(graph, name) for name in items.categorical}
    return ItemTable.from_transformed(table, vocabularies, channels)


def attribute_names(users: Users) -> list[str]:
    """The users' attributes that a model may read: those that the shop did not call sensitive."""
    return [name for name in users.categorical if name not in users.sensitive]


def load_vocabularies(
    event_graph_uri: str,
    contexts: list[str],
    users: Users | None,
    users_uri: str | None,
    user_graph_uri: str | None,
) -> Vocabularies:
    """Vocabularies of users, event types and contexts, and the attributes that may be features.

    Args:
      event_graph_uri: EventTransform's graph.
      contexts: context names.
      users: the configuration's section; sensitive attributes are left out.
      users_uri, user_graph_uri: UserTransform's outputs, None without a users table.
    """
    graph = tft.TFTransformOutput(event_graph_uri)
    names = attribute_names(users) if users and users_uri else []
    attributes, values, ids = {}, {}, np.zeros(0, object)
    if names:
        table = example_io.read_table(example_io.split_folder(users_uri, artifacts.USERS_SPLIT))
        ids = example_io.first(table, F.USER_ID, "")
        by_id = np.argsort(ids)  # Transform writes its records in an order of its own in every run
        ids = ids[by_id]
        user_graph = tft.TFTransformOutput(user_graph_uri)
        attributes = {name: example_io.first(table, name, 0)[by_id].astype(np.int32) for name in names}
        values = {name: _vocabulary(user_graph, name) for name in names}
    return Vocabularies(
        users=_vocabulary(graph, F.USER_VOCABULARY),
        event_types=_vocabulary(graph, F.EVENT_TYPE_VOCABULARY),
        contexts={name: _vocabulary(graph, F.context(name)) for name in contexts},
        attribute_user=ids.tolist(),
        attributes=attributes,
        attribute_values=values,
    )


def item_vocabulary(event_graph_uri: str) -> list[str]:
    """Items with an identity embedding, in vocabulary order (index 1 is the first)."""
    return _vocabulary(tft.TFTransformOutput(event_graph_uri), F.ITEM_VOCABULARY)


def event_types(event_graph_uri: str) -> list[str]:
    """The types of event that occurred, in vocabulary order.

    Args:
      event_graph_uri: EventTransform's graph.
    """
    return _vocabulary(tft.TFTransformOutput(event_graph_uri), F.EVENT_TYPE_VOCABULARY)


def _vocabulary(graph: tft.TFTransformOutput, name: str) -> list[str]:
    return [word.decode("utf-8") for word in graph.vocabulary_by_name(name)]


def index_catalogue(uri: str) -> tuple[ItemTable, dict[str, np.ndarray]] | None:
    """The catalogue of a CandidateIndex artifact that the models did not learn from.

    Args:
      uri: the artifact's folder.

    Returns:
      (its item table, the towers' tables of it: `models.retrieval.towers.item_tables`); None if the
      index is of the catalogue that the models learned from.
    """
    folder = os.path.join(uri, artifacts.CATALOGUE)
    if not tf.io.gfile.isdir(folder):
        return None
    return ItemTable.load(folder), arrays.load(os.path.join(folder, artifacts.ITEM_TABLES))
