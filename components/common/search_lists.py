"""Describes the candidates of many queries, as the servable does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from components.common.candidate_lists import tensor
from components.common.queries import Queries
from models.funnel.search import SearchPairs
from models.funnel.signatures import signature_specs
from models.search.index import SearchIndex
from models.search.lexical import Lexical
from models.search.searcher import query_reader
from schema import names as F
from schema.config import Search

BATCH = 16


def lexical_lists(index: SearchIndex, texts: np.ndarray, settings: Search, depth: int) -> np.ndarray:
    """What BM25F alone finds.

    Args:
      index: the tables.
      texts: object (str) [Q], queries.
      settings: the configuration's section.
      depth: items of a list.

    Returns:
      int32 [Q, depth], positions, best first; -1 where fewer items have a word of the query.
    """
    lexical = Lexical(index.postings, index.count)
    reader, wanted = query_reader(index, lexical, settings), min(depth, index.count)

    def best(words: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        score, position = tf.math.top_k(lexical.scores(*words)[0], wanted)
        return tf.where(score > 0, position, -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def find(queries: tf.Tensor) -> tf.Tensor:
        read = reader(queries)
        spec = tf.TensorSpec([wanted], tf.int32)
        return tf.map_fn(best, (read.term, read.weight), fn_output_signature=spec)

    batches = [texts[start : start + BATCH].tolist() for start in range(0, len(texts), BATCH)]
    found = [find(tf.constant(batch, tf.string)).numpy() for batch in batches]
    lists = np.concatenate([np.zeros((0, wanted), np.int32), *found])
    return np.pad(lists, [(0, 0), (0, depth - wanted)], constant_values=-1)


def search_inputs(texts: np.ndarray, contexts: Sequence[str], k: int = 0) -> dict[str, np.ndarray]:
    """The inputs of `search` of somebody unknown, without filters.

    Args:
      texts: object (str) [Q].
      contexts: the shop's context columns.
      k: how many results; 0 is the shop's default.
    """
    count = len(texts)
    empty, unset = np.full(count, "", object), np.full(count, -1, np.float32)
    inputs = dict.fromkeys((F.USER_ID, F.SORT, *map(F.context, contexts)), empty)
    for name in (F.HISTORY_ITEM_ID, F.HISTORY_EVENT_TYPE, F.EXCLUDE_ITEM_ID, F.CATEGORY, F.BRAND):
        inputs[name] = empty[:, None]
    inputs |= dict.fromkeys((F.MIN_PRICE, F.MAX_PRICE, F.DIVERSITY, F.DROP_BOUGHT_DAYS), unset)
    inputs[F.HISTORY_AGE_DAYS] = np.zeros((count, 1), np.float32)
    inputs[F.CONTEXT_TIMESTAMP] = np.zeros(count, np.int64)
    return inputs | {F.QUERY: texts, F.K: np.full(count, k, np.int32)}


class Describer:
    """Finds and describes candidates, in batches of one shape.

    Args:
      pairs: what describes.
      contexts: the shop's context columns.
    """

    def __init__(self, pairs: SearchPairs, contexts: Sequence[str]) -> None:
        self._contexts = tuple(contexts)
        spec = signature_specs(self._contexts)[F.SEARCH]

        def describe(inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
            described = pairs(inputs)
            found = described.found
            return found.features, described.personal, found.position, found.valid, found.exact

        self._describe = tf.function(describe, input_signature=[dict(spec)], autograph=False)
        self._spec = spec

    def __call__(
        self, queries: Queries, states: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, ...]:
        """Candidates of queries.

        Args:
          queries: what is asked.
          states: request inputs of who asks, [Q, ...] each; nobody is known if not given.

        Returns:
          features float32 [Q, N, F], personal float32 [Q, N, P], position int32 [Q, N], valid and exact
          bool [Q, N].
        """
        inputs = search_inputs(queries.text, self._contexts) | dict(states or {})
        parts = []
        for start in range(0, len(queries), BATCH):
            batch = {name: tensor(inputs[name][start : start + BATCH]) for name in self._spec}
            parts.append([value.numpy() for value in self._describe(batch)])
        longest = max(part[2].shape[1] for part in parts)
        for part in parts:
            missing = longest - part[2].shape[1]
            for place, value in enumerate(part):
                pad = [(0, 0), (0, missing), *[(0, 0)] * (value.ndim - 2)]
                part[place] = np.pad(value, pad)
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))
