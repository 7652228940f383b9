"""The gRPC face of the version manager: `tensorflow.serving.ModelService`."""

from __future__ import annotations

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from serving.model_server.errors import Code, StatusError
from serving.model_server.prediction_service import abort
from serving.model_server.version_manager import VersionManager


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; HandleReloadConfigRequest answers UNIMPLEMENTED.

    Args:
      manager: knows the versions.
    """

    def __init__(self, manager: VersionManager) -> None:
        self._manager = manager

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Reports state and error of one version or of all, newest first."""
        try:
            if not request.HasField("model_spec"):
                raise StatusError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
            response = get_model_status_pb2.GetModelStatusResponse()
            for status in self._manager.statuses(request.model_spec):
                entry = response.model_version_status.add(version=status.version, state=int(status.state))
                entry.status.error_code = int(status.code)
                entry.status.error_message = status.message
            return response
        except Exception as error:
            abort(context, error)

    def HandleReloadConfigRequest(self, request: object, context: grpc.ServicerContext) -> None:
        """Always UNIMPLEMENTED."""
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "HandleReloadConfigRequest is not implemented by this server; restart it with other flags",
        )
