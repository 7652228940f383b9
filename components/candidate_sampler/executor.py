"""Candidates of past requests, labelled by what happened next."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from components.candidate_sampler.label_window import LabelWindow, outcomes
from components.candidate_sampler.sampling import sample
from components.common.candidate_lists import AS_OF, record_batch, strings, tensor
from models.data import example_io
from models.data.event_log import EventLog
from models.funnel.retriever import Retriever
from schema import names as F
from schema.config import Lists

_BATCH = 32


def labelled(
    window: LabelWindow,
    history_length: int,
    novel: bool,
    config: Lists,
    list_size: int,
    max_users: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of labelled candidate lists.

    Everybody asks who did something before and buys in the label window, whether or not it is one of the
    candidates: a request is made by someone who comes. Where the log has visits without a purchase, those who
    only look in the window do not ask: the probabilities are those of shoppers who buy.

    Args:
      window: when, what is known and what comes, and with which retriever.
      history_length: events a request carries.
      novel: exclude what the user bought before (the task "novel").
      config: `soon_days`, `promoted_share` and the sample's seed.
      list_size: N, candidates kept: all that were bought, then a sample of the rest.
      max_users: how many users ask, a random sample; all by default.

    Yields:
      Request inputs (see `models.data.requests.request_spec`) and `exclude_item_id` object [B, E],
      `candidate_item_id` object [B, N] (padded with ""), the labels of :func:`outcomes` and
      `candidate_weight` float32 [B, N]; `as_of` int64 [B]; `found_share` float32 [B], share of
      the bought candidates that the sources found, NaN where none was bought; `user` int [B].
    """
    retriever = window.retriever
    count = retriever.sources.count
    past, future = window.past, window.future
    position_of = _positions(past, retriever)
    labels = outcomes(window, position_of, config.soon_days)
    had = past.purchases
    seen = _pairs(had.user, position_of[had.item], len(past.users), count)
    users = np.intersect1d(past.user, future.user)
    ids = strings(tf.gather(retriever.parser.item_ids, retriever.sources.candidate_row))
    rng = np.random.default_rng(config.seed)
    promoted = np.zeros(count) if window.promoted is None else window.promoted
    promoted = np.append(promoted, 0.0)
    if max_users is not None and len(users) > max_users:
        users = np.sort(rng.choice(users, max_users, replace=False))
    for start in range(0, len(users), _BATCH):
        batch = users[start : start + _BATCH]
        inputs = past.histories(batch, window.moments, history_length)
        inputs[F.CONTEXT_TIMESTAMP] = window.moments[batch]
        allowed = ~seen[batch] if novel else np.ones((1, count), bool)
        asked = {name: tensor(value) for name, value in inputs.items()}
        position = window.find(asked, tf.constant(allowed)).numpy()
        # lists have one length, however many candidates a window's catalogue gives
        missing = [(0, 0), (0, max(list_size - position.shape[1], 0))]
        position = np.pad(position, missing, constant_values=count)
        bought = labels[F.LABEL][batch].toarray()
        bought[:, count] = 0
        if novel:
            bought[:, :count] *= allowed
        label = np.take_along_axis(bought, position, 1) > 0
        place, weight = sample(
            position < count, label, promoted[position], list_size, config.promoted_share, rng
        )
        kept = np.take_along_axis(position, place, 1)
        excluded = [ids[np.flatnonzero(row)] if novel else ids[:0] for row in seen[batch]]
        with np.errstate(invalid="ignore"):
            found_share = (label.sum(1) / bought.sum(1)).astype(np.float32)
        yield inputs | {
            F.CANDIDATE_ITEM_ID: np.where(weight > 0, ids[kept], ""),
            **{
                name: np.take_along_axis(values[batch].toarray(), kept, 1) * (weight > 0)
                for name, values in labels.items()
            },
            F.CANDIDATE_WEIGHT: weight,
            F.EXCLUDE_ITEM_ID: _padded(excluded),
            AS_OF: np.full(len(batch), window.as_of, np.int64),
            "found_share": found_share,
            "user": batch,
        }


def _positions(log: EventLog, retriever: Retriever) -> np.ndarray:
    """Position among the candidates of each distinct item of the log, C where none."""
    return retriever.positions(tensor(log.items)).numpy()


def _pairs(user: np.ndarray, position: np.ndarray, users: int, count: int) -> np.ndarray:
    """bool [users, count]: which (user, candidate) pairs occur."""
    out = np.zeros((users, count + 1), bool)
    out[user, position] = True
    return out[:, :count]


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    longest = max((len(row) for row in rows), default=0)
    out = np.full((len(rows), max(longest, 1)), "", object)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out


def run(
    training: Iterable[LabelWindow],
    evaluation: LabelWindow,
    slices: Mapping[str, np.ndarray],
    item_slices: Mapping[str, np.ndarray],
    history_length: int,
    config: Lists,
    output: str,
) -> tuple[dict[str, int], str]:
    """Writes the ranker's training and evaluation lists.

    `full` has every candidate of a sample of users, for what samples cannot say (calibration).

    Args:
      training: label windows before the cutoff.
      evaluation: the window after it.
      slices: name -> object (str) [users of the log], written as `slice_<name>`.
      item_slices: name -> object (str) [items of the log], written likewise, a value for each
        candidate of an evaluation list.
      history_length: events a request carries.
      config: list sizes and seed.
      output: folder of the Examples artifact; gets Split-train, Split-eval and Split-full.

    Returns:
      (examples of each split, a line for a person).
    """
    shares: dict[str, list[np.ndarray]] = {"all": [], "novel": []}

    def lists(
        window: LabelWindow,
        size: int,
        task: str,
        users: int | None,
        shares: list[np.ndarray],
        of_items: Mapping[str, np.ndarray] = types.MappingProxyType({}),
    ) -> Iterator[pa.RecordBatch]:
        for batch in labelled(window, history_length, task == "novel", config, size, users):
            shares.append(batch.pop("found_share"))
            user = batch.pop("user")
            sliced = {F.SLICE_PREFIX + name: values[user] for name, values in slices.items()}
            if of_items:
                at = pd.Index(window.past.items).get_indexer(batch[F.CANDIDATE_ITEM_ID].ravel())
                at = at.reshape(batch[F.CANDIDATE_ITEM_ID].shape)
                sliced |= {
                    F.SLICE_PREFIX + name: np.append(values, "")[at] for name, values in of_items.items()
                }
            yield record_batch(batch | sliced | {F.SLICE_PREFIX + "task": np.full(len(user), task, object)})

    def training_lists() -> Iterator[pa.RecordBatch]:
        for window in training:
            for task in window.tasks:
                yield from lists(window, config.list_size, task, None, [])

    def evaluation_lists() -> Iterator[pa.RecordBatch]:
        for task, found in shares.items():
            yield from lists(evaluation, config.eval_list_size, task, config.eval_users, found, item_slices)

    written = {
        "train": training_lists(),
        "eval": evaluation_lists(),
        "full": lists(evaluation, evaluation.most_candidates, "all", config.full_users, []),
    }
    counts = {
        split: example_io.write_records(example_io.split_path(output, split), batches)
        for split, batches in written.items()
    }
    found = {}
    for task, values in shares.items():
        share = np.concatenate([np.zeros(0), *values])
        share = share[~np.isnan(share)]
        found[task] = float(share.mean()) if len(share) else 0.0
    return counts, (
        f"{counts['train']:,} training and {counts['eval']:,} evaluation lists; the sources hold "
        f"{found['all']:.1%} of what is bought next, {found['novel']:.1%} of first purchases"
    )
