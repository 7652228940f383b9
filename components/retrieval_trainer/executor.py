"""Trains the two towers on sessions and exports them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
import tensorflow as tf

from components import shop
from models import arrays, example_io
from models import features as F
from models.item_table import ItemTable
from models.requests import Vocabularies
from models.retrieval import RetrievalModel, training_curves
from models.towers import ItemEmbedding, ItemTower, QuerySpec, QueryTower
from pipeline.config import Retrieval
from pipeline.errors import DataError

HISTORY = "history.json"
_RECALL_AT = 100


def read_sessions(folders: list[str], contexts: list[str], length: int) -> dict[str, np.ndarray]:
    """Transformed sessions as padded arrays.

    Args:
      folders: split folders of EventTransform's examples.
      contexts: context names.
      length: L, history events kept (the last ones).

    Returns:
      `user`, `weekday`, `hour`, `context_*` int32 [S]; `timestamp` int64 [S]; `history_item`
      int32 [S, L], `history_age_days` float32 [S, L], `history_event_type` int32 [S, L],
      padded at the front; `target_item` int32 [T] flat, `target_start`, `target_count`
      int32 [S].
    """
    table = example_io.read_table(folders)
    out = {
        name: example_io.first(table, name, 0).astype(np.int32)
        for name in ("user", "weekday", "hour", *(F.context(name) for name in contexts))
    }
    out[F.TIMESTAMP] = example_io.first(table, F.TIMESTAMP, 0).astype(np.int64)
    size = example_io.lengths(table, "history_item")
    end = np.cumsum(size)
    at = end[:, None] - length + np.arange(length)
    real = at >= (end - size)[:, None]
    for name, kind in (
        ("history_item", np.int32),
        (F.HISTORY_AGE_DAYS, np.float32),
        (F.HISTORY_EVENT_TYPE, np.int32),
    ):
        values = example_io.flat(table, name).astype(kind)
        out[name] = (
            np.where(real, values[np.maximum(at, 0)], kind(0)) if len(values) else np.zeros(at.shape, kind)
        )
    out["target_item"] = example_io.flat(table, "target_item").astype(np.int32)
    out["target_count"] = example_io.lengths(table, "target_item").astype(np.int32)
    out["target_start"] = (np.cumsum(out["target_count"]) - out["target_count"]).astype(np.int32)
    return out


def item_rows(item_vocabulary: list[str], items: ItemTable) -> np.ndarray:
    """Row of each vocabulary entry, int32 [size]; entry 0 (unknown) and strangers get row 0."""
    rows = pd.Index(items.item_id).get_indexer(item_vocabulary)
    return np.concatenate([[0], np.maximum(rows, 0)]).astype(np.int32)


def batches(
    sessions: Mapping[str, np.ndarray],
    chosen: np.ndarray,
    rows: np.ndarray,
    vocabularies: Vocabularies,
    config: Retrieval,
    training: bool,
) -> tf.data.Dataset:
    """Batches of sessions with `targets_per_session` targets drawn anew at every pass.

    Args:
      sessions: from :func:`read_sessions`.
      chosen: indices of the sessions to use.
      rows: from :func:`item_rows`.
      vocabularies: for the users' attributes.
      config: batch size, targets a session, seed.
      training: shuffle and drop the last partial batch.

    Returns:
      Elements as `models.retrieval.RetrievalModel` takes them.
    """
    table = {name: tf.constant(values) for name, values in sessions.items() if name != F.TIMESTAMP}
    row_of = tf.constant(rows)
    attribute = tf.constant(_attribute_rows(vocabularies))
    codes = {
        name: tf.constant(np.concatenate([[0], code]), tf.int32)
        for name, code in vocabularies.attributes.items()
    }
    scalars = ["user", "weekday", "hour", *(name for name in sessions if name.startswith(F.CONTEXT_PREFIX))]

    def assemble(index: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = {name: tf.gather(table[name], index) for name in scalars}
        user_row = tf.gather(attribute, batch["user"])
        batch |= {F.user_attribute(name): tf.gather(code, user_row) for name, code in codes.items()}
        batch["history_row"] = tf.gather(row_of, tf.gather(table["history_item"], index))
        batch |= {name: tf.gather(table[name], index) for name in (F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE)}
        draw = tf.random.uniform([tf.shape(index)[0], config.targets_per_session])
        count = tf.cast(tf.gather(table["target_count"], index), tf.float32)[:, None]
        pick = tf.gather(table["target_start"], index)[:, None] + tf.cast(tf.floor(draw * count), tf.int32)
        # a session without targets starts where the next one does, or beyond the last
        pick = tf.minimum(pick, tf.size(table["target_item"]) - 1)
        drawn = tf.gather(row_of, tf.gather(table["target_item"], pick))
        batch["target_row"] = tf.where(count > 0, drawn, 0)
        return batch

    data = tf.data.Dataset.from_tensor_slices(chosen.astype(np.int32))
    if training:
        data = data.shuffle(len(chosen), seed=config.seed)
    data = data.batch(min(config.batch_sessions, len(chosen)), drop_remainder=training)
    return data.map(assemble, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _attribute_rows(vocabularies: Vocabularies) -> np.ndarray:
    """Row (from 1) in the users table of each user code, 0 where the table lacks the user."""
    found = pd.Index(np.asarray(vocabularies.attribute_user, object)).get_indexer(list(vocabularies.users))
    return np.concatenate([[0], found + 1]).astype(np.int32)


class _Holdout(tf.keras.callbacks.Callback):
    """Recall of the held-out sessions' targets among all known items, after every epoch."""

    def __init__(self, data: tf.data.Dataset, rows: np.ndarray) -> None:
        super().__init__()
        self._data = data
        self._rows = tf.constant(rows, tf.int32)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        vectors = encode_items(self.model.item_tower, self._rows.numpy())
        hits = total = 0.0
        for batch in self._data:
            scores = tf.matmul(self.model.query_tower(batch, training=False), vectors, transpose_b=True)
            top = tf.gather(self._rows, tf.math.top_k(scores, min(_RECALL_AT, len(vectors))).indices)
            target = batch["target_row"]
            hit = tf.reduce_any(target[:, :, None] == top[:, None, :], -1) & (target > 0)
            hits += float(tf.reduce_sum(tf.cast(hit, tf.float32)))
            total += float(tf.reduce_sum(tf.cast(target > 0, tf.float32)))
        if logs is not None and total:
            logs[f"holdout_recall@{_RECALL_AT}"] = hits / total


