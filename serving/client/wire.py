"""What goes over the wire: the channel, the protocol's messages, and values as tensors."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from schema import names as F
from schema.errors import RequestError
from serving.client.types import Metadata, SignatureInfo, TensorInfo, VersionStatus

# What leaves a choice to the shop, where 0 would be a choice.
_UNSET = dict.fromkeys((F.DIVERSITY, F.DROP_BOUGHT_DAYS, F.MIN_PRICE, F.MAX_PRICE), -1.0)
# Type on the wire -> field of TensorProto, conversion of one value.
_VALUES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "DT_STRING": ("string_val", lambda value: value.encode("utf-8")),
    "DT_FLOAT": ("float_val", float),
    "DT_DOUBLE": ("double_val", float),
    "DT_INT32": ("int_val", int),
    "DT_INT64": ("int64_val", int),
    "DT_BOOL": ("bool_val", bool),
}
# gRPC keeps a copy of a request while it may still retry it, and retries none that is larger.
_RETRY_BUFFER_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Retries:
    """How gRPC repeats a request that failed; see the arguments of `calls.Calls`."""

    max_attempts: int
    codes: tuple[str, ...]
    initial_backoff: float
    max_backoff: float
    wait_for_ready: bool


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where the server is and how to talk to it.

    Attributes:
      address: "host:port" or "dns:///host:port".
      retries: how requests are repeated.
      tls: (authorities to trust, client's key, client's certificate) in PEM; None does not encrypt.
    """

    address: str
    retries: Retries
    tls: tuple[bytes | None, bytes | None, bytes | None] | None

    def service_config(self) -> dict[str, Any]:
        """gRPC's service config: https://github.com/grpc/grpc/blob/master/doc/service_config.md."""
        retries = self.retries
        method: dict[str, Any] = {"name": [{}], "waitForReady": retries.wait_for_ready}
        if retries.max_attempts > 1 and retries.codes:
            method["retryPolicy"] = {
                "maxAttempts": retries.max_attempts,
                "initialBackoff": f"{retries.initial_backoff:.9f}s",
                "maxBackoff": f"{retries.max_backoff:.9f}s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": list(retries.codes),
            }
        config: dict[str, Any] = {"methodConfig": [method]}
        if self.address.startswith("dns:"):
            config["loadBalancingConfig"] = [{"round_robin": {}}]
        return config


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """Which model is asked: the newest version, unless a version or a label is given."""

    name: str
    version: int | None = None
    label: str | None = None


class Wire:
    """Channel, stubs and the modules of the protocol, which are slow to import."""

    def __init__(self, connection: Connection, asynchronous: bool = False) -> None:
        self.load()
        import grpc
        from tensorflow import make_ndarray
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            get_model_status_pb2,
            model_service_pb2_grpc,
            predict_pb2,
            prediction_service_pb2_grpc,
        )

        self.grpc = grpc
        self._make_ndarray = make_ndarray
        self._types_pb2 = types_pb2
        self._get_model_metadata_pb2 = get_model_metadata_pb2
        self._get_model_status_pb2 = get_model_status_pb2
        self._predict_pb2 = predict_pb2
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.service_config", json.dumps(connection.service_config())),
            ("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES),
            # A server that starts late is found soon after it is up.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        maker: Any = grpc.aio if asynchronous else grpc
        if connection.tls is not None:
            credentials = grpc.ssl_channel_credentials(*connection.tls)
            self.channel = maker.secure_channel(connection.address, credentials, options)
        else:
            self.channel = maker.insecure_channel(connection.address, options)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    @staticmethod
    def load() -> None:
        """Imports what takes long."""
        # The messages come with TensorFlow, whose start-up lines are not for our users. Nothing
        # is computed here, so switching oneDNN off (it announces itself) costs nothing.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if "tensorflow" not in sys.modules:
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        import tensorflow  # noqa: F401
        from tensorflow_serving.apis import prediction_service_pb2_grpc  # noqa: F401

    # ---- requests

    def metadata_request(self, model: ModelChoice) -> Any:
        """Asks for all signatures."""
        request = self._get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        _address_model(request.model_spec, model)
        return request

    def status_request(self, model: ModelChoice) -> Any:
        """Asks for the states of the model's versions."""
        request = self._get_model_status_pb2.GetModelStatusRequest()
        _address_model(request.model_spec, model)
        return request

    def predict_request(
        self, model: ModelChoice, known: Metadata, signature: str, given: Mapping[str, Any]
    ) -> Any:
        """Asks a signature for a batch of one; values and errors as in `fill`."""
        if signature not in known.signatures:
            raise RequestError(
                f"model {known.name} version {known.version} has no signature '{signature}'; "
                f"it has {', '.join(sorted(known.signatures))}"
            )
        request = self._predict_pb2.PredictRequest()
        _address_model(request.model_spec, model)
        request.model_spec.signature_name = signature
        for key, (dtype, shape, flat) in fill(known, signature, given).items():
            proto = request.inputs[key]
            proto.dtype = self._types_pb2.DataType.Value(dtype)
            for size in shape:
                proto.tensor_shape.dim.add(size=size)
            field, convert = _VALUES[dtype]
            getattr(proto, field).extend(convert(value) for value in flat)
        return request

    # ---- answers

    def read_outputs(self, response: Any) -> dict[str, Any]:
        """A Predict answer's outputs as numpy arrays."""
        return {name: self._make_ndarray(proto) for name, proto in response.outputs.items()}

    def read_metadata(self, response: Any) -> Metadata:
        """A GetModelMetadata answer."""
        signatures = self._get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return Metadata(
            response.model_spec.name,
            response.model_spec.version.value,
            {
                name: SignatureInfo(self._tensor_infos(value.inputs), self._tensor_infos(value.outputs))
                for name, value in signatures.signature_def.items()
                if not name.startswith("__")  # the SavedModel's own initialisation
            },
        )

    def read_status(self, response: Any) -> list[VersionStatus]:
        """A GetModelStatus answer, newest version first."""
        states = self._get_model_status_pb2.ModelVersionStatus.State
        names = {code.value[0]: code.name for code in self.grpc.StatusCode}
        found = [
            VersionStatus(
                entry.version,
                states.Name(entry.state),
                names.get(entry.status.error_code, str(entry.status.error_code)),
                entry.status.error_message,
            )
            for entry in response.model_version_status
        ]
        return sorted(found, key=lambda entry: -entry.version)

    def _tensor_infos(self, infos: Mapping[str, Any]) -> dict[str, TensorInfo]:
        return {
            name: TensorInfo(
                self._types_pb2.DataType.Name(info.dtype),
                None
                if info.tensor_shape.unknown_rank
                else tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim),
            )
            for name, info in sorted(infos.items())
        }


