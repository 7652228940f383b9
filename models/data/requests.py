"""A request's strings turned into rows and codes, once, at the edge of the graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.data.preprocessing import clean, hour_of, weekday_of
from schema import names as F


@dataclasses.dataclass(frozen=True)
class Vocabularies:
    """What the event Transform learned, and the users' attributes.

    Attributes:
      users: user ids with an embedding, in vocabulary order (index 1 is the first).
      event_types: event types in vocabulary order.
      contexts: context -> its values in vocabulary order.
      attribute_user: user ids of the users table.
      attributes: attribute -> int32 codes of those users (0 = missing).
      attribute_values: attribute -> values in vocabulary order.
    """

    users: Sequence[str]
    event_types: Sequence[str]
    contexts: Mapping[str, Sequence[str]]
    attribute_user: Sequence[str]
    attributes: Mapping[str, np.ndarray]
    attribute_values: Mapping[str, Sequence[str]]


def request_spec(contexts: Sequence[str]) -> dict[str, tf.TensorSpec]:
    """Inputs that say who asks, what they did and where (all signatures about a user)."""
    spec = {
        F.USER_ID: tf.TensorSpec([None], tf.string, F.USER_ID),
        F.HISTORY_ITEM_ID: tf.TensorSpec([None, None], tf.string, F.HISTORY_ITEM_ID),
        F.HISTORY_AGE_DAYS: tf.TensorSpec([None, None], tf.float32, F.HISTORY_AGE_DAYS),
        F.HISTORY_EVENT_TYPE: tf.TensorSpec([None, None], tf.string, F.HISTORY_EVENT_TYPE),
        F.CONTEXT_TIMESTAMP: tf.TensorSpec([None], tf.int64, F.CONTEXT_TIMESTAMP),
    }
    spec |= {F.context(name): tf.TensorSpec([None], tf.string, F.context(name)) for name in contexts}
    return spec


def absent(index: tf.Tensor, size: int | tf.Tensor) -> tf.Tensor:
    """bool [B, size]: which of 0 to size - 1 are not among `index` (int32 [B, N], at most size)."""
    batch = tf.shape(index)[0]
    # one element more for an index of `size`, which is none of them
    flat = tf.reshape(index + (tf.range(batch) * (size + 1))[:, None], [-1, 1])
    mask = tf.scatter_nd(flat, tf.ones(tf.shape(flat)[:1], tf.int32), [batch * (size + 1)])
    return tf.reshape(mask == 0, [batch, size + 1])[:, :size]


def lookup(keys: Sequence[str], values: np.ndarray, name: str, default: int = 0) -> tf.lookup.StaticHashTable:
    """A table from strings to numbers (int32), `default` for all other strings."""
    # at least one entry: an empty table cannot be exported
    keys = list(keys) or ["\0none"]
    values = values if len(values) else np.zeros(1, np.int32)
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(keys, tf.string), tf.constant(values, tf.int32)
    )
    return tf.lookup.StaticHashTable(initializer, default, name=name)


class _Stored(tf.lookup.KeyValueTensorInitializer):
    """Fills a hash table from a variable.

    The keys of TensorFlow's own initializer are constants: every pass of its graph optimiser would copy
    the ids of a large catalogue, for every signature.

    Args:
      keys: string [V], item ids by row; row 0 is "" and no key. The value of a key is its row.
    """

    def __init__(self, keys: tf.Variable) -> None:
        super().__init__(tf.constant([], keys.dtype), tf.constant([], tf.int32))
        self._stored = keys

    def initialize(self, table: tf.lookup.StaticHashTable) -> tf.Operation:
        """Runs when the table is made, and in a SavedModel after the variables were restored."""
        keys = self._stored[1:]
        rows = tf.range(1, tf.size(keys) + 1)
        return tf.raw_ops.LookupTableImportV2(table_handle=table.resource_handle, keys=keys, values=rows)


class RequestParser(tf.Module):
    """Turns the inputs of `recommend` and its relatives into rows and codes.

    Args:
      items: the catalogue.
      vocabularies: of users, event types and contexts.
      history_length: events of a request that are read: the last ones.
    """

    def __init__(self, items: ItemTable, vocabularies: Vocabularies, history_length: int) -> None:
        super().__init__(name="request_parser")
        self.item_ids = frozen_table(items.item_id, tf.string, "item_id")
        self._item = tf.lookup.StaticHashTable(_Stored(self.item_ids), 0, name="item")
        self._user = _index(vocabularies.users, "user")
        self._event_type = _index(vocabularies.event_types, "event_type")
        self._contexts = {name: _index(values, name) for name, values in vocabularies.contexts.items()}
        self._attribute_user = _index(vocabularies.attribute_user, "attribute_user")
        self._attributes = {
            name: tf.constant(np.concatenate([[0], codes]), tf.int32)
            for name, codes in vocabularies.attributes.items()
        }
        self._length = history_length
        self.event_types = tuple(vocabularies.event_types)

    def rows(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Item rows, int32, of ids (string, any shape); 0 where unknown or empty."""
        return self._item.lookup(item_ids)

    @tf.Module.with_name_scope
    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The query tower's inputs (see `models.retrieval.towers.QueryTower`) of a request, and its moment.

        Raises:
          tf.errors.InvalidArgumentError: ages or event types of another shape than the item ids.
        """
        timestamp = inputs[F.CONTEXT_TIMESTAMP]
        item_ids, ages, types = self._history(inputs)
        # moves the real events to the right end, in their order, and keeps the last ones
        order = tf.argsort(tf.cast(item_ids != "", tf.int32), axis=1, stable=True)[:, -self._length :]
        age = tf.gather(ages, order, batch_dims=1)
        # NaN or negative ages (a clock that runs ahead) would poison every feature: an event
        # can at best be happening now
        age = tf.where(tf.math.is_finite(age), tf.clip_by_value(age, 0.0, 3650.0), 3650.0)
        user = self._attribute_user.lookup(inputs[F.USER_ID])
        parsed = {
            "user": self._user.lookup(inputs[F.USER_ID]),
            "history_row": self.rows(tf.gather(item_ids, order, batch_dims=1)),
            F.HISTORY_AGE_DAYS: age,
            F.HISTORY_EVENT_TYPE: self._event_type.lookup(tf.gather(types, order, batch_dims=1)),
            "now": timestamp,
            "weekday": weekday_of(timestamp),
            "hour": hour_of(timestamp),
        }
        parsed |= {F.user_attribute(name): tf.gather(codes, user) for name, codes in self._attributes.items()}
        parsed |= {
            F.context(name): table.lookup(clean(inputs[F.context(name)]))
            for name, table in self._contexts.items()
        }
        return parsed

    def _history(self, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Item ids, ages and event types, [B, L] each, once they are known to be as many.

        A history without a place ([B, 0], how a client writes somebody new) gets one of padding, so
        that nothing behind has to do without the last axis: L is at least 1.
        """
        item_ids = inputs[F.HISTORY_ITEM_ID]
        checks = [
            tf.debugging.assert_equal(
                tf.shape(inputs[name]),
                tf.shape(item_ids),
                f"{name} must have the shape of {F.HISTORY_ITEM_ID}, one value an event;",
            )
            for name in (F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE)
        ]
        # what reads the history waits for the checks: its gather could fail first, without the input's name
        with tf.control_dependencies(checks):
            missing = [[0, 0], [0, tf.cast(tf.equal(tf.shape(item_ids)[1], 0), tf.int32)]]
        return (
            tf.pad(item_ids, missing, constant_values=""),
            tf.pad(inputs[F.HISTORY_AGE_DAYS], missing),
            tf.pad(inputs[F.HISTORY_EVENT_TYPE], missing, constant_values=""),
        )


def _index(values: Sequence[str], name: str) -> tf.lookup.StaticHashTable:
    return lookup(values, np.arange(1, len(values) + 1, dtype=np.int32), name)
