"""Candidates of past requests, labelled by what happened next."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
import tensorflow as tf

from models.data import example_io
from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from models.funnel.retriever import Retriever
from schema import names as F
from schema.config import Ranking

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
      promoted: float32 [C], store-weeks in which each candidate was promoted while the labels
        came about; None in a shop without promotions.
    """

    as_of: int
    past: EventLog
    future: EventLog
    moments: np.ndarray
    retriever: Retriever
    promoted: np.ndarray | None = None

    @property
    def most_candidates(self) -> int:
        """How many candidates the sources give at most."""
        return sum(self.retriever.sources.sizes.values())

    @functools.cached_property
    def find(self) -> Callable[[Mapping[str, tf.Tensor], tf.Tensor], tf.Tensor]:
        """Candidates of request inputs among the allowed ones (see `Retriever.find`), int32 [B, N].

        Traced once for all the lists of a window: tracing takes longer than asking a few hundred users.
        """
        return tf.function(
            lambda inputs, allowed: self.retriever.find(inputs, allowed).position,
            reduce_retracing=True,
            autograph=False,
        )

    @classmethod
    def window(
        cls, log: EventLog, as_of: int, end: int, retriever: Retriever, items: ItemTable | None = None
    ) -> Request:
        """Everybody asks at `as_of`, labels are the events of [as_of, end).

        Args:
          log: all events up to `end`.
          as_of, end: unix seconds.
          retriever: built from the snapshot of `as_of`.
          items: the catalogue with its promotions, None to draw no promoted negatives.
        """
        moments = np.full(len(log.users), as_of, np.int64)
        promoted = None if items is None else promotions(items, retriever, as_of, end)
        return cls(as_of, log.before(as_of), log.between(as_of, end), moments, retriever, promoted)


def promotions(items: ItemTable, retriever: Retriever, start: int, end: int) -> np.ndarray:
    """Store-weeks in which each candidate was promoted, in any channel, in [start, end).

    Returns:
      float32 [C]; a week counts as soon as one day of it lies in the window.
    """
    inside = (items.exposure_week < end) & (items.exposure_week + 7 * F.SECONDS_PER_DAY > start)
    stores = sum((channel[inside] for channel in items.exposure.values()), np.zeros(inside.sum()))
    total = np.bincount(items.exposure_row[inside], stores, minlength=len(items))
    row = retriever.sources.candidate_row.numpy()[: retriever.sources.count]
    return total[row].astype(np.float32)


def outcomes(request: Request, position: np.ndarray, soon_days: float) -> dict[str, sp.csr_matrix]:
    """What every user did after asking.

    Args:
      request: whose `future` is read.
      position: int32 [items of the log], candidate of each item, C where none.
      soon_days: D.

    Returns:
      float32 [users of the log, C + 1], column C being what is no candidate: `label` (1 =
      bought), `label_soon` (within D days), `label_next_session`, `label_repeat` (in two or more
      sessions), `label_quantity` and `label_value` (totals).
    """
    future = request.future
    shape = (len(future.users), request.retriever.sources.count + 1)
    column = position[future.item]

    def total(chosen: np.ndarray, values: np.ndarray | None = None) -> sp.csr_matrix:
        weights = np.ones(len(future), np.float32) if values is None else values
        where = (future.user[chosen], column[chosen])
        return sp.csr_matrix((weights[chosen], where), shape, np.float32)

    def any_of(chosen: np.ndarray) -> sp.csr_matrix:
        found = total(chosen)
        found.data[:] = 1
        return found

    every = np.ones(len(future), bool)
    soon = future.timestamp < request.moments[future.user] + soon_days * F.SECONDS_PER_DAY
    first = np.full(shape[0], np.iinfo(np.int64).max)
    np.minimum.at(first, future.user, future.session)
    # one line of each (session, item), however many lines the receipt has
    line = np.zeros(len(future), bool)
    line[np.unique(future.session * shape[1] + column, return_index=True)[1]] = True
    repeat = total(line)
    repeat.data = (repeat.data > 1).astype(np.float32)
    return {
        F.LABEL: any_of(every),
        F.LABEL_SOON: any_of(soon),
        F.LABEL_NEXT_SESSION: any_of(future.session == first[future.user]),
        F.LABEL_REPEAT: repeat,
        F.LABEL_QUANTITY: total(every, future.quantity),
        F.LABEL_VALUE: total(every, future.value),
    }


