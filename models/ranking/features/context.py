"""The pairs that features describe, and what several blocks of features have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import tensorflow as tf

from models.retrieval.sources.base import FoundCandidates
from models.retrieval.sources.candidate_sources import CandidateSources
from schema import names as F

NEVER_DAYS = 720.0  # age given to "never bought"

T = TypeVar("T")


class PairContext:
    """A batch of requests and their candidates, while their features are computed.

    Attributes:
      request: from `RequestParser`; L events a request.
      found: from `CandidateSources`; N candidates a request.
      sources: what found them.
      position: int32 [B, N], the candidates.
      history_row: int32 [B, L], rows of the events' items, 0 for padding.
      computed: results of the functions marked `once`, by function.
    """

    def __init__(
        self, request: Mapping[str, tf.Tensor], found: FoundCandidates, sources: CandidateSources
    ) -> None:
        self.request, self.found, self.sources = request, found, sources
        self.position = found.position
        self.history_row = request["history_row"]
        self.computed: dict[Callable[[PairContext], Any], Any] = {}


def once(function: Callable[[PairContext], T]) -> Callable[[PairContext], T]:
    """Marks a function that several features need: its ops are in the graph once, however many ask."""

    @functools.wraps(function)
    def remembered(pairs: PairContext) -> T:
        if function not in pairs.computed:
            pairs.computed[function] = function(pairs)
        return pairs.computed[function]

    return remembered


@once
def rows(pairs: PairContext) -> tf.Tensor:
    """int32 [B, N], the candidates' rows of the item table; 0 for an empty place."""
    return tf.gather(pairs.sources.candidate_row, pairs.position)


def for_each_candidate(values: tf.Tensor, pairs: PairContext) -> tf.Tensor:
    """float32 [B, N, n], the same values (float32 [B, 1, n]) for every candidate of a request."""
    return tf.tile(values, [1, tf.shape(pairs.position)[1], 1])  # a fifth of the ops of `tf.repeat`


@once
def is_purchase(pairs: PairContext) -> tf.Tensor:
    """bool [B, L]: which places of the history hold a purchase of an item that the catalogue has.

    In a shop with one type of event, every event.
    """
    return pairs.sources.types.purchases(pairs.request)


def weights(pairs: PairContext) -> tf.Tensor:
    """float32 [B, L, 1 + decays]: 1 and the decayed weights of each purchase, 0 for everything else."""
    return pairs.found.events["weights"]


def recent(sources: CandidateSources) -> int:
    """Index, among the `weights`, of the one that halves in 45 days."""
    return sources.own_names.index("decay_45")


@once
def affinity(pairs: PairContext) -> tf.Tensor:
    """float32 [B, L]: what each event says of what the user likes: the weight of its type, halved in 45 days;
    0 for padding.
    """
    types, late = pairs.sources.types, recent(pairs.sources)
    of_type = types.weights(pairs.request)
    if of_type is None:
        return weights(pairs)[..., late]
    real = tf.cast(pairs.history_row > 0, tf.float32)
    return real * of_type * tf.pow(2.0, -pairs.request[F.HISTORY_AGE_DAYS] / 45.0)


@once
def totals(pairs: PairContext) -> tf.Tensor:
    """float32 [B, 1 + decays]: the sums of `weights` over the purchases."""
    return tf.reduce_sum(weights(pairs), 1)


@once
def sessions(pairs: PairContext) -> tf.Tensor:
    """float32 [B, 4]: moments at which something was bought: all, decayed by 45 days, and those of the last
    28 and 90 days.

    Events of one session are of one age.
    """
    age = tf.sort(tf.where(is_purchase(pairs), pairs.request[F.HISTORY_AGE_DAYS], -1.0), axis=1)
    first = tf.concat([tf.ones_like(age[:, :1], tf.bool), age[:, 1:] != age[:, :-1]], 1) & (age >= 0)
    new = tf.cast(first, tf.float32)
    lately = tf.cast(age[..., None] <= [28.0, 90.0], tf.float32)
    counted = tf.concat([tf.stack([tf.ones_like(age), tf.pow(2.0, -age / 45.0)], -1), lately], -1)
    return tf.reduce_sum(new[..., None] * counted, 1)
