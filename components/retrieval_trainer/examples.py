"""What the towers learn from: transformed sessions as arrays, divided, and drawn in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from models.data import example_io
from models.data.event_types import ALIKE, EventTypes
from models.data.item_table import ItemTable
from models.data.requests import Vocabularies
from schema import names as F
from schema.config import Retrieval
from schema.errors import DataError


def read_sessions(folders: list[str], contexts: list[str], length: int) -> dict[str, np.ndarray]:
    """Transformed sessions as padded arrays.

    Args:
      folders: split folders of EventTransform's examples.
      contexts: context names.
      length: L, history events kept (the last ones).

    Returns:
      By moment, then user, however the records lie in the files:
      `user`, `weekday`, `hour`, `context_*` int32 [S]; `timestamp` int64 [S]; `history_item`
      int32 [S, L], `history_age_days` float32 [S, L], `history_event_type` int32 [S, L],
      padded at the front; `target_item` and `target_event_type` int32 [T] flat, `target_start`,
      `target_count` int32 [S].
    """
    table = _in_order(example_io.read_table(folders))
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
    out[F.TARGET_EVENT_TYPE] = example_io.flat(table, F.TARGET_EVENT_TYPE).astype(np.int32)
    out["target_count"] = example_io.lengths(table, "target_item").astype(np.int32)
    out["target_start"] = (np.cumsum(out["target_count"]) - out["target_count"]).astype(np.int32)
    return out


def _in_order(table: pa.Table) -> pa.Table:
    """Sessions by moment, user, and all else that they hold.

    Beam writes records in an order of its own in every run; with the same seed, the same sessions are
    to give the same batches. Users outside of the vocabulary are all user 0, so that many sessions may
    share a moment and a user.
    """
    moment = example_io.first(table, F.TIMESTAMP, 0).astype(np.int64)
    user = example_io.first(table, "user", 0).astype(np.int64)
    order = np.lexsort((user, moment))
    same = (np.diff(moment[order]) == 0) & (np.diff(user[order]) == 0)
    tied = order[np.append(False, same) | np.append(same, False)] if len(order) else order
    if len(tied):
        content = np.zeros(len(order), np.uint64)
        content[tied] = _hashes(table.take(pa.array(tied)))
        order = np.lexsort((content, user, moment))
    return table.take(pa.array(order))


def _hashes(table: pa.Table) -> np.ndarray:
    """uint64 [rows]: a hash of all values of a row of list columns, and of where they stand."""
    total = np.zeros(table.num_rows, np.uint64)
    names = set(table.column_names)
    if len(np.unique(example_io.flat(table, F.TARGET_EVENT_TYPE))) < 2:
        names.discard(F.TARGET_EVENT_TYPE)  # tells nothing apart
    for name in sorted(names):
        size = example_io.lengths(table, name)
        end = np.cumsum(size)
        place = np.arange(int(size.sum())) - np.repeat(end - size, size)
        value = pd.util.hash_array(example_io.flat(table, name)) + place.astype(np.uint64)
        sums = np.append(np.uint64(0), np.cumsum(pd.util.hash_array(value), dtype=np.uint64))
        # the sum so far is hashed with the column's, so that columns do not stand for one another
        total = pd.util.hash_array(total + sums[end] - sums[end - size] + size.astype(np.uint64))
    return total


def item_rows(item_vocabulary: list[str], items: ItemTable) -> np.ndarray:
    """Row of each vocabulary entry, int32 [size]; entry 0 (unknown) and strangers get row 0."""
    rows = pd.Index(items.item_id).get_indexer(item_vocabulary)
    return np.concatenate([[0], np.maximum(rows, 0)]).astype(np.int32)


def first_targets(sessions: Mapping[str, np.ndarray], types: EventTypes = ALIKE) -> dict[str, np.ndarray]:
    """The sessions with only those targets that say something new of their user and the item.

    Of events that are all alike, those that the user has in no earlier session: buying again is a source of
    its own, and towers that also learn to repeat learn little else. Where types weigh differently, those
    that are of a heavier type than all that the user did with the item in earlier sessions: a first
    purchase counts after any number of views. A user outside the vocabulary (0) is many people, whose
    targets all stay.

    Args:
      sessions: from :func:`read_sessions`.
      types: what the types weigh.
    """
    count = sessions["target_count"]
    owner = np.repeat(sessions["user"], count).astype(np.int64)
    size = int(sessions["target_item"].max(initial=0)) + 1
    moment = np.repeat(sessions[F.TIMESTAMP], count)
    pair = owner * size + sessions["target_item"]
    # by rank, so that equal weights are equal; 1 is the least
    rank = np.ones(len(pair), np.int64)
    if not types.alike:
        rank += np.unique(types.weight, return_inverse=True)[1][sessions[F.TARGET_EVENT_TYPE]]
    order = np.lexsort((moment, pair))
    ranks = int(rank.max(initial=0)) + 1
    # a number that grows from pair to pair, so that one running maximum serves all of them
    pairs = np.cumsum(np.append(False, np.diff(pair[order]) != 0)) if len(order) else np.zeros(0, np.int64)
    best = np.maximum.accumulate(pairs * ranks + rank[order]) if len(order) else pairs
    # before the first event of its moment: what is done in one session is done at once
    new_moment = np.append(True, (np.diff(pairs) != 0) | (np.diff(moment[order]) != 0)) if len(order) else []
    start = np.maximum.accumulate(np.where(new_moment, np.arange(len(order)), 0)) if len(order) else pairs
    before = np.where(start > 0, best[start - 1] - pairs * ranks, 0) if len(order) else pairs
    new = np.empty(len(order), bool)
    new[order] = rank[order] > np.maximum(before, 0)
    return chosen_targets(sessions, (owner == 0) | new)


def chosen_targets(sessions: Mapping[str, np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
    """The same sessions with some of their targets.

    Args:
      sessions: from :func:`read_sessions`.
      kept: bool [T].
    """
    count = sessions["target_count"]
    session = np.repeat(np.arange(len(count)), count)[kept]
    left = np.bincount(session, minlength=len(count)).astype(np.int32)
    return dict(sessions) | {
        "target_item": sessions["target_item"][kept],
        F.TARGET_EVENT_TYPE: sessions[F.TARGET_EVENT_TYPE][kept],
        "target_count": left,
        "target_start": (np.cumsum(left) - left).astype(np.int32),
    }


def target_weights(sessions: Mapping[str, np.ndarray], types: EventTypes) -> dict[str, np.ndarray]:
    """How targets are drawn and what sessions count, where types weigh differently.

    Args:
      sessions: from :func:`read_sessions`.
      types: what the types weigh.

    Returns:
      `target_reach` float64 [T], the sum of the weights up to and with each target: one is drawn of a session
      in proportion to its weight; `session_weight` float32 [S], the largest weight of its targets.
    """
    weight = types.weight[sessions[F.TARGET_EVENT_TYPE]].astype(np.float64)
    session = np.repeat(np.arange(len(sessions["target_count"])), sessions["target_count"])
    largest = np.zeros(len(sessions["target_count"]), np.float32)
    np.maximum.at(largest, session, weight.astype(np.float32))
    return {"target_reach": np.cumsum(weight), "session_weight": largest}


def owned_rows(
    sessions: Mapping[str, np.ndarray], rows: np.ndarray, users: int, until: float
) -> tf.RaggedTensor:
    """Distinct rows that each user of the vocabulary has as a target, int32 [users, (rows)].

    Bought or viewed: what somebody looked at is no example of what they pass over.

    Args:
      sessions: from :func:`read_sessions`.
      rows: from :func:`item_rows`.
      users: size of the vocabulary, the unknown user (0) included.
      until: unix seconds; what a user buys later is not known yet, and may be a negative.
    """
    in_time = np.repeat(sessions[F.TIMESTAMP] < until, sessions["target_count"])
    owner = np.repeat(sessions["user"], sessions["target_count"]).astype(np.int64)[in_time]
    row = rows[sessions["target_item"][in_time]]
    pair = np.unique((owner * (rows.max() + 1) + row)[(owner > 0) & (row > 0)])
    owner, row = np.divmod(pair, rows.max() + 1)
    size = np.bincount(owner, minlength=users)
    return tf.RaggedTensor.from_row_lengths(tf.constant(row, tf.int32), tf.constant(size, tf.int64))


@dataclasses.dataclass(frozen=True)
class Examples:
    """Which sessions teach the towers, which measure them, and which targets count.

    Attributes:
      sessions: from :func:`read_sessions`, with all their targets.
      wanted: the same sessions with the targets that the towers are to find.
      measured: the same sessions with the purchases among those.
      rows: from :func:`item_rows`.
      training: int [T], indices of the sessions that are learned from.
      holdout: int [H], the latest sessions before the ranker's label windows, of a purchase where there are
        other events.
      weighed: int, sessions by which learned and collaborative scores are weighed: the latest of
        all, if any lie in the label windows. In the shop, too, the towers are older than the
        collaborative vectors, by those windows.
      known: int [K], rows that are a target before the label windows, ascending.
      probability: float32 [V], share of drawn targets that each row is: a target of a session is drawn in
        proportion to the weight of its type, and as many of each session.
      types: what the types of event mean.
    """

    sessions: dict[str, np.ndarray]
    wanted: dict[str, np.ndarray]
    measured: dict[str, np.ndarray]
    rows: np.ndarray
    training: np.ndarray
    holdout: np.ndarray
    weighed: np.ndarray
    known: np.ndarray
    probability: np.ndarray
    types: EventTypes = ALIKE

    @classmethod
    def of(
        cls,
        sessions: dict[str, np.ndarray],
        rows: np.ndarray,
        items: int,
        until: float,
        config: Retrieval,
        types: EventTypes = ALIKE,
    ) -> Self:
        """Divides the sessions.

        Args:
          sessions: from :func:`read_sessions`.
          rows: from :func:`item_rows`.
          items: V, rows of the item table.
          until: unix seconds; only sessions before it are learned from.
          config: `targets` and `holdout_share`.
          types: what the types of event mean.

        Raises:
          DataError: too few sessions to train on.
        """
        moment = sessions[F.TIMESTAMP]
        with_history = (sessions["history_item"] > 0).any(1)
        usable = np.flatnonzero((moment < until) & with_history)
        if len(usable) < 32:
            raise DataError(
                f"only {len(usable)} sessions with a history lie before the ranker's label window; "
                "give a longer training window or fewer ranking.windows"
            )
        wanted = first_targets(sessions, types) if config.targets == "first" else sessions
        measured, bought = wanted, np.ones(len(moment), bool)
        if types.others:
            measured = chosen_targets(wanted, types.bought[wanted[F.TARGET_EVENT_TYPE]])
            bought = measured["target_count"] > 0
        # the latest sessions: what is measured on them is a forecast, as in the shop
        in_order = usable[np.argsort(moment[usable], kind="stable")]
        held = max(1, int(len(usable) * config.holdout_share))
        holdout = in_order[-held:]
        training = np.sort(in_order[:-held])
        if types.others:
            holdout = holdout[bought[holdout]] if bought[holdout].any() else holdout
        training = training[wanted["target_count"][training] > 0]

        count = wanted["target_count"]
        in_time = np.repeat(moment < until, count)
        target = rows[wanted["target_item"][in_time]]
        known = np.flatnonzero(np.bincount(target, minlength=items) > 0)
        share = np.repeat(1.0 / np.maximum(count, 1), count)
        if not types.alike:
            weight = types.weight[wanted[F.TARGET_EVENT_TYPE]].astype(np.float64)
            session = np.repeat(np.arange(len(count)), count)
            share = weight / np.bincount(session, weight, minlength=len(count))[session]
        share = share[in_time]
        probability = np.bincount(target, share, minlength=items)
        probability = np.maximum(probability / max(probability[1:].sum(), 1e-9), 1e-9)

        later = np.flatnonzero((moment >= until) & with_history & bought)
        latest = later[np.argsort(moment[later], kind="stable")[-held:]]
        return cls(
            sessions,
            wanted,
            measured,
            rows,
            training,
            holdout,
            latest if len(latest) else holdout,
            known[known > 0],
            probability.astype(np.float32),
            types,
        )


def batches(
    sessions: Mapping[str, np.ndarray],
    chosen: np.ndarray,
    rows: np.ndarray,
    vocabularies: Vocabularies,
    config: Retrieval,
    training: bool,
    owned: tf.RaggedTensor | None = None,
    known: np.ndarray | None = None,
    types: EventTypes = ALIKE,
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
      types: what the types weigh; see :func:`target_weights`.

    Returns:
      Elements as `models.retrieval.two_tower.RetrievalModel` takes them.
    """
    table = {name: tf.constant(values) for name, values in sessions.items() if name != F.TIMESTAMP}
    if not types.alike:
        table |= {name: tf.constant(values) for name, values in target_weights(sessions, types).items()}
    row_of = tf.constant(rows)
    attribute = tf.constant(_attribute_rows(vocabularies))
    codes = {
        name: tf.constant(np.concatenate([[0], code]), tf.int32)
        for name, code in vocabularies.attributes.items()
    }
    scalars = ["user", "weekday", "hour", *(name for name in sessions if name.startswith(F.CONTEXT_PREFIX))]

    def assemble(index: tf.Tensor, seeds: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = {name: tf.gather(table[name], index) for name in scalars}
        user_row = tf.gather(attribute, batch["user"])
        batch |= {F.user_attribute(name): tf.gather(code, user_row) for name, code in codes.items()}
        batch["history_row"] = tf.gather(row_of, tf.gather(table["history_item"], index))
        batch |= {name: tf.gather(table[name], index) for name in (F.HISTORY_AGE_DAYS, F.HISTORY_EVENT_TYPE)}
        draw = tf.random.stateless_uniform([tf.shape(index)[0], config.targets_per_session], seeds[:2])
        count = tf.cast(tf.gather(table["target_count"], index), tf.float32)[:, None]
        start = tf.gather(table["target_start"], index)[:, None]
        pick = start + tf.cast(tf.floor(draw * count), tf.int32)
        if not types.alike:
            reach = tf.pad(table["target_reach"], [[1, 0]])
            ends = [tf.gather(reach, start + add) for add in (0, tf.cast(count, tf.int32))]
            aim = ends[0] + tf.cast(draw, tf.float64) * (ends[1] - ends[0])
            pick = tf.reshape(tf.searchsorted(reach[1:], tf.reshape(aim, [-1]), "right"), tf.shape(aim))
            # rounding may aim at the first target of the next session
            pick = tf.minimum(pick, start + tf.cast(count, tf.int32) - 1)
            batch["target_weight"] = tf.gather(table["session_weight"], index)
        # a session without targets starts where the next one does, or beyond the last
        pick = tf.clip_by_value(pick, 0, tf.size(table["target_item"]) - 1)
        drawn = tf.gather(row_of, tf.gather(table["target_item"], pick))
        batch["target_row"] = tf.where(count > 0, drawn, 0)
        if owned is not None:
            batch["owned_row"] = tf.gather(owned, batch["user"]).to_tensor()
        if known is not None:
            uniform = tf.random.stateless_uniform(
                [config.uniform_negatives], seeds[2:], 0, len(known), tf.int32
            )
            batch["negative_row"] = tf.gather(tf.constant(known, tf.int32), uniform)
        return batch

    data = tf.data.Dataset.from_tensor_slices(chosen.astype(np.int32))
    if training:
        data = data.shuffle(len(chosen), seed=config.seed)
    data = data.batch(min(config.batch_sessions, len(chosen)), drop_remainder=training)
    # Batches are assembled at the same time. Random numbers drawn there would go to whichever batch comes
    # first; so each batch is given its own seeds, and draws by them alone.
    seeds = tf.data.Dataset.random(config.seed, rerandomize_each_iteration=True).batch(4)
    data = tf.data.Dataset.zip((data, seeds))
    return data.map(assemble, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _attribute_rows(vocabularies: Vocabularies) -> np.ndarray:
    """Row (from 1) in the users table of each user code, 0 where the table lacks the user."""
    found = pd.Index(np.asarray(vocabularies.attribute_user, object)).get_indexer(list(vocabularies.users))
    return np.concatenate([[0], found + 1]).astype(np.int32)
