"""What gRPC reflection reports of our services.

The modules that `tensorflow-serving-api` generated for its two services cannot be imported with
the protobuf we use, so the services are described here, over that package's own messages.
"""

from __future__ import annotations

from google.protobuf import descriptor, descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

# File -> service -> method -> (request, response).
_SERVICES: dict[str, tuple[str, dict[str, tuple[descriptor.Descriptor, descriptor.Descriptor]]]] = {
    "tensorflow_serving/apis/prediction_service.proto": (
        PREDICTION_SERVICE,
        {
            "Classify": (
                classification_pb2.ClassificationRequest.DESCRIPTOR,
                classification_pb2.ClassificationResponse.DESCRIPTOR,
            ),
            "Regress": (
                regression_pb2.RegressionRequest.DESCRIPTOR,
                regression_pb2.RegressionResponse.DESCRIPTOR,
            ),
            "Predict": (predict_pb2.PredictRequest.DESCRIPTOR, predict_pb2.PredictResponse.DESCRIPTOR),
            "MultiInference": (
                inference_pb2.MultiInferenceRequest.DESCRIPTOR,
                inference_pb2.MultiInferenceResponse.DESCRIPTOR,
            ),
            "GetModelMetadata": (
                get_model_metadata_pb2.GetModelMetadataRequest.DESCRIPTOR,
                get_model_metadata_pb2.GetModelMetadataResponse.DESCRIPTOR,
            ),
        },
    ),
    "tensorflow_serving/apis/model_service.proto": (
        MODEL_SERVICE,
        {
            "GetModelStatus": (
                get_model_status_pb2.GetModelStatusRequest.DESCRIPTOR,
                get_model_status_pb2.GetModelStatusResponse.DESCRIPTOR,
            ),
            "HandleReloadConfigRequest": (
                model_management_pb2.ReloadConfigRequest.DESCRIPTOR,
                model_management_pb2.ReloadConfigResponse.DESCRIPTOR,
            ),
        },
    ),
}


def pool() -> descriptor_pool.DescriptorPool:
    """A pool with all services of the server and every message they use."""
    made = descriptor_pool.DescriptorPool()
    added: set[str] = set()
    for module in (health_pb2, reflection_pb2):
        _add(made, module.DESCRIPTOR, added)
    for path, (full_name, methods) in _SERVICES.items():
        package, _, name = full_name.rpartition(".")
        file = descriptor_pb2.FileDescriptorProto(name=path, package=package, syntax="proto3")
        service = file.service.add(name=name)
        for method, (request, response) in methods.items():
            service.method.add(
                name=method, input_type=f".{request.full_name}", output_type=f".{response.full_name}"
            )
            for message in (request, response):
                _add(made, message.file, added)
                if message.file.name not in file.dependency:
                    file.dependency.append(message.file.name)
        made.Add(file)
    return made


def _add(made: descriptor_pool.DescriptorPool, file: descriptor.FileDescriptor, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add(made, dependency, added)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    made.Add(proto)