def encode_items(tower: tf.keras.Model, rows: np.ndarray, batch: int = 8192) -> np.ndarray:
    """Item vectors, float32 [N, D], of rows (int32 [N])."""
    parts = [
        tower(tf.constant(rows[start : start + batch]), training=False).numpy()
        for start in range(0, len(rows), batch)
    ]
    return np.concatenate(parts)


def run(
    folders: list[str],
    items: ItemTable,
    item_vocabulary: list[str],
    vocabularies: Vocabularies,
    text_vectors: str,
    until: float,
    config: Retrieval,
    model_folder: str,
    run_folder: str,
) -> str:
    """Trains and exports.

    Args:
      folders: split folders of transformed sessions.
      items: the catalogue.
      item_vocabulary: items with an identity embedding.
      vocabularies: users, event types, contexts.
      text_vectors: TextEncoderTrainer's text_vectors.npz.
      until: unix seconds; only sessions before it are learned from.
      config: the configuration's section.
      model_folder: Model artifact; gets `Format-Serving/` with the functions `query` and
        `item`, `item_vectors.npz` (`vectors` float32 [V, D], every row's) and
        `query_vectors.npz` (`vectors` float32 [Q, D], the held-out sessions').
      run_folder: ModelRun artifact; gets `history.json`.

    Returns:
      A line for a person.

    Raises:
      DataError: too few sessions to train on.
    """
    tf.keras.utils.set_random_seed(config.seed)
    sessions = read_sessions(folders, list(vocabularies.contexts), config.history_length)
    rows = item_rows(item_vocabulary, items)
    usable = np.flatnonzero((sessions[F.TIMESTAMP] < until) & (sessions["history_item"] > 0).any(1))
    if len(usable) < 32:
        raise DataError(
            f"only {len(usable)} sessions with a history lie before the ranker's label window; "
            "give a longer training window or fewer ranking.windows"
        )
    rng = np.random.default_rng(config.seed)
    held = rng.permutation(usable)[: max(1, int(len(usable) * config.holdout_share))]
    chosen = np.setdiff1d(usable, held)

    before = sessions[F.TIMESTAMP] < until
    in_time = np.repeat(before, sessions["target_count"])
    counts = np.bincount(rows[sessions["target_item"][in_time]], minlength=len(items))
    # what the sampler draws: one target of a session as likely as another, so an item's
    # share is that of the sessions' targets, each session weighing the same
    share = np.repeat(1.0 / np.maximum(sessions["target_count"], 1), sessions["target_count"])[in_time]
    probability = np.bincount(rows[sessions["target_item"][in_time]], share, minlength=len(items))
    probability = np.maximum(probability / max(probability[1:].sum(), 1e-9), 1e-9)

    id_index = np.zeros(len(items), np.int32)
    id_index[rows[1:]] = np.arange(1, len(rows))
    id_index[0] = 0
    text = arrays.load(text_vectors)
    embedding = ItemEmbedding(items, id_index, config.embedding_dim, config.item_id_dropout, name="items")
    spec = QuerySpec(
        users=len(vocabularies.users) + 1,
        event_types=len(vocabularies.event_types) + 1,
        attributes={name: len(values) + 1 for name, values in vocabularies.attribute_values.items()},
        contexts={name: len(values) + 1 for name, values in vocabularies.contexts.items()},
    )
    model = RetrievalModel(
        QueryTower(
            embedding,
            spec,
            config.embedding_dim,
            config.user_id_dropout,
            config.history_dropout,
            name="query",
        ),
        ItemTower(embedding, text["vectors"], text["index"], config.embedding_dim, name="item"),
        probability.astype(np.float32),
        config.temperature,
    )
    model.compile(tf.keras.optimizers.Adam(config.learning_rate))
    training = batches(sessions, chosen, rows, vocabularies, config, training=True)
    holdout = batches(sessions, held, rows, vocabularies, config, training=False)
    known = np.flatnonzero(counts > 0)
    fitted = model.fit(
        training, epochs=config.epochs, verbose=0, callbacks=[_Holdout(holdout, known[known > 0])]
    )
    epochs = [
        {"epoch": index + 1}
        | {name: float(values[index]) for name, values in training_curves(fitted.history).items()}
        for index in range(config.epochs)
    ]
    tf.io.gfile.makedirs(run_folder)
    with tf.io.gfile.GFile(os.path.join(run_folder, HISTORY), "w") as file:
        json.dump({"epochs": epochs}, file)
    vectors = encode_items(model.item_tower, np.arange(len(items), dtype=np.int32))
    arrays.save(os.path.join(model_folder, "item_vectors.npz"), {"vectors": vectors})
    # what CandidateIndex measures its search with: requests that no tower learned from
    queries = [model.query_tower(batch, training=False).numpy() for batch in holdout]
    arrays.save(os.path.join(model_folder, "query_vectors.npz"), {"vectors": np.concatenate(queries)})
    _export(model, next(iter(holdout)), shop.model_folder(model_folder))
    last = epochs[-1]
    recall = last.get(f"holdout_recall@{_RECALL_AT}", float("nan"))
    return (
        f"{len(chosen):,} sessions, {config.epochs} epochs, loss {last['loss']:.3f}, "
        f"holdout recall@{_RECALL_AT} {recall:.3f}"
    )


def _export(model: RetrievalModel, example: Mapping[str, tf.Tensor], folder: str) -> None:
    """Saves the towers with the functions `query` (parsed requests) and `item` (rows)."""
    signature = {}
    for name, value in example.items():
        if name != "target_row":
            shape = [None] * value.shape.rank
            signature[name] = tf.TensorSpec(shape, value.dtype, name)

    module = tf.Module(name="towers")
    module.query_tower, module.item_tower = model.query_tower, model.item_tower
    module.query = tf.function(
        lambda inputs: model.query_tower(inputs, training=False), input_signature=[signature], autograph=False
    )
    module.item = tf.function(
        lambda rows: model.item_tower(rows, training=False),
        input_signature=[tf.TensorSpec([None], tf.int32, "rows")],
        autograph=False,
    )
    tf.saved_model.save(module, folder)
