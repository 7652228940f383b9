"""Trains an encoder of queries against the items' fixed vectors, and measures it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from components.common.queries import Queries, with_typo
from components.common.search_metrics import per_query
from models.text import training as text_training
from models.text.alignment import QueryAlignment, tokenized
from models.text.encoder import TextEncoder
from models.text.losses import Batch
from models.text.training import Fit
from schema.config import QueryEncoder

MEASURE = "ndcg@10"
_DEPTH = 50  # items that a measured query gets
_BLOCK = 128  # queries that are compared with all items at a time
_RIGHT = 16  # right items of a query that are no negatives; further ones are left out of the draw


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What is learned from.

    Attributes:
      queries: with what is right for them.
      target: float32 [Q, E], the text encoder's vectors of the queries.
      items: float32 [C, E], unit vectors of the items.
      hard: int32 [Q, H], items that rank high and are not right, -1 for none.
    """

    queries: Queries
    target: np.ndarray
    items: np.ndarray
    hard: np.ndarray


def nearest(vectors: np.ndarray, items: np.ndarray, count: int) -> np.ndarray:
    """int32 [Q, count], the items nearest to each vector (float32 [Q, E]), nearest first."""
    count = min(count, len(items))
    parts = []
    for start in range(0, len(vectors), _BLOCK):
        score = vectors[start : start + _BLOCK] @ items.T
        top = np.argpartition(-score, count - 1, 1)[:, :count]
        order = np.argsort(-np.take_along_axis(score, top, 1), 1, kind="stable")
        parts.append(np.take_along_axis(top, order, 1))
    return np.concatenate(parts).astype(np.int32) if parts else np.zeros((0, count), np.int32)


def measured(queries: Queries, vectors: np.ndarray, items: np.ndarray) -> float:
    """Mean NDCG@10 of the items nearest to the queries' vectors."""
    return float(per_query(queries, nearest(vectors, items, _DEPTH))[MEASURE].mean())


def hard_negatives(
    queries: Queries, ranked: list[np.ndarray], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Items that rank high and are not right.

    Args:
      queries: with what is right.
      ranked: int32 [Q, N] each, what words or vectors find for each query; -1 for none.
      count: H, how many of each query.
      rng: draws them.

    Returns:
      int32 [Q, H], drawn without repetition from all lists; -1 where there are fewer.
    """
    found = np.sort(np.concatenate(ranked, 1), 1) if ranked else np.full((len(queries), 1), -1, np.int32)
    gain, _ = queries.gains_of(np.maximum(found, 0))
    again = np.concatenate([np.zeros((len(found), 1), bool), found[:, 1:] == found[:, :-1]], 1)
    usable = (found >= 0) & (gain == 0) & ~again
    order = np.argsort(np.where(usable, rng.random(found.shape), 2.0), 1)[:, :count]
    drawn = np.where(np.take_along_axis(usable, order, 1), np.take_along_axis(found, order, 1), -1)
    return np.pad(drawn, [(0, 0), (0, count - drawn.shape[1])], constant_values=-1).astype(np.int32)


def train(
    encoder: TextEncoder,
    lesson: Lesson,
    valid: Queries,
    config: QueryEncoder,
    seed: int,
) -> Fit:
    """Trains the encoder until it finds no more on the validation queries; its best weights stay.

    Args:
      encoder: to be trained.
      lesson: what is learned from.
      valid: what training is stopped by; asked as they are and with a typing error.
      config: steps, batches, weights of the loss.
      seed: of what is drawn.
    """
    model = QueryAlignment(encoder, config.temperature, config.contrast)
    encode = encoder.function()
    asked = [valid.text, with_typo(valid.text, seed)]

    def validate() -> dict[str, float]:
        clean, typo = (measured(valid, encode_texts(encode, text), lesson.items) for text in asked)
        return {MEASURE: (clean + typo) / 2, f"{MEASURE}_clean": clean, f"{MEASURE}_typo": typo}

    optimizer = text_training.make_optimizer(config.learning_rate, config.steps)
    step = text_training.make_step(model, optimizer, tf.distribute.get_strategy(), False)
    batches = _batches(encoder, lesson, config, seed)
    return text_training.fit(
        step, batches, model.trained, validate, MEASURE, config.validate_every, config.patience
    )


def encode_texts(encode: Callable[[tf.Tensor], tf.Tensor], texts: np.ndarray, batch: int = 64) -> np.ndarray:
    """float32 [N, E], vectors of texts (object [N]), short ones together."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    parts = [
        encode(tf.constant(texts[order[start : start + batch]].tolist(), tf.string)).numpy()
        for start in range(0, len(texts), batch)
    ]
    vectors = np.concatenate(parts)
    out = np.empty_like(vectors)
    out[order] = vectors
    return out


def _batches(encoder: TextEncoder, lesson: Lesson, config: QueryEncoder, seed: int) -> Iterator[Batch]:
    """One batch a step: queries in random order, a share of them with a typing error."""
    rng = np.random.default_rng(seed)
    queries, total = lesson.queries, len(lesson.queries)
    written = [tokenized(encoder, text) for text in (queries.text, with_typo(queries.text, seed + 1))]
    right = _right(queries)
    items, target = tf.constant(lesson.items), lesson.target
    size = min(config.batch_size, total)
    order = np.concatenate([rng.permutation(total) for _ in range(-(-config.steps * size // total))])
    for number in range(config.steps):
        chosen = order[number * size : (number + 1) * size]
        wrong = rng.random(size) < config.typos
        ids = np.where(wrong[:, None], written[1][chosen], written[0][chosen])
        known = right[chosen]
        drawn = (rng.random(size) * (known >= 0).sum(1)).astype(int)
        row = np.concatenate([known[np.arange(size), drawn][:, None], lesson.hard[chosen]], 1)
        yield {
            "ids": tf.constant(ids[:, : int((ids > 0).sum(1).max())]),
            "target": tf.constant(target[chosen]),
            "row": tf.constant(row),
            "item": tf.gather(items, np.maximum(row, 0)),
            "right": tf.constant(known),
        }


def _right(queries: Queries) -> np.ndarray:
    """int32 [Q, W], the best items of each query, -1 for padding."""
    best = queries.best()
    keep = queries.gain >= best[queries.query]
    query, position = queries.query[keep], queries.position[keep]
    order = np.argsort(query, kind="stable")
    query, position = query[order], position[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    out = np.full((len(queries), _RIGHT), -1, np.int32)
    fits = rank < _RIGHT
    out[query[fits], rank[fits]] = position[fits]
    return out