def labelled(
    request: Request,
    history_length: int,
    novel: bool,
    config: Ranking,
    list_size: int,
    max_users: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of labelled candidate lists.

    Everybody asks who comes back in the label window: a request is made by someone who comes,
    whether or not they then buy one of the candidates.

    Args:
      request: when, what is known and what comes, and with which retriever.
      history_length: events a request carries.
      novel: exclude what the user bought before (the task "novel").
      config: `soon_days`, `promoted_share` and the sample's seed.
      list_size: N, candidates kept: all that were bought, then a sample of the rest.
      max_users: a random sample of so many users asks; all by default.

    Yields:
      Request inputs (see `models.data.requests.request_spec`) and `exclude_item_id` object [B, E],
      `candidate_item_id` object [B, N] (padded with ""), the labels of :func:`outcomes` and
      `candidate_weight` float32 [B, N]; `as_of` int64 [B]; `found_share` float32 [B], share of
      the bought candidates that the sources found, NaN where none was bought; `user` int [B].
    """
    retriever = request.retriever
    count = retriever.sources.count
    past, future = request.past, request.future
    position_of = _positions(past, retriever)
    labels = outcomes(request, position_of, config.soon_days)
    seen = _pairs(past.user, position_of[past.item], len(past.users), count)
    users = np.intersect1d(past.user, future.user)
    ids = (
        tf.gather(retriever.parser.item_ids, retriever.sources.candidate_row)
        .numpy()
        .astype(str)
        .astype(object)
    )
    rng = np.random.default_rng(config.seed)
    promoted = np.zeros(count) if request.promoted is None else request.promoted
    promoted = np.append(promoted, 0.0)
    if max_users is not None and len(users) > max_users:
        users = np.sort(rng.choice(users, max_users, replace=False))
    for start in range(0, len(users), _BATCH):
        batch = users[start : start + _BATCH]
        inputs = past.histories(batch, request.moments, history_length)
        inputs[F.CONTEXT_TIMESTAMP] = request.moments[batch]
        allowed = ~seen[batch] if novel else np.ones((1, count), bool)
        asked = {name: tensor(value) for name, value in inputs.items()}
        position = request.find(asked, tf.constant(allowed)).numpy()
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
            AS_OF: np.full(len(batch), request.as_of, np.int64),
            "found_share": found_share,
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


def sample(
    valid: np.ndarray,
    label: np.ndarray,
    promoted: np.ndarray,
    size: int,
    promoted_share: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the kept candidates and the inverse of the probability that they were kept.

    All positives are kept (a uniform sample of them if they do not fit). Of the other places
    the share `promoted_share` goes to candidates in proportion to their promotions, the rest to
    any candidate alike: with M others, n places and e_i promotions candidate i is kept with
    probability pi_i = n ((1 - s) / M + s e_i / sum(e)), cut at 1. Systematic sampling in a random
    order (Madow, Annals of Mathematical Statistics 1949) keeps exactly n with just those
    probabilities, so that the weights 1 / pi_i stand for all candidates of the sources.

    Args:
      valid: bool [B, M], which places hold a candidate.
      label: bool [B, M], which were bought.
      promoted: [B, M], how much each was promoted while the user passed it over.
      size: N <= M.
      promoted_share: s.
      rng: source of randomness.

    Returns:
      (int [B, N] places, float32 [B, N] weights, 0 for padding).
    """
    positive, other = valid & label, valid & ~label
    room = size - np.minimum(positive.sum(1), size)
    probability = np.where(positive, _shares(positive, size), 0.0)
    exposed = np.where(other, promoted, 0.0)
    total = exposed.sum(1, keepdims=True)
    # without a promotion the sample is uniform
    share = np.where(total > 0, promoted_share, 0.0)
    mix = (1 - share) * other / np.maximum(other.sum(1, keepdims=True), 1)
    mix = mix + share * exposed / np.maximum(total, 1e-9)
    probability += _cut(mix, np.minimum(room, other.sum(1)))

    key = rng.random(valid.shape)
    order = np.argsort(key, 1)
    reached = np.cumsum(np.take_along_axis(probability, order, 1), 1)
    # sums of the probabilities are whole numbers up to rounding
    reached += rng.random((len(valid), 1)) * (1 - 1e-6)
    steps = np.floor(reached + 1e-9)
    taken = np.diff(steps, axis=1, prepend=0) > 0
    chosen = np.zeros_like(valid)
    np.put_along_axis(chosen, order, taken, 1)
    place = np.argsort(np.where(chosen, key - 1, key), 1)[:, :size]
    kept = np.take_along_axis(chosen, place, 1)
    weight = 1 / np.maximum(np.take_along_axis(probability, place, 1), 1e-12)
    return place, np.where(kept, weight, 0).astype(np.float32)


def _shares(chosen: np.ndarray, size: int) -> np.ndarray:
    """float [B, 1]: probability with which each of the chosen is kept if `size` fit."""
    return np.minimum(size / np.maximum(chosen.sum(1, keepdims=True), 1), 1.0)


def _cut(mix: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Inclusion probabilities min(1, c mix) that add up to `size` (int [B]) in every row."""
    out = mix * size[:, None]
    while (out > 1 + 1e-9).any():
        full = out >= 1
        rest = np.where(full, 0.0, mix)
        left = (size - full.sum(1))[:, None] * rest / np.maximum(rest.sum(1, keepdims=True), 1e-12)
        out = np.where(full, 1.0, left)
    return out


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
    keep_padding = {F.CANDIDATE_ITEM_ID, F.CANDIDATE_WEIGHT, *F.LABELS}
    keep_padding |= {name for name in batch if name.startswith(F.SLICE_PREFIX)}
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
    item_slices: Mapping[str, np.ndarray],
    history_length: int,
    config: Ranking,
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
        request: Request,
        size: int,
        task: str,
        users: int | None,
        shares: list[np.ndarray],
        of_items: Mapping[str, np.ndarray] = types.MappingProxyType({}),
    ) -> Iterator[pa.RecordBatch]:
        for batch in labelled(request, history_length, task == "novel", config, size, users):
            shares.append(batch.pop("found_share"))
            user = batch.pop("user")
            sliced = {F.SLICE_PREFIX + name: values[user] for name, values in slices.items()}
            if of_items:
                at = pd.Index(request.past.items).get_indexer(batch[F.CANDIDATE_ITEM_ID].ravel())
                at = at.reshape(batch[F.CANDIDATE_ITEM_ID].shape)
                sliced |= {
                    F.SLICE_PREFIX + name: np.append(values, "")[at] for name, values in of_items.items()
                }
            yield record_batch(batch | sliced | {F.SLICE_PREFIX + "task": np.full(len(user), task, object)})

    def training_lists() -> Iterator[pa.RecordBatch]:
        for request in training:
            for task in shares:
                yield from lists(request, config.list_size, task, None, [])

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