def _address_model(spec: Any, model: ModelChoice) -> None:
    spec.name = model.name
    if model.version is not None:
        spec.version.value = model.version
    elif model.label is not None:
        spec.version_label = model.label


def fill(
    known: Metadata, signature: str, given: Mapping[str, Any]
) -> dict[str, tuple[str, list[int], list[Any]]]:
    """Lays out a batch of one for a signature, filling what is not given.

    Args:
      known: the model's metadata.
      signature: a signature that it has.
      given: values by input name: a scalar, or a list for an input of rank 2. Empty lists
        stand for "not given".

    Returns:
      By input name: (DataType name, shape, flat values). What is not given becomes "" or 0
      (-1 where 0 would be a choice), with every size 1.

    Raises:
      RequestError: the model has no such input, or a value does not fit its type.
    """
    inputs = known.signatures[signature].inputs
    laid_out = {}
    for name, info in inputs.items():
        if info.dtype not in _VALUES or info.shape is None:
            raise RequestError(
                f"{name}: the model wants {info.dtype} of {info.shape}, which this client cannot send"
            )
        empty = "" if info.dtype == "DT_STRING" else _UNSET.get(name, 0)
        values = given.get(name)
        if values is None or (isinstance(values, (list, tuple)) and not values):
            values = [empty] if len(info.shape) > 1 else empty
        if isinstance(values, (list, tuple)) != (len(info.shape) == 2):
            raise RequestError(f"{name}: the model wants a tensor of rank {len(info.shape)}, got {values!r}")
        flat = [
            _convert(name, info.dtype, value) for value in (values if isinstance(values, list) else [values])
        ]
        shape = [1, len(flat)] if len(info.shape) == 2 else [1] * len(info.shape)
        laid_out[name] = (info.dtype, shape, flat)
    for name, values in given.items():
        if name not in inputs and values not in ("", [], (), None):
            if name.startswith(F.CONTEXT_PREFIX):
                contexts = sorted(
                    key.removeprefix(F.CONTEXT_PREFIX) for key in inputs if key.startswith(F.CONTEXT_PREFIX)
                )
                raise RequestError(
                    f"context '{name.removeprefix(F.CONTEXT_PREFIX)}' is unknown to the model; "
                    f"it knows {', '.join(contexts) or 'none'}"
                )
            raise RequestError(
                f"{name}: signature '{signature}' of the model has no such input; leave it out"
            )
    return laid_out


def _convert(name: str, dtype: str, value: Any) -> Any:
    wanted = {"DT_STRING": "text", "DT_BOOL": "true or false"}.get(dtype, "a number")
    try:
        if dtype == "DT_STRING":
            if isinstance(value, (str, int)) and not isinstance(value, bool):
                return str(value)
        elif dtype in ("DT_INT32", "DT_INT64"):
            number = int(value)
            bits = 31 if dtype == "DT_INT32" else 63
            if number == float(value) and -(2**bits) <= number < 2**bits:
                return number
            wanted = f"a whole number of {bits + 1} bits"
        elif dtype == "DT_BOOL":
            if isinstance(value, (bool, int)):
                return bool(value)
        else:
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise RequestError(f"{name}: {value!r} is not {wanted}")
