"""Classify, Regress and MultiInference: signatures over serialized tf.Examples."""

from __future__ import annotations

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from serving.model_server.core import predictor
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.metrics import Metrics
from serving.model_server.core.predictor import Arrays, Executor
from serving.model_server.core.servable import Servable, Signature

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_INPUTS = "inputs"
_CLASSES, _SCORES, _OUTPUTS = "classes", "scores", "outputs"


def classify(
    servable: Servable,
    request: classification_pb2.ClassificationRequest,
    deadline: float | None = None,
    executor: Executor = predictor.execute,
    metrics: Metrics | None = None,
) -> classification_pb2.ClassificationResponse:
    """Answers one Classify request.

    A signature allows it when it takes one input called "inputs" and gives "classes" (strings),
    "scores" (floats) or both, [examples, classes]. As in TensorFlow Serving's default, its
    method name is not looked at.

    Raises:
      StatusError: INVALID_ARGUMENT: no such signature, another kind of signature, or no
        examples; else as `predictor.execute`.
    """
    signature = _signature(servable, request.model_spec, (_CLASSES, _SCORES), "classification")
    if not 1 <= len(signature.outputs) <= 2:
        raise _invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    outputs, count = _run(servable, request.model_spec, request.input, deadline, executor, metrics)
    response = classification_pb2.ClassificationResponse(model_spec=_answered(servable, request.model_spec))
    response.result.CopyFrom(_classifications(outputs, count))
    return response


def regress(
    servable: Servable,
    request: regression_pb2.RegressionRequest,
    deadline: float | None = None,
    executor: Executor = predictor.execute,
    metrics: Metrics | None = None,
) -> regression_pb2.RegressionResponse:
    """Answers one Regress request.

    A signature allows it when it takes one input called "inputs" and gives one output called
    "outputs", floats of [examples] or [examples, 1]. Errors as in `classify`.
    """
    signature = _signature(servable, request.model_spec, (_OUTPUTS,), "regression")
    if len(signature.outputs) != 1:
        raise _invalid(f"Expected one output Tensor, found {len(signature.outputs)}")
    outputs, count = _run(servable, request.model_spec, request.input, deadline, executor, metrics)
    response = regression_pb2.RegressionResponse(model_spec=_answered(servable, request.model_spec))
    response.result.CopyFrom(_regressions(outputs, count))
    return response


def multi_inference(
    servable: Servable,
    request: inference_pb2.MultiInferenceRequest,
    deadline: float | None = None,
    executor: Executor = predictor.execute,
    metrics: Metrics | None = None,
) -> inference_pb2.MultiInferenceResponse:
    """Answers one MultiInference request: several signatures of one model, the same examples.

    Raises:
      StatusError: INVALID_ARGUMENT: no task, tasks of several models, a signature twice;
        UNIMPLEMENTED: another method; else as in `classify`.
    """
    response = inference_pb2.MultiInferenceResponse()
    seen: set[str] = set()
    for task in request.tasks:
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise _invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name. "
                f"Expected {request.tasks[0].model_spec.name} got {task.model_spec.name}"
            )
        if task.model_spec.signature_name in seen:
            raise _invalid(f"Duplicate evaluation of signature: {task.model_spec.signature_name}")
        seen.add(task.model_spec.signature_name)
        result = response.results.add()
        if task.method_name == CLASSIFY:
            part = classification_pb2.ClassificationRequest(model_spec=task.model_spec, input=request.input)
            answer = classify(servable, part, deadline, executor, metrics)
            result.classification_result.CopyFrom(answer.result)
        elif task.method_name == REGRESS:
            part = regression_pb2.RegressionRequest(model_spec=task.model_spec, input=request.input)
            answer = regress(servable, part, deadline, executor, metrics)
            result.regression_result.CopyFrom(answer.result)
        else:
            raise StatusError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        result.model_spec.CopyFrom(answer.model_spec)
    return response


def _signature(
    servable: Servable, spec: model_pb2.ModelSpec, wanted: tuple[str, ...], kind: str
) -> Signature:
    name = spec.signature_name or predictor.DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise _invalid(f"No signature was found with the name: {name}")
    if len(signature.inputs) != 1:
        raise _invalid("Expected one input Tensor.")
    if _INPUTS not in signature.inputs:
        raise _invalid(
            f"No {kind} inputs found in SignatureDef: signature {name} takes {', '.join(signature.inputs)}"
        )
    if not set(wanted) & set(signature.outputs):
        listed = " or ".join(f'"{one}"' for one in wanted)
        raise _invalid(
            f"Expected {kind} signature outputs to contain at least one of {listed}. "
            f"Signature {name} gives {', '.join(sorted(signature.outputs))}"
        )
    return signature


def _run(
    servable: Servable,
    spec: model_pb2.ModelSpec,
    examples: input_pb2.Input,
    deadline: float | None,
    executor: Executor,
    metrics: Metrics | None,
) -> tuple[Arrays, int]:
    kind = examples.WhichOneof("kind")
    serialized: list[bytes] = []
    if kind == "example_list":
        serialized = [one.SerializeToString() for one in examples.example_list.examples]
    elif kind == "example_list_with_context":
        # Concatenated messages merge when they are parsed; the example's features win.
        context = examples.example_list_with_context.context.SerializeToString()
        serialized = [
            context + one.SerializeToString() for one in examples.example_list_with_context.examples
        ]
    if not serialized:
        raise _invalid("Input is empty.")
    if metrics is not None:
        metrics.examples(spec.name, len(serialized))
    array = np.array(serialized, object)
    name = spec.signature_name or predictor.DEFAULT_SIGNATURE
    return executor(servable, name, {_INPUTS: array}, deadline), len(serialized)


def _answered(servable: Servable, spec: model_pb2.ModelSpec) -> model_pb2.ModelSpec:
    answered = model_pb2.ModelSpec(name=spec.name, signature_name=spec.signature_name)
    answered.signature_name = spec.signature_name or predictor.DEFAULT_SIGNATURE
    answered.version.value = servable.version
    return answered


def _classifications(outputs: Arrays, count: int) -> classification_pb2.ClassificationResult:
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    for name, value, kind in ((_CLASSES, classes, "O"), (_SCORES, scores, "f")):
        if value is None:
            continue
        if value.ndim != 2:
            raise _invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(value.shape)}")
        if value.dtype.kind != kind:
            raise _invalid(f"Expected {name} Tensor of {'string' if kind == 'O' else 'float'}.")
        if len(value) != count:
            raise _invalid(f"Expected {name} output batch size of {count}. Got: {len(value)}")
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise _invalid(
            "Tensors class and score should match in dim_size(1). "
            f"Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    shown = classes if classes is not None else scores
    assert shown is not None  # the signature has one of them
    for row in range(count):
        added = result.classifications.add()
        for column in range(shown.shape[1]):
            one = added.classes.add()
            if classes is not None:
                one.label = classes[row, column].decode("utf-8", "replace")
            if scores is not None:
                one.score = float(scores[row, column])
    return result


def _regressions(outputs: Arrays, count: int) -> regression_pb2.RegressionResult:
    values = outputs[_OUTPUTS]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise _invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {list(values.shape)}"
        )
    if len(values) != count:
        raise _invalid(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if values.dtype != np.float32:
        raise _invalid(f"Expected output Tensor of DT_FLOAT.  Got: {values.dtype}")
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
