"""Candidates of past requests, labelled by what happened next."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import tensorflow as tf

from models import example_io
from models import features as F
from models.event_log import EventLog
from models.retriever import Retriever
from pipeline.config import Ranking

AS_OF = "as_of"
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Request:
    """One moment at which every user of a window asks.

    Attributes:
      as_of: unix seconds, the moment of the retriever's snapshot.
      past: the events before it: what is known.
      future: the events that are labels.
      moments: int64 [users of the log], unix seconds at which each user asks.
      retriever: built from the snapshot of `as_of`.
    """

    as_of: int
    past: EventLog
    future: EventLog
    moments: np.ndarray
    retriever: Retriever

    @classmethod
    def window(cls, log: EventLog, as_of: int, end: int, retriever: Retriever) -> Request:
        """Everybody asks at `as_of`, labels are the events of [as_of, end)."""
        moments = np.full(len(log.users), as_of, np.int64)
        return cls(as_of, log.before(as_of), log.between(as_of, end), moments, retriever)


def labelled(
    request: Request,
    history_length: int,
    novel: bool,
    list_size: int,
    seed: int,
    max_users: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of labelled candidate lists.

    Args:
      request: when, what is known and what comes, and with which retriever.
      history_length: events a request carries.
      novel: exclude what the user bought before (the task "novel").
      list_size: N, candidates kept: all that were bought, then a random sample of the rest.
      seed: of the sample.
      max_users: a random sample of so many users asks; all by default.

    Yields:
      Request inputs (see `models.requests.request_spec`) and `exclude_item_id` object [B, E],
      `candidate_item_id` object [B, N] (padded with ""), `label`, `candidate_weight` float32
      [B, N]; `as_of` int64 [B]; `found_share` float32 [B], share of the bought candidates
      that the sources found; `user` int [B].
    """
    retriever = request.retriever
    count = retriever.sources.count
    past, future = request.past, request.future
    position_of = _positions(past, retriever)
    bought = _pairs(future.user, position_of[future.item], len(past.users), count)
    seen = _pairs(past.user, position_of[past.item], len(past.users), count)
    wanted = bought & ~seen if novel else bought
    users = np.flatnonzero(wanted.any(1) & np.isin(np.arange(len(past.users)), past.user))
    ids = (
        tf.gather(retriever.parser.item_ids, retriever.sources.candidate_row)
        .numpy()
        .astype(str)
        .astype(object)
    )
    find = tf.function(
        lambda inputs, allowed: retriever.find(inputs, allowed).position,
        reduce_retracing=True,
        autograph=False,
    )
    rng = np.random.default_rng(seed)
    if max_users is not None and len(users) > max_users:
        users = np.sort(rng.choice(users, max_users, replace=False))
    for start in range(0, len(users), _BATCH):
        batch = users[start : start + _BATCH]
        inputs = past.histories(batch, request.moments, history_length)
        inputs[F.CONTEXT_TIMESTAMP] = request.moments[batch]
        allowed = ~seen[batch] if novel else np.ones((1, count), bool)
        position = find({name: tensor(value) for name, value in inputs.items()}, tf.constant(allowed)).numpy()
        label = np.concatenate([wanted[batch], np.zeros((len(batch), 1), bool)], 1)
        label = np.take_along_axis(label, position, 1)
        # lists have one length, however many candidates a window's catalogue gives
        missing = [(0, 0), (0, max(list_size - position.shape[1], 0))]
        position, label = np.pad(position, missing, constant_values=count), np.pad(label, missing)
        place, weight = _sample(position < count, label, list_size, rng)
        kept = np.take_along_axis(position, place, 1)
        excluded = [ids[np.flatnonzero(row)] if novel else ids[:0] for row in seen[batch]]
        yield inputs | {
            F.CANDIDATE_ITEM_ID: np.where(weight > 0, ids[kept], ""),
            F.LABEL: np.take_along_axis(label, place, 1).astype(np.float32) * (weight > 0),
            F.CANDIDATE_WEIGHT: weight,
            F.EXCLUDE_ITEM_ID: _padded(excluded),
            AS_OF: np.full(len(batch), request.as_of, np.int64),
            "found_share": (label.sum(1) / wanted[batch].sum(1)).astype(np.float32),
            "user": batch,
        }


def tensor(values: np.ndarray) -> tf.Tensor:
    """A numpy array as a tensor; object arrays of str become strings."""
    return tf.constant(
        values.tolist() if values.dtype == object else values, tf.string if values.dtype == object else None
    )


