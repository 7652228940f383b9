"""Stock TensorFlow Serving stubs on one channel."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving import overlap_model

Status = get_model_status_pb2.ModelVersionStatus


class Stubs:
    """Stock stubs on one channel to localhost:`port`, or on `channel`."""

    def __init__(self, port: int | None = None, channel: grpc.Channel | None = None) -> None:
        self.channel = channel or grpc.insecure_channel(f"localhost:{port}")
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def predict(
        self, signature: str, inputs: dict, timeout: float = 20, **more: object
    ) -> predict_pb2.PredictResponse:
        request = overlap_model.predict_request(signature, inputs)
        request.output_filter.extend(more.get("output_filter", []))
        return self.prediction.Predict(request, timeout=timeout)

    def status(self) -> dict[int, Status]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "shelfwise"
        return {
            entry.version: entry
            for entry in self.model.GetModelStatus(request, timeout=20).model_version_status
        }

    def healthy(self, service: str = "") -> bool:
        answer = self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        return answer.status == health_pb2.HealthCheckResponse.SERVING
