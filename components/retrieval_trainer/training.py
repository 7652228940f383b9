"""The two towers as a model: built, started from the last one, trained, exported."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models.data.item_table import ItemTable
from models.data.parameters import parameters
from models.data.requests import Vocabularies
from models.retrieval import warm_start
from models.retrieval.towers import (
    ItemEmbedding,
    ItemTower,
    QuerySpec,
    QueryTower,
    identity_index,
    trained_variables,
)
from models.retrieval.two_tower import RetrievalModel, training_curves
from schema.config import Retrieval

RECALL_AT = 100


def build(
    items: ItemTable,
    item_vocabulary: list[str],
    vocabularies: Vocabularies,
    text: Mapping[str, np.ndarray],
    probability: np.ndarray,
    known: np.ndarray,
    config: Retrieval,
) -> RetrievalModel:
    """The untrained model.

    Args:
      items: the catalogue.
      item_vocabulary: items with an identity embedding.
      vocabularies: users, event types, contexts.
      text: `vectors` float32 [T, E] and `index` int32 [V], the catalogue's texts.
      probability: float32 [V], share of training targets that each item is.
      known: int [K], rows that uniform negatives are drawn from.
      config: the section `retrieval`.
    """
    id_index = identity_index(item_vocabulary, items)
    embedding = ItemEmbedding(items, id_index, config.embedding_dim, config.item_id_dropout, name="items")
    spec = QuerySpec(
        users=len(vocabularies.users) + 1,
        event_types=len(vocabularies.event_types) + 1,
        attributes={name: len(values) + 1 for name, values in vocabularies.attribute_values.items()},
        contexts={name: len(values) + 1 for name, values in vocabularies.contexts.items()},
    )
    dropouts = (config.user_id_dropout, config.history_dropout)
    return RetrievalModel(
        QueryTower(embedding, spec, config.embedding_dim, *dropouts, name="query"),
        ItemTower(embedding, text["vectors"], text["index"], config.embedding_dim, name="item"),
        probability,
        config.temperature,
        known,
        config.hard_negatives,
        config.mined_negatives,
    )


def start(
    model: RetrievalModel, example: Mapping[str, tf.Tensor], terms: Mapping[str, list[str]], path: str | None
) -> tuple[bool, str]:
    """Creates a model's variables and gives them the values of the last model, if there is one.

    Args:
      model: not called yet.
      example: a batch.
      terms: from `models.retrieval.towers.table_terms`.
      path: weights.npz to start from.

    Returns:
      (whether it has them; what was taken over, or why nothing was, for a person, "" where there was
      nothing to take).

    Raises:
      DataError: the file is damaged.
    """
    model.query_tower(example, training=False)
    model.item_tower(tf.zeros([1], tf.int32), training=False)
    if path is None:
        return False, ""
    if not tf.io.gfile.exists(path):
        return False, "; cold start: the last blessed model was built without weights to start from"
    variables = trained_variables(model.query_tower, model.item_tower)
    last, new = warm_start.Weights.load(path), warm_start.Weights.of(variables, terms, 0)
    other = warm_start.difference(last, new)
    if other is not None:
        return False, f"; cold start: the last blessed model has another architecture ({other})"
    taken = warm_start.take_over(last, new, variables)
    return True, "; warm start with {:,} of {:,} item rows and {:,} of {:,} user rows".format(
        *taken["query/items/identity/embeddings"], *taken["query/user/embeddings"]
    )


def fit(
    model: RetrievalModel,
    training: tf.data.Dataset,
    holdout: tf.data.Dataset,
    known: np.ndarray,
    warm: bool,
    config: Retrieval,
) -> list[dict[str, float]]:
    """Trains a compiled model.

    Args:
      model: compiled, its variables created.
      training, holdout: from `examples.batches`.
      known: int [K], all known rows.
      warm: whether the model starts from another one's weights.
      config: `epochs`, `mined_negatives`.

    Returns:
      The curves, one dictionary an epoch.
    """
    callbacks: list[tf.keras.callbacks.Callback] = [Holdout(holdout, known)]
    if config.mined_negatives:
        callbacks.append(Mining(known, warm))
    # Else the step would create the optimizer's variables, and be traced twice for it: that takes seconds.
    model.optimizer.build(model.trainable_variables)
    fitted = model.fit(training, epochs=config.epochs, verbose=0, callbacks=callbacks)
    curves = training_curves(fitted.history)
    return [
        {"epoch": index + 1} | {name: float(values[index]) for name, values in curves.items()}
        for index in range(config.epochs)
    ]


class Holdout(tf.keras.callbacks.Callback):
    """Recall of the held-out sessions' targets among all known items, after every epoch.

    Args:
      data: batches of the held-out sessions.
      rows: int32 [K], all known rows.
    """

    def __init__(self, data: tf.data.Dataset, rows: np.ndarray) -> None:
        super().__init__()
        self._data = data
        self._rows = tf.constant(rows, tf.int32)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds `holdout_recall@100` to the epoch's logs."""
        vectors = encode_items(self.model.item_tower, self._rows.numpy())
        hits = total = 0.0
        for batch in self._data:
            scores = tf.matmul(self.model.query_tower(batch, training=False), vectors, transpose_b=True)
            top = tf.gather(self._rows, tf.math.top_k(scores, min(RECALL_AT, len(vectors))).indices)
            target = batch["target_row"]
            hit = tf.reduce_any(target[:, :, None] == top[:, None, :], -1) & (target > 0)
            hits += float(tf.reduce_sum(tf.cast(hit, tf.float32)))
            total += float(tf.reduce_sum(tf.cast(target > 0, tf.float32)))
        if logs is not None and total:
            logs[f"holdout_recall@{RECALL_AT}"] = hits / total


