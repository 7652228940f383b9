"""Trains the two towers on sessions and exports them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
import tensorflow as tf

from components.common import artifacts
from models.data import arrays, example_io
from models.data.item_table import ItemTable
from models.data.parameters import parameters
from models.data.requests import Vocabularies
from models.retrieval import collaborative, warm_start
from models.retrieval.towers import (
    ItemEmbedding,
    ItemTower,
    QuerySpec,
    QueryTower,
    identity_index,
    table_terms,
    trained_variables,
)
from models.retrieval.two_tower import RetrievalModel, training_curves
from schema import names as F
from schema.config import Collaborative, Retrieval
from schema.errors import DataError

HISTORY = "history.json"
WEIGHTS = "weights.npz"
_RECALL_AT = 100
_BLENDED = 2048  # held-out sessions that weigh learned against collaborative scores
_BLENDS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0)  # in units of the scores' spread
_BATCH = 256


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


def first_targets(sessions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The sessions with only those targets that their user has in no earlier session.

    Buying again is a source of its own: towers that also learn to repeat learn little else. A user
    outside the vocabulary (0) is many people, whose targets all stay.
    """
    count = sessions["target_count"]
    owner = np.repeat(sessions["user"], count).astype(np.int64)
    size = int(sessions["target_item"].max(initial=0)) + 1
    moment = np.repeat(sessions[F.TIMESTAMP], count)
    pair = owner * size + sessions["target_item"]
    order = np.lexsort((moment, pair))
    starts = np.append(True, np.diff(pair[order]) != 0) if len(order) else np.zeros(0, bool)
    since = np.empty(len(order), np.int64)
    since[order] = moment[order][np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    kept = (owner == 0) | (moment == since)
    session = np.repeat(np.arange(len(count)), count)[kept]
    left = np.bincount(session, minlength=len(count)).astype(np.int32)
    return dict(sessions) | {
        "target_item": sessions["target_item"][kept],
        "target_count": left,
        "target_start": (np.cumsum(left) - left).astype(np.int32),
    }


def owned_rows(sessions: Mapping[str, np.ndarray], rows: np.ndarray, users: int) -> tf.RaggedTensor:
    """Distinct rows that each user of the vocabulary has as a target, int32 [users, (rows)]."""
    owner = np.repeat(sessions["user"], sessions["target_count"]).astype(np.int64)
    row = rows[sessions["target_item"]]
    pair = np.unique((owner * (rows.max() + 1) + row)[(owner > 0) & (row > 0)])
    owner, row = np.divmod(pair, rows.max() + 1)
    size = np.bincount(owner, minlength=users)
    return tf.RaggedTensor.from_row_lengths(tf.constant(row, tf.int32), tf.constant(size, tf.int64))


def batches(
    sessions: Mapping[str, np.ndarray],
    chosen: np.ndarray,
    rows: np.ndarray,
    vocabularies: Vocabularies,
    config: Retrieval,
    training: bool,
    owned: tf.RaggedTensor | None = None,
    known: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Batches of sessions with `targets_per_session` targets drawn anew at every pass.

    Args:
      sessions: from :func:`read_sessions`.
      chosen: indices of the sessions to use.
      rows: from :func:`item_rows`.
      vocabularies: for the users' attributes.
      config: batch size, targets a session, seed.
      training: shuffle and drop the last partial batch.
      owned: from :func:`owned_rows`: no negatives for their user.
      known: int32 [K], rows that `uniform_negatives` are drawn from.

    Returns:
      Elements as `models.retrieval.two_tower.RetrievalModel` takes them.
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
        if owned is not None:
            batch["owned_row"] = tf.gather(owned, batch["user"]).to_tensor()
        if known is not None:
            uniform = tf.random.uniform([config.uniform_negatives], maxval=len(known), dtype=tf.int32)
            batch["negative_row"] = tf.gather(tf.constant(known, tf.int32), uniform)
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


class _Mining(tf.keras.callbacks.Callback):
    """Has negatives mined by the item vectors as they stand at the beginning of every epoch.

    Args:
      rows: int32 [K], all known rows.
      warm: whether the model starts from another one's weights: vectors that tell nothing are no index.
    """

    def __init__(self, rows: np.ndarray, warm: bool) -> None:
        super().__init__()
        self._rows, self._warm = rows.astype(np.int32), warm

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch or self._warm:
            self.model.mine_from(encode_items(self.model.item_tower, self._rows))


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
    collaborative_config: Collaborative,
    model_folder: str,
    run_folder: str,
    previous: str | None = None,
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
      collaborative_config: of the closed-form vectors that stand beside the learned ones.
      model_folder: Model artifact; gets `Format-Serving/` with the functions `query` and
        `item` and `scale`, what a query's learned part is multiplied by beside the
        collaborative one; `item_vectors.npz` (`vectors` float32 [V, D], every row's) and
        `query_vectors.npz` (the held-out sessions: `vectors` float32 [Q, D] with the scale in
        them, `history_row` int32 [Q, L], `history_age_days` float32 [Q, L]); `weights.npz`, what a
        later model starts from (`models.retrieval.warm_start.Weights`).
      run_folder: ModelRun artifact; gets `history.json`.
      previous: weights.npz of the model to start from; it must have learned from earlier events only.

    Returns:
      A line for a person.

    Raises:
      DataError: too few sessions to train on, or a damaged `previous`.
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
    # the latest sessions: what is measured on them is a forecast, as in the shop
    in_order = usable[np.argsort(sessions[F.TIMESTAMP][usable], kind="stable")]
    held_count = max(1, int(len(usable) * config.holdout_share))
    chosen, held = np.sort(in_order[:-held_count]), in_order[-held_count:]
    everything = sessions
    if config.targets == "first":
        sessions = first_targets(sessions)
    chosen = chosen[sessions["target_count"][chosen] > 0]

    before = sessions[F.TIMESTAMP] < until
    in_time = np.repeat(before, sessions["target_count"])
    counts = np.bincount(rows[sessions["target_item"][in_time]], minlength=len(items))
    # what the sampler draws: one target of a session as likely as another, so an item's
    # share is that of the sessions' targets, each session weighing the same
    share = np.repeat(1.0 / np.maximum(sessions["target_count"], 1), sessions["target_count"])[in_time]
    probability = np.bincount(rows[sessions["target_item"][in_time]], share, minlength=len(items))
    probability = np.maximum(probability / max(probability[1:].sum(), 1e-9), 1e-9)

    known = np.flatnonzero(counts > 0)
    known = known[known > 0]
    text = arrays.load(text_vectors)
    model = build(items, item_vocabulary, vocabularies, text, probability.astype(np.float32), known, config)
    model.compile(tf.keras.optimizers.Adam(config.learning_rate))
    owned = owned_rows(everything, rows, len(vocabularies.users) + 1)
    training = batches(sessions, chosen, rows, vocabularies, config, True, owned, known)
    holdout = batches(sessions, held, rows, vocabularies, config, training=False)
    terms = table_terms(item_vocabulary, items, vocabularies)
    warm, started = start(model, next(iter(holdout)), terms, previous)
    callbacks = [_Holdout(holdout, known)]
    if config.mined_negatives:
        callbacks.append(_Mining(known, warm))
    fitted = model.fit(training, epochs=config.epochs, verbose=0, callbacks=callbacks)
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
    queries = {"vectors": [], "history_row": [], F.HISTORY_AGE_DAYS: []}
    for batch in holdout:
        batch["vectors"] = model.query_tower(batch, training=False)
        for name, parts in queries.items():
            parts.append(batch[name].numpy())
    queries = {name: np.concatenate(parts) for name, parts in queries.items()}
    # in the shop the towers are older than the collaborative vectors, by the ranker's label windows
    after = np.flatnonzero((everything[F.TIMESTAMP] >= until) & (everything["history_item"] > 0).any(1))
    weighed, learned = held, queries["vectors"]
    if len(after):
        latest = np.argsort(everything[F.TIMESTAMP][after], kind="stable")[-held_count:]
        weighed = after[latest]
        later = batches(sessions, weighed, rows, vocabularies, config, training=False)
        learned = np.concatenate([model.query_tower(batch, training=False).numpy() for batch in later])
    scale = blend(everything, sessions, weighed, rows, known, learned, vectors, collaborative_config)
    queries["vectors"] *= scale
    arrays.save(os.path.join(model_folder, "query_vectors.npz"), queries)
    _export(model, scale, next(iter(holdout)), artifacts.model_folder(model_folder))
    variables = trained_variables(model.query_tower, model.item_tower)
    warm_start.Weights.of(variables, terms, until).save(os.path.join(model_folder, WEIGHTS))
    last = epochs[-1]
    recall = last.get(f"holdout_recall@{_RECALL_AT}", float("nan"))
    return (
        f"{len(chosen):,} sessions, {config.epochs} epochs, loss {last['loss']:.3f}, "
        f"holdout recall@{_RECALL_AT} {recall:.3f}, scale {scale:.3g}{started}"
    )


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
      items, item_vocabulary, vocabularies, config: as :func:`run` takes them.
      text: `vectors` float32 [T, E] and `index` int32 [V], the catalogue's texts.
      probability: float32 [V], share of training targets that each item is.
      known: int [K], rows that uniform negatives are drawn from.
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


def blend(
    sessions: Mapping[str, np.ndarray],
    wanted: Mapping[str, np.ndarray],
    held: np.ndarray,
    rows: np.ndarray,
    known: np.ndarray,
    queries: np.ndarray,
    vectors: np.ndarray,
    config: Collaborative,
) -> float:
    """How much a learned score counts beside a collaborative one.

    Of a grid of weights, the one whose sums find most of the held-out sessions' targets in the
    first 100 items that their user did not have; the collaborative vectors are fitted here on the
    events before those sessions. A likelihood would choose worse: collaborative scores are
    regressions, not logits.

    Args:
      sessions: all targets: they make the histories.
      wanted: the same sessions with the targets that are to be found.
      held: int [H], indices of sessions, the latest ones.
      rows: from :func:`item_rows`.
      known: int [K], the rows that may be found.
      queries: float32 [H, D], learned vectors of the held-out sessions.
      vectors: float32 [V, D], learned vectors of all rows.
      config: of the collaborative vectors.

    Returns:
      The weight; 1 where there is nothing to weigh (no collaborative vectors, no history).
    """
    position = np.full(len(vectors), len(known))
    position[known] = np.arange(len(known))
    count = sessions["target_count"]
    user = np.repeat(sessions["user"], count)
    moment = np.repeat(sessions[F.TIMESTAMP], count)
    item = position[rows[sessions["target_item"]]]
    start = sessions[F.TIMESTAMP][held].min()
    real = (item < len(known)) & (user > 0)
    order = np.lexsort((moment, user))
    order = order[real[order]]
    user, moment, item = user[order], moment[order], item[order].astype(np.int32)
    past = moment < start
    places = np.flatnonzero((sessions["user"][held] > 0) & (wanted["target_count"][held] > 0))
    places = places[np.linspace(0, len(places) - 1, min(_BLENDED, len(places))).astype(int)]
    if not config.rank or not past.any() or not len(places):
        return 1.0
    age = ((start - moment) / F.SECONDS_PER_DAY).astype(np.float32)
    events = collaborative.Events(user[past], item[past], age[past])
    inputs, outputs = collaborative.fit(events, len(known), config)

    found = np.zeros(len(_BLENDS) + 1)
    unit = 0.0  # the learned scores' spread becomes that of the collaborative ones
    for first in range(0, len(places), _BATCH):
        some = places[first : first + _BATCH]
        of, when = sessions["user"][held[some]], sessions[F.TIMESTAMP][held[some]]
        # each session's past, as if each were a user
        owner, event = _ranges(np.searchsorted(user, of), np.searchsorted(user, of, "right"))
        earlier = moment[event] < when[owner]
        owner, event = owner[earlier], event[earlier]
        age = ((when[owner] - moment[event]) / F.SECONDS_PER_DAY).astype(np.float32)
        history = collaborative.histories(
            collaborative.Events(owner, item[event], age), len(some), len(known), config
        )
        closed = ((history @ inputs) @ outputs.T).astype(np.float32)
        learned = queries[some] @ vectors[known].T
        unit = unit or float(closed.std() / max(learned.std(), 1e-9))
        begin = wanted["target_start"][held[some]]
        asked, target = _ranges(begin, begin + wanted["target_count"][held[some]])
        target = position[rows[wanted["target_item"][target]]]
        relevant = np.zeros((len(some), len(known) + 1), bool)
        relevant[asked, target] = True
        relevant = relevant[:, :-1]
        closed[owner, item[event]] = -np.inf
        for place, weight in enumerate((0.0, *_BLENDS)):
            score = closed + np.float32(weight * unit) * learned
            top = np.argpartition(-score, min(_RECALL_AT, len(known) - 1), 1)[:, :_RECALL_AT]
            share = np.take_along_axis(relevant, top, 1).sum(1) / np.maximum(relevant.sum(1), 1)
            found[place] += share.sum()
    return float(max((0.0, *_BLENDS)[int(np.argmax(found))], _BLENDS[0]) * unit)


def _ranges(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which range, place) of every place in the ranges [start, end)."""
    size = end - start
    owner = np.repeat(np.arange(len(size)), size)
    return owner, np.arange(len(owner)) + np.repeat(start - (np.cumsum(size) - size), size)


def _export(model: RetrievalModel, scale: float, example: Mapping[str, tf.Tensor], folder: str) -> None:
    """Saves the towers: functions `query` (parsed requests) and `item` (rows), `scale`, `item_tables`."""
    signature = {}
    for name, value in example.items():
        if name != "target_row":
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
