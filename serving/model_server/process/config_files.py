"""Reads the text-proto files that `tensorflow_model_server` reads.

`ModelServerConfig` comes with `tensorflow-serving-api`. `BatchingParameters`, `SSLConfig` and
`MonitoringConfig` do not, so their messages are declared here, field for field as TensorFlow
Serving declares them: a file that parses here parses there.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message,
    message_factory,
    text_format,
    wrappers_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.core.batching import Batching
from serving.model_server.core.errors import Code, StatusError

PROMETHEUS_PATH = "/monitoring/prometheus/metrics"

_INT64 = ".google.protobuf.Int64Value"
_BOOL = ".google.protobuf.BoolValue"
# Message -> (field, number, type); a type with a dot is a message, "*" in front means repeated.
_SCHEMA: dict[str, list[tuple[str, int, str]]] = {
    "BatchingParameters": [
        ("max_batch_size", 1, _INT64),
        ("batch_timeout_micros", 2, _INT64),
        ("max_enqueued_batches", 3, _INT64),
        ("num_batch_threads", 4, _INT64),
        ("thread_pool_name", 5, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, "*int64"),
        ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, _BOOL),
        ("max_execution_batch_size", 9, _INT64),
    ],
    "SSLConfig": [
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, ".tensorflow.serving.PrometheusConfig")],
}


@dataclasses.dataclass(frozen=True)
class Ssl:
    """Keys of the gRPC port, in PEM. `client_authority` None: clients need no certificate."""

    server_key: bytes
    server_certificate: bytes
    client_authority: bytes | None


def read_models(path: str) -> model_server_config_pb2.ModelServerConfig:
    """Reads a `--model_config_file`.

    Raises:
      StatusError: INVALID_ARGUMENT with path, line and column.
    """
    return _read(path, model_server_config_pb2.ModelServerConfig())


def read_batching(path: str) -> Batching:
    """Reads a `--batching_parameters_file`.

    Raises:
      StatusError: INVALID_ARGUMENT: the file does not parse or a value is out of range.
    """
    proto = _read(path, message_of("BatchingParameters"))
    given: dict[str, Any] = {
        name: getattr(proto, name).value
        for name in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
        if proto.HasField(name)
    }
    batching = Batching(
        **given,
        allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
        pad_variable_length_inputs=proto.pad_variable_length_inputs,
    )
    if proto.enable_large_batch_splitting.value or proto.HasField("max_execution_batch_size"):
        raise _invalid(path, "large batches are not split here; leave enable_large_batch_splitting out")
    for name, least in (("max_batch_size", 1), ("max_enqueued_batches", 1), ("batch_timeout_micros", 0)):
        if getattr(batching, name) < least:
            raise _invalid(path, f"{name}: {getattr(batching, name)} is too small; give {least} or more")
    if "num_batch_threads" in given and batching.num_batch_threads < 1:
        raise _invalid(path, f"num_batch_threads: {batching.num_batch_threads} is too small; give 1 or more")
    sizes = batching.allowed_batch_sizes
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
        raise _invalid(path, f"allowed_batch_sizes: {list(sizes)} do not increase")
    if sizes and sizes[-1] != batching.max_batch_size:
        raise _invalid(
            path,
            f"allowed_batch_sizes: the last, {sizes[-1]}, is not max_batch_size {batching.max_batch_size}",
        )
    return batching


def read_ssl(path: str) -> Ssl:
    """Reads an `--ssl_config_file`: PEM texts, not file names, as in TensorFlow Serving.

    Raises:
      StatusError: INVALID_ARGUMENT: the file does not parse or lacks a key.
    """
    proto = _read(path, message_of("SSLConfig"))
    for name in ("server_key", "server_cert"):
        if "-----BEGIN" not in getattr(proto, name):
            raise _invalid(path, f"{name}: is not the text of a PEM file")
    if proto.client_verify and not proto.custom_ca:
        raise _invalid(path, "client_verify: needs custom_ca, the authority of the clients' certificates")
    return Ssl(
        proto.server_key.encode(),
        proto.server_cert.encode(),
        proto.custom_ca.encode() if proto.client_verify else None,
    )


def read_monitoring(path: str) -> str | None:
    """Reads a `--monitoring_config_file`.

    Returns:
      The path of the Prometheus page on the REST port; None when it is not enabled.

    Raises:
      StatusError: INVALID_ARGUMENT: the file does not parse.
    """
    prometheus = _read(path, message_of("MonitoringConfig")).prometheus_config
    if not prometheus.enable:
        return None
    page = prometheus.path or PROMETHEUS_PATH
    if not page.startswith("/"):
        raise _invalid(path, f"prometheus_config.path: '{page}' does not start with /")
    return page


def message_of(name: str) -> Any:
    """An empty BatchingParameters, SSLConfig, PrometheusConfig or MonitoringConfig message."""
    pool = _pool()
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))()


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()  # our own: another package may bring the real messages
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="server_configs.proto", package="tensorflow.serving", syntax="proto3", dependency=[wrappers.name]
    )
    for name, fields in _SCHEMA.items():
        added = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            field = added.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if "." in kind:
                field.type, field.type_name = field.TYPE_MESSAGE, kind
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
    pool.Add(file)
    return pool


def _read(path: str, proto: Any) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            text_format.Parse(file.read(), proto)
    except OSError as error:
        raise _invalid(path, f"cannot be read ({error.strerror})") from error
    except (text_format.ParseError, UnicodeDecodeError, message.Error) as error:
        kind = proto.DESCRIPTOR.full_name  # in TensorFlow Serving's words, which scripts may look for
        reason = str(error).splitlines()[0].replace(" : ", ": ", 1)
        raise _invalid(path, f"Error parsing text-format {kind}: {reason}") from error
    return proto


def _invalid(path: str, reason: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, f"{path}: {reason}")
