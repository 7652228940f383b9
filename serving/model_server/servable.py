"""One loaded version of a SavedModel."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the TF Text ops that the graph may use
from google.protobuf import message, text_format
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from serving.model_server.errors import Code, StatusError, from_tensorflow
from serving.model_server.tensors import InputSpec

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_SERVE_TAG = "serve"


@dataclasses.dataclass(frozen=True)
class Signature:
    """One callable entry of the model.

    Attributes:
      inputs: what it takes, by name.
      outputs: type of what it gives, by name.
      defaults: values of inputs that a request may leave out.
      function: called with one tensor per input as keyword arguments, gives tensors by name.
    """

    inputs: Mapping[str, InputSpec]
    outputs: Mapping[str, tf.DType]
    defaults: Mapping[str, np.ndarray]
    function: Callable[..., Mapping[str, tf.Tensor]]


@dataclasses.dataclass(frozen=True, eq=False)  # a version is itself, whatever it holds
class Servable:
    """A version that can answer.

    Attributes:
      version: the number that names its folder.
      path: the folder.
      signatures: callable entries by name.
      signature_defs: the MetaGraphDef's own signature map, as GetModelMetadata reports it.
      model: the name that requests use.
    """

    version: int
    path: str
    signatures: Mapping[str, Signature]
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef]
    # The loaded object owns variables and tables; functions alone do not keep them alive.
    _owner: object = dataclasses.field(repr=False)
    model: str = ""


def load(path: str, version: int, model: str = "") -> Servable:
    """Loads a SavedModel folder.

    Args:
      path: the version's folder.
      version: its number.
      model: the model's name.

    Returns:
      The servable; nothing of it has run yet.

    Raises:
      StatusError: the folder holds no SavedModel (NOT_FOUND), its file does not parse
        (DATA_LOSS), or TensorFlow cannot load it (TensorFlow's code).
    """
    signature_defs = _read_signature_defs(path)
    try:
        loaded = tf.saved_model.load(path, tags=[_SERVE_TAG])
        functions = dict(loaded.signatures)
    except Exception as error:  # TensorFlow raises nearly every type here; none may end the server
        raise from_tensorflow(error, f"cannot load {path}: ") from error
    signatures = {
        name: Signature(
            inputs={key: _input_spec(key, info) for key, info in signature_defs[name].inputs.items()},
            outputs={key: tf.as_dtype(info.dtype) for key, info in signature_defs[name].outputs.items()},
            defaults={key: tf.make_ndarray(value) for key, value in signature_defs[name].defaults.items()},
            function=function,
        )
        for name, function in functions.items()
        if name in signature_defs
    }
    return Servable(version, path, signatures, signature_defs, loaded, model)


def _read_signature_defs(path: str) -> dict[str, meta_graph_pb2.SignatureDef]:
    for name in SAVED_MODEL_FILES:
        try:
            with open(os.path.join(path, name), "rb") as file:
                content = file.read()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StatusError(
                Code.UNKNOWN, f"cannot read {os.path.join(path, name)}: {error.strerror}"
            ) from error
        saved_model = saved_model_pb2.SavedModel()
        try:
            if name.endswith(".pb"):
                saved_model.ParseFromString(content)
            else:
                text_format.Parse(content.decode("utf-8"), saved_model)
        except (message.DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
            raise StatusError(Code.DATA_LOSS, f"cannot parse {os.path.join(path, name)}: {error}") from error
        for graph in saved_model.meta_graphs:
            if _SERVE_TAG in graph.meta_info_def.tags:
                return {key: _copy(value) for key, value in graph.signature_def.items()}
        raise StatusError(
            Code.NOT_FOUND, f"{os.path.join(path, name)} has no graph with the tag '{_SERVE_TAG}'"
        )
    raise StatusError(Code.NOT_FOUND, f"no {SAVED_MODEL_FILES[0]} in {path}")


def _copy(definition: meta_graph_pb2.SignatureDef) -> meta_graph_pb2.SignatureDef:
    # A message taken out of a map keeps its whole parent (the graph, maybe gigabytes) alive.
    copy = meta_graph_pb2.SignatureDef()
    copy.CopyFrom(definition)
    return copy


def _input_spec(name: str, info: meta_graph_pb2.TensorInfo) -> InputSpec:
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return InputSpec(name, tf.as_dtype(info.dtype), shape)
