"""Fits the ranker of searches to lists of candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from components.common.queries import Queries
from components.common.search_metrics import dcg, ideal_dcg
from models.search.ranker import SearchRanker
from schema.config import SearchTraining

TOP = 10
MEASURE = f"ndcg@{TOP}"
_ENOUGH = 400  # lists that a hidden layer needs: with a hundred it was worse than none
_DEPTH = 100  # candidates by their present order that a list teaches with, besides all right ones


@dataclasses.dataclass(frozen=True)
class Lists:
    """Candidates of queries.

    Attributes:
      features: float32 [Q, N, F].
      personal: float32 [Q, N, P].
      position: int32 [Q, N].
      valid, exact: bool [Q, N].
      gain: float32 [Q, N]; what was not judged counts 0.
      ideal: float64 [Q], the largest DCG@10 that any ranking of the catalogue reaches.
    """

    features: np.ndarray
    personal: np.ndarray
    position: np.ndarray
    valid: np.ndarray
    exact: np.ndarray
    gain: np.ndarray
    ideal: np.ndarray

    def __len__(self) -> int:
        return len(self.ideal)

    @classmethod
    def joined(cls, parts: list[Lists]) -> Self:
        """All lists together; shorter ones are padded."""
        longest = max(part.valid.shape[1] for part in parts)

        def of(name: str) -> np.ndarray:
            values = [getattr(part, name) for part in parts]
            if values[0].ndim == 1:
                return np.concatenate(values)
            pads = [[(0, 0), (0, longest - v.shape[1])] + [(0, 0)] * (v.ndim - 2) for v in values]
            return np.concatenate([np.pad(v, pad) for v, pad in zip(values, pads, strict=True)])

        return cls(**{field.name: of(field.name) for field in dataclasses.fields(cls)})

    def where(self, chosen: np.ndarray) -> Self:
        """Some of the lists (bool [Q] or int [n])."""
        return type(self)(
            **{field.name: getattr(self, field.name)[chosen] for field in dataclasses.fields(self)}
        )

    def with_gains(self, queries: Queries) -> Self:
        """With the gains that the queries have for what was found."""
        gain, _ = queries.gains_of(self.position)
        return dataclasses.replace(
            self, gain=np.where(self.valid, gain, 0).astype(np.float32), ideal=ideal_dcg(queries, TOP)
        )


def fitted(
    features: Sequence[str], personal: Sequence[str], train: Lists, valid: Lists, config: SearchTraining
) -> tuple[SearchRanker, list[dict[str, float]], dict[str, float]]:
    """A linear ranker, or the one with a hidden layer where there is enough to learn from and it orders the
    validation lists better.

    Returns:
      (the ranker; the history and the best entry of :func:`fit`).
    """
    widths = {0, config.hidden} if len(train) >= _ENOUGH else {0}
    found = []
    for hidden in sorted(widths):
        ranker = SearchRanker(features, personal, hidden)
        history, best = fit(ranker, train, valid, config)
        found.append((ranker, history, best | {"hidden": float(hidden)}))
    return max(found, key=lambda entry: entry[2][MEASURE])


def fit(
    ranker: SearchRanker, train: Lists, valid: Lists, config: SearchTraining
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Trains the ranker until the validation lists are ordered no better; its best weights stay.

    Each pair of candidates with different gains is learned by the logistic loss of its score difference,
    weighted by how much NDCG a swap of the two would change (LambdaRank; Burges, "From RankNet to
    LambdaRank to LambdaMART", 2010).

    Args:
      ranker: to be trained; what it is before counts as an epoch, so that it never gets worse.
      train: what is learned from.
      valid: what training is stopped by; `train` itself where it is empty.
      config: how long and how fast.

    Returns:
      (one entry an epoch: `epoch`, `loss`, NDCG@10 on the validation lists; the best entry).
    """
    rows = train.valid
    ranker.adapt(train.features[rows], train.personal[rows] if train.personal.shape[-1] else None)
    judge = valid if len(valid) else train
    optimizer = tf.keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    variables = ranker.trainable_variables
    optimizer.build(variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(
        features: tf.Tensor, personal: tf.Tensor | None, gain: tf.Tensor, usable: tf.Tensor, ideal: tf.Tensor
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = lambda_loss(ranker.score(features, personal), gain, usable, ideal)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    history = [{"epoch": 0.0, MEASURE: measured(ranker, judge)}]
    best, kept = history[0], [variable.numpy() for variable in variables]
    rng = np.random.default_rng(config.seed)
    learnable = np.flatnonzero((train.gain > 0).any(1))
    for epoch in range(1, config.epochs + 1 if len(learnable) else 1):
        losses = []
        order = rng.permutation(learnable)
        for start in range(0, len(order), config.batch_size):
            batch = _hardest(ranker, train.where(order[start : start + config.batch_size]))
            personal = batch.personal if batch.personal.shape[-1] else None
            losses.append(
                step(batch.features, personal, batch.gain, batch.valid, batch.ideal.astype(np.float32))
            )
        entry = {"epoch": float(epoch), "loss": float(np.mean(losses)), MEASURE: measured(ranker, judge)}
        history.append(entry)
        if entry[MEASURE] > best[MEASURE]:
            best, kept = entry, [variable.numpy() for variable in variables]
        elif epoch - best["epoch"] >= config.patience:
            break
    for variable, value in zip(variables, kept, strict=True):
        variable.assign(value)
    return history, best


def lambda_loss(score: tf.Tensor, gain: tf.Tensor, valid: tf.Tensor, ideal: tf.Tensor) -> tf.Tensor:
    """The mean over lists of the weighted pairwise logistic losses (scalar).

    Args:
      score: float32 [B, N].
      gain: float32 [B, N].
      valid: bool [B, N].
      ideal: float32 [B], DCG of the best order.
    """
    lowest = score.dtype.min
    order = tf.argsort(tf.where(valid, tf.stop_gradient(score), lowest), 1, direction="DESCENDING")
    rank = tf.argsort(order, 1)  # of each candidate, from 0
    discount = np.float32(np.log(2.0)) / tf.math.log(tf.cast(rank, tf.float32) + 2.0)
    better = (gain[:, :, None] > gain[:, None, :]) & valid[:, :, None] & valid[:, None, :]
    change = tf.abs(discount[:, :, None] - discount[:, None, :]) * (gain[:, :, None] - gain[:, None, :])
    each = tf.nn.softplus(score[:, None, :] - score[:, :, None]) * change
    total = tf.reduce_sum(tf.where(better, each, 0.0), [1, 2])
    return tf.reduce_mean(total / tf.maximum(ideal, 1e-6))


def ordered(ranker: SearchRanker, lists: Lists) -> np.ndarray:
    """int32 [Q, N], positions in the ranker's order, -1 for empty slots."""
    parts = []
    for start in range(0, len(lists), 256):
        part = lists.where(np.arange(start, min(start + 256, len(lists))))
        personal = part.personal if part.personal.shape[-1] else None
        score = ranker.order(ranker.score(part.features, personal), part.exact, part.valid).numpy()
        order = np.argsort(-score, 1, kind="stable")
        parts.append(np.take_along_axis(np.where(part.valid, part.position, -1), order, 1))
    return np.concatenate(parts) if parts else np.zeros(lists.position.shape, np.int32)


def measured(ranker: SearchRanker, lists: Lists) -> float:
    """Mean NDCG@10 of the ranker's order; what the candidates lack counts as missed."""
    values = []
    for start in range(0, len(lists), 256):
        part = lists.where(np.arange(start, min(start + 256, len(lists))))
        personal = part.personal if part.personal.shape[-1] else None
        score = ranker.order(ranker.score(part.features, personal), part.exact, part.valid).numpy()
        order = np.argsort(-score, 1, kind="stable")
        values.append(dcg(np.take_along_axis(part.gain, order, 1), TOP) / np.maximum(part.ideal, 1e-9))
    return float(np.concatenate(values).mean()) if values else 0.0


def _hardest(ranker: SearchRanker, lists: Lists) -> Lists:
    """The candidates that are right or rank high at present: pairs are quadratic in their number."""
    personal = lists.personal if lists.personal.shape[-1] else None
    score = ranker.score(lists.features, personal).numpy()
    score = np.where(lists.valid, score, -np.inf) + np.where(lists.gain > 0, 1e6, 0)
    chosen = np.argsort(-score, 1, kind="stable")[:, :_DEPTH]

    def of(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, chosen if values.ndim == 2 else chosen[..., None], 1)

    names = ("features", "personal", "position", "valid", "exact", "gain")
    return dataclasses.replace(lists, **{name: of(getattr(lists, name)) for name in names})
