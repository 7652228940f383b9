"""`preprocessing_fn`s of the two Transforms, and the time features that serving shares.

Index 0 always means "missing or unknown", so that an id never seen in training has a
defined, trained embedding (see id dropout in `models.retrieval.towers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from schema import names as F


def weekday_of(timestamp: tf.Tensor) -> tf.Tensor:
    """1 (Monday) to 7, int32, of unix seconds (int64); 0 for a timestamp of 0 or less."""
    day = timestamp // F.SECONDS_PER_DAY
    # 1 January 1970 was a Thursday
    return tf.cast(tf.where(timestamp > 0, (day + 3) % 7 + 1, 0), tf.int32)


def hour_of(timestamp: tf.Tensor) -> tf.Tensor:
    """1 (midnight to one) to 24, int32, of unix seconds (int64); 0 for a timestamp of 0 or less."""
    return tf.cast(tf.where(timestamp > 0, timestamp % F.SECONDS_PER_DAY // 3600 + 1, 0), tf.int32)


def clean(values: tf.Tensor) -> tf.Tensor:
    """Words without line breaks, NUL and other control characters, and with single spaces.

    Catalogue and requests are cleaned alike, so that a shop's own value finds itself whatever its
    blanks. A vocabulary file could not hold line breaks, and Transform's drops values that have some.

    Args:
      values: UTF-8 strings, any shape.
    """
    return tf.strings.strip(tf.strings.regex_replace(values, r"[\p{Z}\p{Cc}]+", " "))


def _ragged(feature: Any) -> tf.RaggedTensor:
    if isinstance(feature, tf.sparse.SparseTensor):
        return tf.RaggedTensor.from_sparse(feature)
    # dense where the schema gives a list a fixed length: every session is one event
    return feature if isinstance(feature, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(feature)


def _scalar(feature: Any, default: Any) -> tf.Tensor:
    """The first value of each row, [B]."""
    if isinstance(feature, tf.sparse.SparseTensor | tf.RaggedTensor):
        feature = _ragged(feature)[:, :1].to_tensor(default, shape=[None, 1])
    return tf.squeeze(feature, 1) if feature.shape.rank == 2 else feature


def _codes(values: tf.Tensor, vocabulary: str, minimum: int | None = None) -> tf.Tensor:
    """Vocabulary codes from 1, 0 for missing and out-of-vocabulary values, of string [B]."""
    present = tf.boolean_mask(values, values != "")
    path = tft.vocabulary(present, vocab_filename=vocabulary, frequency_threshold=minimum)
    return tft.apply_vocabulary(values, path, default_value=-1) + 1


def _coded(values: tf.RaggedTensor, vocabulary: Any) -> tf.SparseTensor:
    """Codes of each value, 0 where the vocabulary lacks it.

    Sparse, because Transform writes a ragged output as two features, of other names: values and
    row lengths.
    """
    return values.with_values(
        tft.apply_vocabulary(values.values, vocabulary, default_value=-1) + 1
    ).to_sparse()


def item_text(columns: Sequence[tf.Tensor]) -> tf.Tensor:
    """The text of items, string [B], of their text columns (string [B] each): one separator between the
    parts that exist, lower case, single spaces.
    """
    parts = [clean(column) for column in columns]
    joined = tf.strings.reduce_join(
        tf.stack([tf.where(part == "", "", tf.strings.join([part, ". "])) for part in parts], 1), 1
    )
    return tf.strings.strip(tf.strings.lower(joined, "utf-8"))


def items_preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> dict[str, Any]:
    """Items: the text columns joined and cleaned, categories coded.

    Args:
      inputs: the raw items (see the data contract).
      custom_config: `text` (source columns in order), `categorical` (feature names),
        `channels` (exposure channels).

    Returns:
      `item_id` string [B], `text` string [B], the categories int64 [B], the exposures as
      they came.
    """
    text = item_text([_scalar(inputs[F.text_column(name)], "") for name in custom_config["text"]])
    out: dict[str, Any] = {F.ITEM_ID: _scalar(inputs[F.ITEM_ID], ""), F.TEXT: text}
    for name in custom_config["categorical"]:
        out[name] = _codes(clean(_scalar(inputs[name], "")), name)
    if custom_config["channels"]:
        out[F.EXPOSURE_WEEK] = inputs[F.EXPOSURE_WEEK]
    for channel in custom_config["channels"]:
        out[F.exposure(channel)] = inputs[F.exposure(channel)]
    return out


def users_preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> dict[str, Any]:
    """Users: their attributes coded.

    Args:
      inputs: the raw users.
      custom_config: `categorical` (feature names).

    Returns:
      `user_id` string [B], the attributes int64 [B].
    """
    out: dict[str, Any] = {F.USER_ID: _scalar(inputs[F.USER_ID], "")}
    for name in custom_config["categorical"]:
        out[name] = _codes(clean(_scalar(inputs[name], "")), name)
    return out


def events_preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> dict[str, Any]:
    """Sessions: ids coded by vocabularies of the training targets, time split up.

    Args:
      inputs: the raw sessions.
      custom_config: `contexts` (names), `min_item_events` (targets an item needs to have an
        embedding of its own).

    Returns:
      `user` int64 [B], `target_item`, `target_event_type`, `history_item` and `history_event_type`
      sparse int64, `history_age_days` sparse float32, `context_*` int64 [B], `weekday` and `hour`
      int64 [B], `timestamp` int64 [B].
    """
    target = _ragged(inputs[F.TARGET_ITEM_ID])
    history = _ragged(inputs[F.HISTORY_ITEM_ID])
    items = tft.vocabulary(
        target.values, vocab_filename=F.ITEM_VOCABULARY, frequency_threshold=custom_config["min_item_events"]
    )
    target_type = _ragged(inputs[F.TARGET_EVENT_TYPE])
    types = tft.vocabulary(target_type.values, vocab_filename=F.EVENT_TYPE_VOCABULARY)
    history_type = _ragged(inputs[F.HISTORY_EVENT_TYPE])
    timestamp = _scalar(inputs[F.TIMESTAMP], 0)
    out: dict[str, Any] = {
        "user": _codes(_scalar(inputs[F.USER_ID], ""), F.USER_VOCABULARY),
        "target_item": _coded(target, items),
        F.TARGET_EVENT_TYPE: _coded(target_type, types),
        "history_item": _coded(history, items),
        F.HISTORY_AGE_DAYS: inputs[F.HISTORY_AGE_DAYS],
        F.HISTORY_EVENT_TYPE: _coded(history_type, types),
        "weekday": tf.cast(weekday_of(timestamp), tf.int64),
        "hour": tf.cast(hour_of(timestamp), tf.int64),
        F.TIMESTAMP: timestamp,
    }
    for name in custom_config["contexts"]:
        out[F.context(name)] = _codes(clean(_scalar(inputs[F.context(name)], "")), F.context(name))
    return out
