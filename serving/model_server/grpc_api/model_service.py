"""The gRPC face of the server core: `tensorflow.serving.ModelService`."""

from __future__ import annotations

import time

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc

from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.metrics import Metrics
from serving.model_server.core.server_core import ServerCore, status_response
from serving.model_server.grpc_api.prediction_service import abort, deadline

# How long a reload waits for new models when the caller gave no deadline.
_RELOAD_SECONDS = 600.0


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
      core: knows the models.
      recorder: whose counters a reload may ask for.
      may_reload: whether HandleReloadConfigRequest is answered, or PERMISSION_DENIED.
    """

    def __init__(self, core: ServerCore, recorder: Metrics, may_reload: bool = False) -> None:
        self._core = core
        self._may_reload = may_reload
        self._recorder = recorder

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Reports state and error of one version or of all, newest first."""
        try:
            if not request.HasField("model_spec"):
                raise StatusError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
            return status_response(self._core, request)
        except Exception as error:
            abort(context, error)

    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the configuration; waits until its new models serve."""
        try:
            if not self._may_reload:
                raise StatusError(
                    Code.PERMISSION_DENIED, "the server was started without --enable_reload_config"
                )
            until = deadline(context) or time.monotonic() + _RELOAD_SECONDS
            before = {name: self._recorder.total(name) for name in request.metric_names}
            self._core.reload(request.config, wait_until=until)
            response = model_management_pb2.ReloadConfigResponse()  # its status is OK
            for name, value in before.items():
                response.metric.add(name=name, int64_value_increase=self._recorder.total(name) - value)
            return response
        except Exception as error:
            abort(context, error)
