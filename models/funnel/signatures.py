"""The inputs of every signature, and how a method becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from models.data.requests import request_spec
from schema import names as F


def signature_specs(contexts: Sequence[str]) -> dict[str, dict[str, tf.TensorSpec]]:
    """Inputs of every signature by name (see `docs/serving.md`); a shop without search, or without
    events, has some of them.

    Args:
      contexts: the shop's context columns.
    """
    request = request_spec(contexts)
    ids = tf.TensorSpec([None], tf.string, F.ITEM_ID)
    k = tf.TensorSpec([None], tf.int32, F.K)
    exclude = {F.EXCLUDE_ITEM_ID: tf.TensorSpec([None, None], tf.string, F.EXCLUDE_ITEM_ID)}
    listed = exclude | {
        F.CATEGORY: tf.TensorSpec([None, None], tf.string, F.CATEGORY),
        F.K: k,
        F.DIVERSITY: tf.TensorSpec([None], tf.float32, F.DIVERSITY),
        F.DROP_BOUGHT_DAYS: tf.TensorSpec([None], tf.float32, F.DROP_BOUGHT_DAYS),
    }

    def text(name: str) -> tf.TensorSpec:
        return tf.TensorSpec([None], tf.string, name)

    searched = {F.QUERY: text(F.QUERY), F.SORT: text(F.SORT)}
    searched |= {name: tf.TensorSpec([None], tf.float32, name) for name in (F.MIN_PRICE, F.MAX_PRICE)}
    searched |= {F.BRAND: tf.TensorSpec([None, None], tf.string, F.BRAND)}
    candidates = exclude | {F.CANDIDATE_ITEM_ID: tf.TensorSpec([None, None], tf.string, F.CANDIDATE_ITEM_ID)}
    return {
        "recommend": request | listed,
        "search": request | listed | searched,
        "suggest": request | {F.PREFIX: text(F.PREFIX), F.K: k},
        "similar": {F.ITEM_ID: ids, F.K: k},
        "rank": request | candidates,
        "explain": request | candidates,
        "embed_text": {F.TEXT: text(F.TEXT)},
        "embed_user": request,
        "embed_item": {F.ITEM_ID: ids},
        "serving_default": {"examples": tf.TensorSpec([None], tf.string, "examples")},
    }


def parse_examples(serialized: tf.Tensor, contexts: Sequence[str]) -> dict[str, tf.Tensor]:
    """The inputs of `rank` from serialized tf.Examples (string [B]).

    A feature that an example lacks is empty: "", no event or nothing excluded, and an unknown time (0).
    """
    scalars = [F.USER_ID, *(F.context(name) for name in contexts)]
    lists = [F.HISTORY_ITEM_ID, F.HISTORY_EVENT_TYPE, F.EXCLUDE_ITEM_ID, F.CANDIDATE_ITEM_ID]
    spec: dict[str, Any] = {name: tf.io.FixedLenFeature([], tf.string, "") for name in scalars}
    spec |= {name: tf.io.RaggedFeature(tf.string) for name in lists}
    spec[F.HISTORY_AGE_DAYS] = tf.io.RaggedFeature(tf.float32)
    spec[F.CONTEXT_TIMESTAMP] = tf.io.FixedLenFeature([], tf.int64, 0)
    parsed = tf.io.parse_example(serialized, spec)
    return {
        name: value.to_tensor() if isinstance(value, tf.RaggedTensor) else value
        for name, value in parsed.items()
    }


def concrete(
    function: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]],
    spec: Mapping[str, tf.TensorSpec],
    name: str,
) -> tf.types.experimental.ConcreteFunction:
    """A concrete function with one keyword argument an input, as signatures need."""

    def call(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(inputs)

    call.__name__ = name
    return tf.function(call, autograph=False).get_concrete_function(**spec)
