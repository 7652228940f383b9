"""One loaded version of a SavedModel.

It is loaded into a session of its own, as TensorFlow Serving does, and not by
`tf.saved_model.load`: an eager call makes a tensor of every input and hands over every variable, in
Python, for each request.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the TF Text ops that the graph may use
from google.protobuf import message, text_format
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2, saved_model_pb2
from tensorflow.python.saved_model import loader_impl

from serving.model_server.core.errors import Code, StatusError, from_tensorflow
from serving.model_server.core.tensors import InputSpec

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_SERVE_TAG = "serve"
_CALL_CONFIG = "config_proto"  # how the function that a node calls is optimised
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOWERED = "_lower_using_switch_merge"
_OLD_CONTROL_FLOW = {"Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"}
_INITIALISES = "__saved_model_init_op"  # in the signature map, and none

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Signature:
    """One callable entry of the model.

    Attributes:
      inputs: what it takes, by name.
      outputs: type of what it gives, by name.
      defaults: values of inputs that a request may leave out.
      run: all inputs by name (strings as object arrays of bytes) to all outputs by name.
    """

    inputs: Mapping[str, InputSpec]
    outputs: Mapping[str, tf.DType]
    defaults: Mapping[str, np.ndarray]
    run: Callable[[Arrays], Arrays]


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
    # It owns variables and tables.
    _session: tf.compat.v1.Session = dataclasses.field(repr=False)
    model: str = ""


def load(path: str, version: int, model: str = "", intra_op: int = 0, inter_op: int = 0) -> Servable:
    """Loads a SavedModel folder.

    Args:
      path: the version's folder.
      version: its number.
      model: the model's name.
      intra_op: threads inside one op; 0 lets TensorFlow choose. The first servable of a process
        decides for all.
      inter_op: ops that run at the same time; 0 lets TensorFlow choose; -1 runs all of a
        request's ops in the thread that asks.

    Returns:
      The servable; nothing of it has run yet.

    Raises:
      StatusError: the folder holds no SavedModel (NOT_FOUND), its file does not parse
        (DATA_LOSS), or TensorFlow cannot load it (TensorFlow's code).
    """
    signature_defs = _read_signature_defs(path)
    config = config_pb2.ConfigProto(
        intra_op_parallelism_threads=intra_op, inter_op_parallelism_threads=inter_op
    )
    graph = tf.Graph()
    session = None
    try:
        # What `tf.compat.v1.saved_model.load` does, which gives no chance to change the graph before.
        loader: Any = loader_impl.SavedModelLoader(path)
        definition = loader.get_meta_graph_def_from_tags([_SERVE_TAG]).graph_def
        if inter_op < 0:
            _run_functions_in_order(definition)
        if _optimise_functions_once(definition):
            config.graph_options.rewrite_options.disable_meta_optimizer = True
        session = tf.compat.v1.Session(graph=graph, config=config)
        saver, _ = loader.load_graph(graph, [_SERVE_TAG])
        loader.restore_variables(session, saver)
        loader.run_init_ops(session, [_SERVE_TAG])
        signatures = {
            name: _signature(session, found) for name, found in signature_defs.items() if name != _INITIALISES
        }
    except Exception as error:  # TensorFlow raises nearly every type here; none may end the server
        if session is not None:
            session.close()
        raise from_tensorflow(error, f"cannot load {path}: ") from error
    return Servable(version, path, signatures, signature_defs, session, model)


def _run_functions_in_order(graph: graph_pb2.GraphDef) -> None:
    """Lets one thread run the ops of a called function one after another, in an order found once.

    TensorFlow's default executor counts for every op which ones have become ready, with locks, and
    asks whether another thread should take them: a fifteenth of a `recommend`'s time, for nothing
    where all stay in one thread. The simple one cannot run the control flow of TensorFlow 1, so loops
    and conditions stay function calls; a graph that has it already is left as it is.
    """
    if any(node.op in _OLD_CONTROL_FLOW for node in _nodes(graph)):
        return
    for node in _nodes(graph):
        if _LOWERED in node.attr:
            node.attr[_LOWERED].b = False
        if node.op in _CALLS:
            node.attr["executor_type"].s = b"SINGLE_THREADED_EXECUTOR"


def _nodes(graph: graph_pb2.GraphDef) -> Iterator[node_def_pb2.NodeDef]:
    """All nodes, those of functions too."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _optimise_functions_once(graph: graph_pb2.GraphDef) -> bool:
    """Lets every called function be optimised in one pass, when it is first called.

    A session optimises its whole graph, all functions, anew for each signature, and each function
    again when it is called, twice over. Its first pass over a function finds what makes answers
    faster; the rest is nine tenths of the time that a large model takes to load.

    Args:
      graph: changed in place.

    Returns:
      Whether it calls functions, as what TensorFlow 2 exports does; else the session has to
      optimise the graph itself.
    """
    calls = [node for node in _nodes(graph) if _CALL_CONFIG in node.attr]
    for node in calls:
        config = config_pb2.ConfigProto.FromString(node.attr[_CALL_CONFIG].s)
        rewrite = config.graph_options.rewrite_options
        rewrite.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
        rewrite.disable_tfg_optimizer = True  # converts the graph to another form and back
        node.attr[_CALL_CONFIG].s = config.SerializeToString()
    return bool(calls)


def _signature(session: tf.compat.v1.Session, found: meta_graph_pb2.SignatureDef) -> Signature:
    options = config_pb2.CallableOptions(
        feed=[info.name for info in found.inputs.values()],
        fetch=[info.name for info in found.outputs.values()],
    )
    # Keras' backend calls it too: `Session.run` looks everything up by name for every request
    call: Callable[..., Sequence[Any]] = session._make_callable_from_options(options)
    given, gives = tuple(found.inputs), tuple(found.outputs)

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(gives, call(*[inputs[name] for name in given]), strict=True))

    return Signature(
        inputs={name: _input_spec(name, info) for name, info in found.inputs.items()},
        outputs={name: tf.as_dtype(info.dtype) for name, info in found.outputs.items()},
        defaults={name: tf.make_ndarray(value) for name, value in found.defaults.items()},
        run=run,
    )


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
