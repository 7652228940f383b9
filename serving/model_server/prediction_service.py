"""The gRPC face of the predictor: `tensorflow.serving.PredictionService`."""

from __future__ import annotations

import logging
import time

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server import predictor
from serving.model_server.errors import Code, StatusError
from serving.model_server.server_core import ServerCore

_log = logging.getLogger(__name__)
_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SIGNATURE_DEF = "signature_def"


def abort(context: grpc.ServicerContext, error: Exception) -> None:
    """Ends a call with the status of `error`; anything but a `StatusError` is a bug of ours.

    Raises:
      Exception: always (gRPC's way to end a call).
    """
    if isinstance(error, StatusError):
        context.abort(_GRPC_CODES[error.code], error.message)
    _log.error("unexpected error", exc_info=error)
    context.abort(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}")


def deadline(context: grpc.ServicerContext) -> float | None:
    """The call's deadline as a `time.monotonic()` second; None if it has none."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other three calls answer UNIMPLEMENTED.

    Args:
      core: gives the version that answers.
      as_content: see `tensors.encode`.
    """

    def __init__(self, core: ServerCore, as_content: bool = False) -> None:
        self._core = core
        self._as_content = as_content

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs one signature; error codes in serving/README.md."""
        try:
            until = deadline(context)
            predictor.check_deadline(until)
            _need_model_spec(request)
            with self._core.lease(request.model_spec) as servable:
                return predictor.run(servable, request, until, self._as_content)
        except Exception as error:
            abort(context, error)

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Reports the signature map; `signature_def` is the only metadata field there is."""
        try:
            _need_model_spec(request)
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

    def Classify(self, request: object, context: grpc.ServicerContext) -> None:
        """Always UNIMPLEMENTED."""
        _refuse(context, "Classify")

    def Regress(self, request: object, context: grpc.ServicerContext) -> None:
        """Always UNIMPLEMENTED."""
        _refuse(context, "Regress")

    def MultiInference(self, request: object, context: grpc.ServicerContext) -> None:
        """Always UNIMPLEMENTED."""
        _refuse(context, "MultiInference")


def _need_model_spec(request: object) -> None:
    if not request.HasField("model_spec"):
        raise StatusError(Code.INVALID_ARGUMENT, "Missing ModelSpec")


def _refuse(context: grpc.ServicerContext, call: str) -> None:
    context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{call} is not implemented by this server; call Predict with a signature_name instead",
    )