class Mining(tf.keras.callbacks.Callback):
    """Lets the model mine negatives by the item vectors of the beginning of every epoch.

    Args:
      rows: int32 [K], all known rows.
      warm: whether the model starts from another one's weights. If not, the first epoch mines nothing:
        untrained vectors are no index.
    """

    def __init__(self, rows: np.ndarray, warm: bool) -> None:
        super().__init__()
        self._rows, self._warm = rows.astype(np.int32), warm

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Gives the model the present vectors of all known rows."""
        if epoch or self._warm:
            self.model.mine_from(encode_items(self.model.item_tower, self._rows))


def encode_items(tower: tf.keras.Model, rows: np.ndarray, batch: int = 8192) -> np.ndarray:
    """Item vectors, float32 [N, D], of rows (int32 [N])."""
    parts = [
        tower(tf.constant(rows[start : start + batch]), training=False).numpy()
        for start in range(0, len(rows), batch)
    ]
    return np.concatenate(parts)


def export(model: RetrievalModel, scale: float, example: Mapping[str, tf.Tensor], folder: str) -> None:
    """Saves the towers: functions `query` (parsed requests) and `item` (rows), `scale`, `item_tables`."""
    signature = {}
    for name, value in example.items():
        if name not in ("target_row", "target_weight"):
            shape = [None] * value.shape.rank
            signature[name] = tf.TensorSpec(shape, value.dtype, name)

    module = tf.Module(name="towers")
    module.scale = tf.Variable(scale, trainable=False, dtype=tf.float32)
    module.item_tables = model.item_tower.item_tables
    module.query = tf.function(
        lambda inputs: model.query_tower(inputs, training=False), input_signature=[signature], autograph=False
    )
    module.item = tf.function(
        lambda rows: model.item_tower(rows, training=False),
        input_signature=[tf.TensorSpec([None], tf.int32, "rows")],
        autograph=False,
    )
    functions = (module.query.get_concrete_function(), module.item.get_concrete_function())
    module.parameters = parameters(model, functions)
    tf.saved_model.save(module, folder)
