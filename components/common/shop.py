"""What every model component reads: the catalogue, the vocabularies and the time windows."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft

from models.data import example_io
from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from models.data.requests import Vocabularies
from schema import names as F
from schema.config import Exposures, Items, Ranking, Split, Users

ITEMS_SPLIT, USERS_SPLIT = "items", "users"
SPLITS = ("train", "eval", "test")
# Property of models: unix seconds; their towers learned from events before it only.
LEARNED_UNTIL = "learned_until"


@dataclasses.dataclass(frozen=True)
class Windows:
    """Which events are the past and which are the labels of an evaluation.

    Attributes:
      past: splits that models may learn from.
      future: the split that they are scored on.
      cutoff: unix seconds: everything before it is the past. With leave-one-out, where the future
        of one user is the past of another, the second after the last event.
      end: unix seconds: the future ends before it.
      by_time: whether the cutoff alone divides past and future (not leave-one-out).
    """

    past: tuple[str, ...]
    future: str
    cutoff: int
    end: int
    by_time: bool = True

    @classmethod
    def of(cls, examples: object, split: Split) -> Windows:
        """From the properties of EventExampleGen's artifact and the configuration.

        Args:
          examples: the Examples artifact.
          split: the configuration's section.
        """
        train_end, eval_end, data_end = (
            examples.get_int_custom_property(name) for name in ("train_end", "eval_end", "data_end")
        )
        by_time = split.strategy == "time"
        if split.evaluate_on == "test":
            return cls(("train", "eval"), "test", eval_end, data_end + 1, by_time)
        return cls(("train",), "eval", train_end, eval_end, by_time)

    @property
    def splits(self) -> tuple[str, ...]:
        """Past and future: the folders of a log for :meth:`divide`, in this order."""
        return (*self.past, self.future)

    def divide(self, log: EventLog) -> tuple[EventLog, EventLog]:
        """(past, future) of a log read from the folders of `splits`."""
        if self.by_time:
            return log.before(self.cutoff), log.between(self.cutoff, self.end)
        is_past = log.part < len(self.past)
        return log.where(is_past), log.where(~is_past)

    def moments(self, future: EventLog) -> np.ndarray:
        """When each user asks: the cutoff or, with leave-one-out, when their session begins.

        Args:
          future: from :meth:`divide`.

        Returns:
          int64 [users of the log], unix seconds.
        """
        out = np.full(len(future.users), self.cutoff, np.int64)
        if not self.by_time:
            np.minimum.at(out, future.user, future.timestamp)
        return out

    def label_starts(self, ranking: Ranking) -> list[int]:
        """Starts of the ranker's label windows, oldest first, in unix seconds.

        Window i spans `window_days` and the last one ends at the cutoff.
        """
        length = int(ranking.window_days * F.SECONDS_PER_DAY)
        return [self.cutoff - length * back for back in range(ranking.windows, 0, -1)]


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
    table = example_io.read_table(example_io.split_folder(examples_uri, ITEMS_SPLIT))
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
    files = example_io.record_files(example_io.split_folder(examples_uri, ITEMS_SPLIT))
    layer, spec = graph.transform_features_layer(), graph.raw_feature_spec()
    records = tf.data.TFRecordDataset(files, "GZIP" if files[0].endswith(".gz") else "").batch(batch)
    tables = [example_io.to_table(layer(tf.io.parse_example(record, spec))) for record in records]
    return _item_table(pa.concat_tables(tables), graph, items, exposure_channels)


def _item_table(
    table: pa.Table, graph: tft.TFTransformOutput, items: Items, channels: list[str]
) -> ItemTable:
    vocabularies = {name: _vocabulary(graph, name) for name in items.categorical}
    return ItemTable.from_transformed(table, vocabularies, channels)


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
    names = [name for name in users.categorical if name not in users.sensitive] if users and users_uri else []
    attributes, values, ids = {}, {}, np.zeros(0, object)
    if names:
        table = example_io.read_table(example_io.split_folder(users_uri, USERS_SPLIT))
        ids = example_io.first(table, F.USER_ID, "")
        user_graph = tft.TFTransformOutput(user_graph_uri)
        attributes = {name: example_io.first(table, name, 0).astype(np.int32) for name in names}
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


def _vocabulary(graph: tft.TFTransformOutput, name: str) -> list[str]:
    return [word.decode("utf-8") for word in graph.vocabulary_by_name(name)]


def model_folder(uri: str) -> str:
    """Folder of the SavedModel inside a Model artifact, where TFX looks for it."""
    return os.path.join(uri, "Format-Serving")
