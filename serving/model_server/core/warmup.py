"""Replays a version's recorded requests before it serves.

Its first users then do not pay for lazy work, and a version that cannot answer them, or that
answers with numbers that are none, never serves.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.model_server.core import inference, predictor
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.predictor import Arrays, Executor
from serving.model_server.core.servable import Servable
from serving.model_server.core.workers import Workers

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000  # TF Serving's limit


def warm_up(servable: Servable, executor: Executor = predictor.execute) -> int:
    """Runs the requests of `assets.extra/tf_serving_warmup_requests`, if the file exists.

    Args:
      servable: a loaded version that does not serve yet.
      executor: what runs a signature.

    Returns:
      How many requests ran.

    Raises:
      StatusError: the file is not a TFRecord file of PredictionLog (DATA_LOSS), holds more
        than 1,000 records (INVALID_ARGUMENT), a request failed (its own code; TF Serving
        refuses the version too), or an answer has a NaN or an infinite number (INTERNAL).
    """
    path = os.path.join(servable.path, WARMUP_FILE)
    if not os.path.exists(path):
        return 0
    with Workers(1, "warm-up") as worker:  # what its graph leaves in a thread would outlive the version
        return worker.submit(_warm_up, servable, path, executor).result()


def _warm_up(servable: Servable, path: str, executor: Executor) -> int:
    def checked(version: Servable, signature: str, inputs: Arrays, deadline: float | None = None) -> Arrays:
        outputs = executor(version, signature, inputs, deadline)
        for name, value in outputs.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise StatusError(
                    Code.INTERNAL, f"output {name} of signature {signature} has numbers that are not finite"
                )
        return outputs

    count = 0
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(path).as_numpy_iterator(), start=1):
            if number > MAX_RECORDS:
                raise StatusError(Code.INVALID_ARGUMENT, f"{path}: more than {MAX_RECORDS} warm-up records")
            try:
                _replay(servable, prediction_log_pb2.PredictionLog.FromString(record), checked)
            except StatusError as error:
                raise StatusError(error.code, f"{path} record {number}: {error.message}") from error
            count += 1
    except (tf.errors.DataLossError, DecodeError) as error:
        raise StatusError(Code.DATA_LOSS, f"{path}: not a TFRecord file of PredictionLog") from error
    return count


def _replay(servable: Servable, log: prediction_log_pb2.PredictionLog, executor: Executor) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = predict_pb2.PredictRequest()
        request.CopyFrom(log.predict_log.request)
        del request.output_filter[:]  # all answers are looked at
        predictor.run(servable, request, executor=executor)
    elif kind == "classify_log":
        inference.classify(servable, log.classify_log.request, executor=executor)
    elif kind == "regress_log":
        inference.regress(servable, log.regress_log.request, executor=executor)
    elif kind == "multi_inference_log":
        inference.multi_inference(servable, log.multi_inference_log.request, executor=executor)
    else:
        raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind or 'none'}")
