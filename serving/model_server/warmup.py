"""Replays a version's recorded requests, so that its first user does not pay for lazy work."""

from __future__ import annotations

import logging
import os

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.model_server import predictor
from serving.model_server.errors import Code, StatusError
from serving.model_server.servable import Servable

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000  # TF Serving's limit

_log = logging.getLogger(__name__)


def warm_up(servable: Servable) -> int:
    """Runs the requests of `assets.extra/tf_serving_warmup_requests`, if the file exists.

    Args:
      servable: a loaded version that does not serve yet.

    Returns:
      How many requests ran.

    Raises:
      StatusError: the file is not a TFRecord file of PredictionLog (DATA_LOSS), holds more
        than 1,000 records (INVALID_ARGUMENT), or a request failed (its own code). The version
        must then not serve: TF Serving refuses it too.
    """
    path = os.path.join(servable.path, WARMUP_FILE)
    if not os.path.exists(path):
        return 0
    count = 0
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(path).as_numpy_iterator(), start=1):
            if number > MAX_RECORDS:
                raise StatusError(Code.INVALID_ARGUMENT, f"{path}: more than {MAX_RECORDS} warm-up records")
            log = prediction_log_pb2.PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            if kind != "predict_log":
                _log.warning(
                    "%s record %d: %s is not supported and was skipped", path, number, kind or "empty record"
                )
                continue
            try:
                predictor.run(servable, log.predict_log.request)
            except StatusError as error:
                raise StatusError(error.code, f"{path} record {number}: {error.message}") from error
            count += 1
    except (tf.errors.DataLossError, DecodeError) as error:
        raise StatusError(Code.DATA_LOSS, f"{path}: not a TFRecord file of PredictionLog") from error
    return count
