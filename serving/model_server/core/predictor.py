"""The work behind Predict: request -> tensors -> signature -> response. Knows no transport."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from serving.model_server.core import tensors
from serving.model_server.core.errors import Code, StatusError, from_tensorflow
from serving.model_server.core.servable import Arrays, Servable, Signature

DEFAULT_SIGNATURE = "serving_default"

# (version, signature name, inputs, deadline) -> outputs; see `execute`.
Executor = Callable[[Servable, str, Arrays, float | None], Arrays]


def run(
    servable: Servable,
    request: predict_pb2.PredictRequest,
    deadline: float | None = None,
    as_content: bool = False,
    executor: Executor | None = None,
    max_filled: int = tensors.MAX_FILLED_ELEMENTS,
) -> predict_pb2.PredictResponse:
    """Answers one Predict request with one version.

    Args:
      servable: the version; the caller keeps it alive.
      request: the request. Its model name and version were looked up by the caller.
      deadline: `time.monotonic()` second after which nobody waits for the answer.
      as_content: see `tensors.encode`.
      executor: what runs the signature; None runs it at once (`execute`).
      max_filled: see `tensors.decode`.

    Returns:
      The response: `model_spec` (name as asked, version, signature) and the outputs that the
      request's `output_filter` names, all of them when it names none.

    Raises:
      StatusError: FAILED_PRECONDITION for an unknown signature; INVALID_ARGUMENT for wrong
        inputs or filter, naming the field; DEADLINE_EXCEEDED before work that comes too
        late; the graph's own code when it fails.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        known = ",".join(sorted(servable.signatures))
        raise StatusError(
            Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found. The model has {{{known}}}.'
        )
    check_deadline(deadline)
    names = _outputs(signature, request.output_filter)
    inputs = _inputs(signature, request.inputs, max_filled)
    check_deadline(deadline)  # decoding a large request takes time too
    results = answer(servable, name, inputs, deadline, executor)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = name
    for output in names:
        response.outputs[output].CopyFrom(
            tensors.encode(results[output], signature.outputs[output], as_content)
        )
    return response


def answer(
    servable: Servable, name: str, inputs: Arrays, deadline: float | None, executor: Executor | None = None
) -> Arrays:
    """Runs one signature, whatever the shapes of its inputs: the graph decides, as in TensorFlow Serving.

    Args:
      servable: the version.
      name: a signature that it has.
      inputs: all its inputs, of the declared types.
      deadline: `time.monotonic()` second after which it does not begin.
      executor: what runs the signature; None runs it at once (`execute`).

    Returns:
      All its outputs.

    Raises:
      StatusError: as `execute`. Where the graph refuses inputs of other shapes than declared, the
        message names the first of them: an inner op knows no input's name.
    """
    try:
        return (executor or execute)(servable, name, inputs, deadline)
    except StatusError as error:
        if error.code == Code.INVALID_ARGUMENT:
            for key, spec in servable.signatures[name].inputs.items():
                tensors.check_shape(inputs[key].shape, spec)
        raise


def execute(servable: Servable, name: str, inputs: Arrays, deadline: float | None = None) -> Arrays:
    """Runs one signature now.

    Args:
      servable: the version.
      name: a signature that it has.
      inputs: all its inputs, of the declared types.
      deadline: `time.monotonic()` second after which it does not begin.

    Returns:
      All its outputs.

    Raises:
      StatusError: the graph's own code; INVALID_ARGUMENT when it refuses the inputs;
        DEADLINE_EXCEEDED.
    """
    check_deadline(deadline)
    try:
        return servable.signatures[name].run(inputs)
    except tf.errors.OpError as error:
        raise from_tensorflow(error, _batch_hint(error, inputs)) from error
    except UnicodeDecodeError as error:
        # TensorFlow quotes the refused input in its message, and fails to decode that.
        text = error.object.decode("utf-8", "replace")
        raise StatusError(Code.INVALID_ARGUMENT, " ".join(text.split())[:1000]) from error
    except (ValueError, TypeError) as error:  # the function's own check of its arguments
        raise StatusError(Code.INVALID_ARGUMENT, str(error).splitlines()[0][:1000]) from error


def check_deadline(deadline: float | None) -> None:
    """Raises DEADLINE_EXCEEDED if `deadline` (`time.monotonic()` seconds) has passed."""
    if deadline is not None and time.monotonic() >= deadline:
        raise StatusError(Code.DEADLINE_EXCEEDED, "the deadline passed before the work began")


def limit_rows(executor: Executor, most: int) -> Executor:
    """An executor that refuses requests of more than `most` rows, the first size of an input; 0 refuses none.

    Rows cost memory and time in the graph that no deadline takes back once it has begun.
    """

    def limited(servable: Servable, name: str, inputs: Arrays, deadline: float | None = None) -> Arrays:
        for key, value in inputs.items():
            check_rows(key, value.shape, most)
        return executor(servable, name, inputs, deadline)

    return limited if most else executor


def check_rows(name: str, shape: tuple[int, ...], most: int) -> None:
    """Raises INVALID_ARGUMENT for an input whose first size is over `most`; 0 allows any."""
    if most and shape and shape[0] > most:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"{name} has {shape[0]} rows; a request may have {most} (--max_rows): split it",
        )


def _inputs(
    signature: Signature, protos: Mapping[str, tensor_pb2.TensorProto], max_filled: int
) -> dict[str, np.ndarray]:
    missing = signature.inputs.keys() - protos.keys() - signature.defaults.keys()
    extra = protos.keys() - signature.inputs.keys()
    if missing or extra:
        given, wanted = sorted(protos), sorted(signature.inputs)
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"input size does not match signature: {len(given)}!={len(wanted)} "
            f"len({{{','.join(given)}}}) != len({{{','.join(wanted)}}}). "
            f"Sent extra: {{{','.join(sorted(extra))}}}. "
            f"Missing but required: {{{','.join(sorted(missing))}}}.",
        )
    return {
        name: tensors.decode(protos[name], spec, max_filled) if name in protos else signature.defaults[name]
        for name, spec in signature.inputs.items()
    }


def _outputs(signature: Signature, names: Iterable[str]) -> list[str]:
    chosen: list[str] = []
    for name in names:
        if name not in signature.outputs:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {{{','.join(sorted(signature.outputs))}}}.",
            )
        if name in chosen:
            raise StatusError(Code.INVALID_ARGUMENT, f"duplicate output tensor alias: {name}")
        chosen.append(name)
    return chosen or list(signature.outputs)


def _batch_hint(error: tf.errors.OpError, inputs: Arrays) -> str:
    # A graph that gets batches of different sizes fails in some inner op, whose message names
    # no input. The shapes do.
    if not isinstance(error, tf.errors.InvalidArgumentError):
        return ""
    batched = {name: value.shape for name, value in inputs.items() if value.ndim}
    if len({shape[0] for shape in batched.values()}) < 2:
        return ""
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in sorted(batched.items()))
    return f"inputs differ in batch size ({shapes}): "
