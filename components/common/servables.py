"""How a servable becomes a version folder: the SavedModel and the requests that warm it up."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components.common.candidate_lists import tensor
from models.data.item_table import ItemTable
from models.data.parameters import parameters
from schema import names as F

Signatures = Mapping[str, tf.types.experimental.ConcreteFunction]
WARMUP = os.path.join("assets.extra", "tf_serving_warmup_requests")
_MODEL = "shelfwise"
_LISTED = 8  # items that a warm-up request ranks
_QUERY_WORDS, _PREFIX_LETTERS = 3, 3


def export(servable: tf.Module, signatures: Signatures, folder: str) -> None:
    """Writes what the signatures read as a SavedModel, without the models that they come from."""
    module = tf.Module(name="servable")
    module.parameters = parameters(servable, signatures.values())
    tf.saved_model.save(module, folder, signatures=dict(signatures))


def neutral_inputs(items: ItemTable, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Values of every input that no user decides, of a batch of one.

    Args:
      items: the catalogue.
      rows: int [N], at least one item, which the request ranks; the first is what it searches for.
    """
    rows = rows[:_LISTED]
    words = str(items.text[rows[0]]).split()
    nothing, unset = np.asarray([[""]], object), np.asarray([-1], np.float32)
    return {
        F.EXCLUDE_ITEM_ID: nothing,
        F.CATEGORY: nothing,
        F.BRAND: nothing,
        F.MIN_PRICE: unset,
        F.MAX_PRICE: unset,
        F.DIVERSITY: unset,
        F.DROP_BOUGHT_DAYS: unset,
        F.SORT: np.asarray([""], object),
        F.QUERY: np.asarray([" ".join(words[:_QUERY_WORDS])], object),
        F.PREFIX: np.asarray([" ".join(words)[:_PREFIX_LETTERS]], object),
        F.K: np.asarray([10], np.int32),
        F.CANDIDATE_ITEM_ID: items.item_id[rows][None],
        F.ITEM_ID: items.item_id[rows[:1]],
        F.TEXT: items.text[rows[:1]],
    }


def nobody(timestamp: int = 0) -> dict[str, np.ndarray]:
    """The request state of somebody unknown without a history, of a batch of one."""
    return {
        F.USER_ID: np.asarray([""], object),
        F.HISTORY_ITEM_ID: np.asarray([[""]], object),
        F.HISTORY_AGE_DAYS: np.zeros([1, 1], np.float32),
        F.HISTORY_EVENT_TYPE: np.asarray([[""]], object),
        F.CONTEXT_TIMESTAMP: np.asarray([timestamp], np.int64),
    }


def predict_requests(signatures: Signatures, values: Mapping[str, Any]) -> list[predict_pb2.PredictRequest]:
    """One request for each signature, its inputs out of `values`."""
    requests = []
    for name, function in signatures.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.name = _MODEL
        request.model_spec.signature_name = name
        for spec in function.structured_input_signature[1].values():
            request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(tensor(values[spec.name]).numpy()))
        requests.append(request)
    return requests


def write_warmup(requests: Sequence[predict_pb2.PredictRequest], folder: str) -> None:
    """Writes the requests that a server answers before the version takes traffic."""
    path = os.path.join(folder, WARMUP)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log={"request": request})
            writer.write(log.SerializeToString())


def mebibytes(folder: str) -> float:
    """Size of all files of a folder."""
    size = sum(
        tf.io.gfile.stat(os.path.join(at, name)).length
        for at, _, names in tf.io.gfile.walk(folder)
        for name in names
    )
    return size / 2**20
