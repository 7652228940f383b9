"""The two towers: items from identity and content, queries from user, history and context.

Architecture after Covington et al., "Deep neural networks for YouTube recommendations",
RecSys 2016, and Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
recommendations", RecSys 2019; identity dropout after Volkovs et al., "DropoutNet: addressing
cold start in recommender systems", NeurIPS 2017.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.data.requests import Vocabularies
from schema import names as F

# Upper limits, in days, of the age buckets that history events fall into.
AGE_BUCKETS = (0.5, 1, 2, 3, 5, 7, 10, 14, 21, 28, 42, 60, 90, 120, 180, 270)


@dataclasses.dataclass(frozen=True)
class QuerySpec:
    """Sizes of the query tower's vocabularies (each counts the reserved index 0).

    Attributes:
      users: size of the user vocabulary.
      event_types: size of the event type vocabulary.
      attributes: user attribute -> vocabulary size.
      contexts: context -> vocabulary size.
    """

    users: int
    event_types: int
    attributes: Mapping[str, int]
    contexts: Mapping[str, int]


def identity_index(vocabulary: Sequence[str], items: ItemTable) -> np.ndarray:
    """Index in the identity vocabulary of every item row.

    Args:
      vocabulary: ids of the items with an embedding of their own; index 1 is the first.
      items: the catalogue.

    Returns:
      int32 [V], 0 for an item that is not in the vocabulary.
    """
    found = pd.Index(np.asarray(vocabulary, object)).get_indexer(items.item_id)
    return (found + 1).astype(np.int32)


def item_tables(
    items: ItemTable, id_index: np.ndarray, text_vectors: np.ndarray, text_index: np.ndarray
) -> dict[str, np.ndarray]:
    """What the towers know of each item row of a catalogue.

    Assigned to the tables of trained towers (:func:`set_item_tables`), it makes them encode this
    catalogue even if they learned from another version of it.

    Args:
      items: the catalogue.
      id_index, text_vectors, text_index: as :class:`ItemEmbedding` and :class:`ItemTower` take them.

    Returns:
      name -> array, by the names of `ItemTower.item_tables`.
    """
    codes = {f"code/{name}": code for name, code in items.categorical.items()}
    return codes | {"identity": id_index, "text_vectors": text_vectors, "text_index": text_index}


def set_item_tables(towers: Any, tables: Mapping[str, np.ndarray]) -> None:
    """Makes exported towers (RetrievalTrainer's SavedModel) encode another catalogue.

    Args:
      towers: the loaded model.
      tables: from :func:`item_tables`.
    """
    for name, variable in towers.item_tables.items():
        variable.assign(tables[name])


def trained_variables(query: QueryTower, item: ItemTower) -> dict[str, tf.Variable]:
    """The trained variables of two towers that have been called, by name."""
    return {
        variable.name.removesuffix(":0"): variable
        for variable in (*query.trainable_variables, *item.trainable_variables)
    }


def table_terms(
    item_vocabulary: Sequence[str], items: ItemTable, vocabularies: Vocabularies
) -> dict[str, list[str]]:
    """What the rows of the embedding tables stand for, by the names of :func:`trained_variables`.

    Row 0, the unknown, is "". Weekdays, hours and ages are the same in every run and have no terms.
    """
    embedded = {
        "items/identity": item_vocabulary,
        **{f"items/code_{name}": items.vocabularies[name][1:] for name in items.categorical},
        "user": vocabularies.users,
        "history/event_type": vocabularies.event_types,
        **{F.user_attribute(name): words for name, words in vocabularies.attribute_values.items()},
        **{F.context(name): words for name, words in vocabularies.contexts.items()},
    }
    return {f"query/{name}/embeddings": ["", *words] for name, words in embedded.items()}


class ItemEmbedding(tf.keras.layers.Layer):
    """Sum of an item's identity embedding and those of its categories.

    Args:
      items: the catalogue; its codes become constants of the layer.
      id_index: int32 [V], index in the identity vocabulary, 0 = too rare to have one.
      dim: D.
      id_dropout: share of identities replaced by index 0 in training, so that content alone
        must do (cold start).

    Call arguments:
      rows: int32 [...], item rows.
      training: whether identities are dropped.

    Returns:
      float32 [..., D].
    """

    def __init__(self, items: ItemTable, id_index: np.ndarray, dim: int, id_dropout: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self._id_index = frozen_table(id_index, tf.int32, resizable=True)
        self._codes = {
            name: frozen_table(code, tf.int32, resizable=True) for name, code in items.categorical.items()
        }
        self._id_dropout = id_dropout
        self._identity = tf.keras.layers.Embedding(int(id_index.max()) + 1, dim, name="identity")
        self._categories = {
            name: tf.keras.layers.Embedding(len(items.vocabularies[name]), dim, name=f"code_{name}")
            for name in items.categorical
        }

    @property
    def item_tables(self) -> dict[str, tf.Variable]:
        """The tables that hold the catalogue, named as by :func:`item_tables`."""
        return {"identity": self._id_index, **{f"code/{name}": code for name, code in self._codes.items()}}

    def call(self, rows: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Runs the layer; the class docstring has the arguments."""
        identity = tf.gather(self._id_index, rows)
        if training and self._id_dropout:
            identity = tf.where(tf.random.uniform(tf.shape(identity)) < self._id_dropout, 0, identity)
        total = self._identity(identity)
        for name, embedding in self._categories.items():
            total += embedding(tf.gather(self._codes[name], rows))
        return total


class ItemTower(tf.keras.Model):
    """Unit vector of an item from its embedding and its text vector.

    Args:
      embedding: shared with the query tower's history.
      text_vectors: float32 [T, E], the distinct texts' vectors (from the text encoder).
      text_index: int32 [V], which text each item has.
      dim: size of the output.

    Call arguments:
      rows: int32 [N], item rows.

    Returns:
      float32 [N, dim], of length 1.
    """

    def __init__(
        self, embedding: ItemEmbedding, text_vectors: np.ndarray, text_index: np.ndarray, dim: int, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self._embedding = embedding
        self._text_vectors = frozen_table(text_vectors, tf.float32, resizable=True)
        self._text_index = frozen_table(text_index, tf.int32, resizable=True)
        self._text = tf.keras.layers.Dense(dim, name="text")
        self._hidden = tf.keras.layers.Dense(2 * dim, activation="relu", name="hidden")
        self._out = tf.keras.layers.Dense(dim, name="out")

    @property
    def item_tables(self) -> dict[str, tf.Variable]:
        """The tables that hold the catalogue, named as by :func:`item_tables`."""
        text = {"text_vectors": self._text_vectors, "text_index": self._text_index}
        return self._embedding.item_tables | text

    def call(self, rows: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Runs the layer; the class docstring has the arguments."""
        text = self._text(tf.gather(self._text_vectors, tf.gather(self._text_index, rows)))
        joined = tf.concat([self._embedding(rows, training=training), text], -1)
        return tf.math.l2_normalize(self._out(self._hidden(joined)), -1)


class HistoryPooling(tf.keras.layers.Layer):
    """Attention pooling of a user's events, several heads, aware of age and event type.

    Args:
      heads: H.
      event_types: size of the event type vocabulary.
      dropout: share of events dropped in training.

    Call arguments:
      embedded: float32 [B, L, D].
      age_days: float32 [B, L].
      event_type: int32 [B, L].
      mask: bool [B, L], real events.

    Returns:
      float32 [B, H * D]; zeros for an empty history.
    """

    def __init__(self, heads: int, event_types: int, dropout: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self._heads = heads
        self._content = tf.keras.layers.Dense(heads, use_bias=False, name="content")
        self._age = tf.keras.layers.Embedding(len(AGE_BUCKETS) + 1, heads, name="age")
        self._type = tf.keras.layers.Embedding(event_types, heads, name="event_type")
        self._dropout = dropout
        self._limits = list(AGE_BUCKETS)

    def call(
        self,
        embedded: tf.Tensor,
        age_days: tf.Tensor,
        event_type: tf.Tensor,
        mask: tf.Tensor,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Runs the layer; the class docstring has the arguments."""
        if training and self._dropout:
            mask = mask & (tf.random.uniform(tf.shape(age_days)) >= self._dropout)
        bucket = tf.searchsorted(
            tf.constant(self._limits, tf.float32), tf.reshape(age_days, [-1]), side="left"
        )
        bucket = tf.reshape(bucket, tf.shape(age_days))
        logits = self._content(embedded) + self._age(bucket) + self._type(event_type)  # [B, L, H]
        logits += tf.where(mask, 0.0, -1e9)[..., None]
        weights = tf.nn.softmax(logits, 1) * tf.cast(mask, tf.float32)[..., None]
        pooled = tf.einsum("blh,bld->bhd", weights, embedded)
        return tf.reshape(pooled, [tf.shape(pooled)[0], self._heads * embedded.shape[-1]])


class QueryTower(tf.keras.Model):
    """Unit vector of a request: who asks, what they did, where and when.

    Args:
      embedding: shared with the item tower.
      spec: vocabulary sizes.
      dim: size of the output.
      user_dropout: share of user ids replaced by "unknown" in training.
      history_dropout: share of history events dropped in training.

    Call arguments:
      inputs: `user` int32 [B]; `user_<attribute>` int32 [B]; `history_row` int32 [B, L];
        `history_age_days` float32 [B, L]; `history_event_type` int32 [B, L];
        `context_<name>` int32 [B]; `weekday`, `hour` int32 [B] (0 = unknown).

    Returns:
      float32 [B, dim], of length 1.
    """

    def __init__(
        self,
        embedding: ItemEmbedding,
        spec: QuerySpec,
        dim: int,
        user_dropout: float,
        history_dropout: float,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self._embedding = embedding
        self._user_dropout = user_dropout
        self._user = tf.keras.layers.Embedding(spec.users, dim, name="user")
        small = {F.user_attribute(name): size for name, size in spec.attributes.items()}
        small |= {F.context(name): size for name, size in spec.contexts.items()}
        small |= {"weekday": 8, "hour": 25}
        self._small = {name: tf.keras.layers.Embedding(size, 8, name=name) for name, size in small.items()}
        self._pooling = HistoryPooling(4, spec.event_types, history_dropout, name="history")
        self._hidden = tf.keras.layers.Dense(4 * dim, activation="relu", name="hidden")
        self._out = tf.keras.layers.Dense(dim, name="out")

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Runs the layer; the class docstring has the arguments."""
        user = inputs["user"]
        if training and self._user_dropout:
            user = tf.where(tf.random.uniform(tf.shape(user)) < self._user_dropout, 0, user)
        rows = inputs["history_row"]
        pooled = self._pooling(
            self._embedding(rows, training=training),
            inputs[F.HISTORY_AGE_DAYS],
            inputs[F.HISTORY_EVENT_TYPE],
            rows > 0,
            training=training,
        )
        joined = [self._user(user), pooled]
        joined += [embedding(inputs[name]) for name, embedding in self._small.items()]
        return tf.math.l2_normalize(self._out(self._hidden(tf.concat(joined, -1))), -1)
