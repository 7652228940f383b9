"""The gRPC face of the predictor: `tensorflow.serving.PredictionService`."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.model_server.core import inference, predictor, tensors
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.metrics import Metrics
from serving.model_server.core.predictor import Executor
from serving.model_server.core.servable import Servable
from serving.model_server.core.server_core import ServerCore

_log = logging.getLogger(__name__)
_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SIGNATURE_DEF = "signature_def"
_MAX_DETAILS = 2000  # bytes


def abort(context: grpc.ServicerContext, error: Exception) -> None:
    """Ends a call with the status of `error`; anything but a `StatusError` is a bug of ours.

    Raises:
      Exception: always (gRPC's way to end a call).
    """
    if isinstance(error, StatusError):
        # It travels in an HTTP/2 header; clients refuse headers beyond 8 KiB, and it may grow threefold.
        text = error.message.encode("utf-8", "replace")[:_MAX_DETAILS].decode("utf-8", "ignore")
        context.abort(_GRPC_CODES[error.code], text)
    _log.error("unexpected error", exc_info=error)
    context.abort(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}")


def deadline(context: grpc.ServicerContext) -> float | None:
    """The call's deadline as a `time.monotonic()` second; None if it has none."""
    remaining = context.time_remaining()
    # without a deadline gRPC gives centuries, for which no lock can be told to wait
    if remaining is None or remaining > threading.TIMEOUT_MAX:
        return None
    return time.monotonic() + remaining


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, Classify, Regress, MultiInference and GetModelMetadata.

    Args:
      core: gives the version that answers.
      recorder: counts requests.
      as_content: see `tensors.encode`.
      executor: what runs a signature.
      max_filled: see `tensors.decode`.
    """

    def __init__(
        self,
        core: ServerCore,
        recorder: Metrics,
        as_content: bool = False,
        executor: Executor = predictor.execute,
        max_filled: int = tensors.MAX_FILLED_ELEMENTS,
    ) -> None:
        self._core = core
        self._recorder = recorder
        examples = {"executor": executor, "metrics": recorder}
        # (version, request, deadline) -> response
        self._work: dict[str, Callable[[Servable, Any, float | None], Any]] = {
            "Predict": functools.partial(
                predictor.run, as_content=as_content, executor=executor, max_filled=max_filled
            ),
            "Classify": functools.partial(inference.classify, **examples),
            "Regress": functools.partial(inference.regress, **examples),
            "MultiInference": functools.partial(inference.multi_inference, **examples),
        }

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs one signature; error codes in serving/README.md."""
        return self._answer("Predict", request, context)

    def Classify(
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        """Runs one classification signature on tf.Examples."""
        return self._answer("Classify", request, context)

    def Regress(
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        """Runs one regression signature on tf.Examples."""
        return self._answer("Regress", request, context)

    def MultiInference(
        self, request: inference_pb2.MultiInferenceRequest, context: grpc.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        """Runs several classification and regression signatures on the same tf.Examples."""
        return self._answer("MultiInference", request, context)

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Reports the signature map; `signature_def` is the only metadata field there is."""
        try:
            _model_spec(request)
            if not request.metadata_field:
                raise StatusError(
                    Code.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field"
                )
            for field in request.metadata_field:
                if field != _SIGNATURE_DEF:
                    raise StatusError(Code.INVALID_ARGUMENT, f"Metadata field {field} is not supported")
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            with self._core.lease(request.model_spec) as servable:
                response.model_spec.name = request.model_spec.name
                response.model_spec.version.value = servable.version
                signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
            response.metadata[_SIGNATURE_DEF].Pack(signatures)
            return response
        except Exception as error:
            abort(context, error)

    def _answer(self, api: str, request: Any, context: grpc.ServicerContext) -> Any:
        """Finds the version, works, counts."""
        started = time.monotonic()
        name, status = "", Code.INTERNAL
        try:
            until = deadline(context)
            predictor.check_deadline(until)
            spec = _model_spec(request)
            name = spec.name
            with self._core.lease(spec) as servable:
                response = self._work[api](servable, request, until)
            status = Code.OK
            return response
        except Exception as error:
            if isinstance(error, StatusError):
                status = error.code
            abort(context, error)
        finally:
            # Names that nobody configured would fill the metrics.
            known = name if status == Code.OK or name in self._core.models() else ""
            self._recorder.request(known, api, "GRPC", status.name, time.monotonic() - started)


def _model_spec(request: Any) -> model_pb2.ModelSpec:
    if isinstance(request, inference_pb2.MultiInferenceRequest):
        if not request.tasks:
            raise StatusError(Code.INVALID_ARGUMENT, "Inference request requires at least one task.")
        request = request.tasks[0]
    if not request.HasField("model_spec"):
        raise StatusError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
    return request.model_spec