def _positions(log: EventLog, retriever: Retriever) -> np.ndarray:
    """Position among the candidates of each distinct item of the log, C where none."""
    return retriever.positions(tensor(log.items)).numpy()


def _pairs(user: np.ndarray, position: np.ndarray, users: int, count: int) -> np.ndarray:
    """bool [users, count]: which (user, candidate) pairs occur."""
    out = np.zeros((users, count + 1), bool)
    out[user, position] = True
    return out[:, :count]


def _sample(
    valid: np.ndarray, label: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the kept candidates and the inverse of the probability that they were kept.

    All positives are kept (as far as they fit), the rest of the list is a uniform sample of
    the other candidates.
    """
    key = rng.random(valid.shape)
    key = np.where(label, key - 1, np.where(valid, key, 2))
    place = np.argsort(key, 1)[:, :size]
    positives = np.minimum(label.sum(1), size)
    others = valid.sum(1) - label.sum(1)
    taken = np.clip(size - positives, 0, others)
    kept = np.take_along_axis(label, place, 1)
    weight = np.where(kept, 1.0, (others / np.maximum(taken, 1))[:, None])
    return place, (weight * np.take_along_axis(valid, place, 1)).astype(np.float32)


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    longest = max((len(row) for row in rows), default=0)
    out = np.full((len(rows), max(longest, 1)), "", object)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out


def record_batch(batch: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    """A batch as list columns; padding ("" or 0 beyond it) of the string lists is cut off.

    Candidate lists keep their padding, so that the lists of ids, labels and weights stay
    aligned.
    """
    keep_padding = {F.CANDIDATE_ITEM_ID, F.LABEL, F.CANDIDATE_WEIGHT}
    columns = {}
    history = (batch[F.HISTORY_ITEM_ID] != "").sum(1)
    for name, values in batch.items():
        if values.ndim == 1:
            values = values[:, None]
            size = np.ones(len(values), np.int64)
        elif name in keep_padding:
            size = np.full(len(values), values.shape[1])
        elif name == F.EXCLUDE_ITEM_ID:
            size = (values != "").sum(1)
        else:
            size = history
        flat = values[np.arange(values.shape[1]) < size[:, None]]
        offsets = np.concatenate([[0], np.cumsum(size)])
        if flat.dtype == object:
            data = pa.array(flat.tolist(), pa.large_string()).cast(pa.large_binary())
        elif np.issubdtype(flat.dtype, np.floating):
            data = pa.array(flat.astype(np.float32))
        else:
            data = pa.array(flat.astype(np.int64))
        columns[name] = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), data)
    return pa.RecordBatch.from_pydict(columns)


def run(
    training: list[Request],
    evaluation: Request,
    slices: Mapping[str, np.ndarray],
    history_length: int,
    config: Ranking,
    output: str,
) -> tuple[dict[str, int], str]:
    """Writes the ranker's training and evaluation lists.

    Args:
      training: label windows before the cutoff.
      evaluation: the window after it.
      slices: name -> object (str) [users of the log], written as `slice_<name>`.
      history_length: events a request carries.
      config: list sizes and seed.
      output: folder of the Examples artifact; gets Split-train and Split-eval.

    Returns:
      (examples of each split, a line for a person).
    """
    shares: dict[str, list[np.ndarray]] = {"all": [], "novel": []}

    def lists(request: Request, size: int, tasks: tuple[str, ...], split: str) -> Iterator[pa.RecordBatch]:
        for task in tasks:
            novel, most = task == "novel", config.eval_users if split == "eval" else None
            for batch in labelled(request, history_length, novel, size, config.seed, most):
                if split == "eval":
                    shares[task].append(batch["found_share"])
                user = batch.pop("user")
                batch.pop("found_share")
                sliced = {F.SLICE_PREFIX + name: values[user] for name, values in slices.items()}
                yield record_batch(
                    batch | sliced | {F.SLICE_PREFIX + "task": np.full(len(user), task, object)}
                )

    def all_training() -> Iterator[pa.RecordBatch]:
        for request in training:
            yield from lists(request, config.list_size, ("all", "novel"), "train")

    counts = {
        "train": example_io.write_records(example_io.split_path(output, "train"), all_training()),
        "eval": example_io.write_records(
            example_io.split_path(output, "eval"),
            lists(evaluation, config.eval_list_size, ("all", "novel"), "eval"),
        ),
    }
    found = {task: float(np.concatenate(values).mean()) if values else 0.0 for task, values in shares.items()}
    return counts, (
        f"{counts['train']:,} training and {counts['eval']:,} evaluation lists; the sources hold "
        f"{found['all']:.1%} of what is bought next, {found['novel']:.1%} of first purchases"
    )
