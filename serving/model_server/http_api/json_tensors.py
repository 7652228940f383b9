"""JSON of the REST API <-> tensors and tf.Examples; forms and messages follow TensorFlow Serving."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.predictor import Arrays
from serving.model_server.core.servable import Signature
from serving.model_server.core.tensors import InputSpec

_B64 = "b64"
_BYTES_SUFFIX = "_bytes"  # outputs of such names are written as base64


def parse(body: bytes) -> dict[str, Any]:
    """A request's JSON object.

    Raises:
      StatusError: INVALID_ARGUMENT: not JSON, not UTF-8 or not an object.
    """
    if not body.strip():
        raise _invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)  # takes NaN and Infinity, as TF Serving does
    except json.JSONDecodeError as error:
        raise _invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except UnicodeDecodeError as error:
        raise _invalid(f"JSON Parse error: not UTF-8 at offset: {error.start}") from error
    except RecursionError as error:
        raise _invalid("JSON Parse error: nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits
        raise _invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise _invalid(f"JSON Value: {_show(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    """The request's `signature_name`, "" if it has none.

    Raises:
      StatusError: INVALID_ARGUMENT: it is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _invalid(
            f"JSON Value: {_show(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def read_inputs(document: Mapping[str, Any], signature: Signature) -> tuple[dict[str, np.ndarray], bool]:
    """The inputs of a predict request.

    Row format, `"instances": [{"user_id": "1", ..., "k": 5}, ...]`: an input that the
    signature declares as a scalar must have the same value in every instance. Column format,
    `"inputs": {"user_id": ["1"], ..., "k": [5]}`. Where a signature has one input only, its
    value may stand alone.

    Returns:
      (inputs by name, whether the format was rows).

    Raises:
      StatusError: INVALID_ARGUMENT, naming instance and input.
    """
    if "instances" in document and "inputs" in document:
        raise _invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in document:
        return _rows(document["instances"], signature), True
    if "inputs" in document:
        return _columns(document["inputs"], signature), False
    raise _invalid("Missing 'inputs' or 'instances' key")


def write_outputs(outputs: Arrays, rows: bool) -> bytes:
    """A predict answer.

    Args:
      outputs: by name.
      rows: as `{"predictions": [...]}`, else as `{"outputs": ...}`.

    Raises:
      StatusError: INVALID_ARGUMENT: outputs without a common first dimension in row format.
    """
    values = {name: _to_json(name, outputs[name]) for name in sorted(outputs)}
    if not rows:
        return _dump({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    size: int | None = None
    for name in values:
        if outputs[name].ndim == 0:
            raise _invalid(f"Tensor name: {name} has no shape information ")
        if size is not None and len(outputs[name]) != size:
            raise _invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(outputs[name])} expecting: {size}"
            )
        size = len(outputs[name])
    if len(values) == 1:
        return _dump({"predictions": next(iter(values.values()))})
    names = list(values)
    return _dump(
        {"predictions": [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]}
    )


def read_examples(document: Mapping[str, Any], method: str) -> input_pb2.Input:
    """The tf.Examples of a classify or regress request, with the optional `context`.

    Raises:
      StatusError: INVALID_ARGUMENT.
    """
    if "examples" not in document:
        raise _invalid(f"When method is {method}, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _invalid("Expecting 'examples' value to be an list/array")
    if not examples:
        raise _invalid("'examples' value is an empty array")
    result = input_pb2.Input()
    if "context" in document:
        result.example_list_with_context.context.CopyFrom(_example(document["context"]))
        result.example_list_with_context.examples.extend(_example(one) for one in examples)
    else:
        result.example_list.examples.extend(_example(one) for one in examples)
    return result


def write_classifications(result: classification_pb2.ClassificationResult) -> bytes:
    """`{"results": [[[label, score], ...], ...]}`."""
    return _dump(
        {
            "results": [
                [[one.label, _float32(one.score)] for one in entry.classes]
                for entry in result.classifications
            ]
        }
    )


def write_regressions(result: regression_pb2.RegressionResult) -> bytes:
    """`{"results": [value, ...]}`."""
    return _dump({"results": [_float32(entry.value) for entry in result.regressions]})


def write_error(message: str) -> bytes:
    """`{"error": message}`."""
    return _dump({"error": message})


def _rows(instances: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise _invalid("Expecting 'instances' to be an list/array")
    if not instances:
        raise _invalid("No values in 'instances' array")
    needed = signature.inputs.keys() - signature.defaults.keys()
    objects = _is_object(instances[0])
    if not objects and len(signature.inputs) != 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    values: dict[str, list[Any]] = {}
    for number, instance in enumerate(instances):
        if _is_object(instance) != objects:
            got = ("object but got list", "value/list but got object")[not objects]
            raise _invalid(f"Expecting {got} at item {number} of input list")
        named = instance if objects else {next(iter(signature.inputs)): instance}
        for name in named:
            if name not in signature.inputs:
                raise _invalid(
                    f"Failed to process element: {number} key: {name} of 'instances' list. Error: "
                    f"JSON object: does not have named input: {name}"
                )
        if not needed <= named.keys() or (number and named.keys() != values.keys()):
            raise _invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {_show(instance)} "
                f"keys must be equal to: {','.join(sorted(signature.inputs))}"
            )
        for name, value in named.items():
            values.setdefault(name, []).append(value)
    arrays = {}
    for name, column in values.items():
        spec = signature.inputs[name]
        shape = _shape(column[0])
        flat: list[Any] = []
        for number, value in enumerate(column):
            try:
                if _shape(value) != shape:
                    raise _invalid(f"Expecting shape {_text(shape)} but got: {_text(_shape(value))}")
                _fill(value, 0, shape, spec, flat)
            except StatusError as error:
                raise _invalid(
                    f"Failed to process element: {number} key: {name} of 'instances' list. "
                    f"Error: {error.message}"
                ) from error
        array = _array(flat, (len(column), *shape), spec)
        if spec.shape == ():
            if shape or any(value != flat[0] for value in flat):
                raise _invalid(f"{name}: is a scalar; it must be one value, the same in all instances")
            array = array[0:1].reshape(())
        arrays[name] = array
    return arrays


def _columns(inputs: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not _is_object(inputs):
        if len(signature.inputs) != 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        inputs = {next(iter(signature.inputs)): inputs}
    for name in inputs:
        if name not in signature.inputs:
            raise _invalid(f"JSON object: does not have named input: {name}")
    arrays = {}
    for name, spec in signature.inputs.items():
        if name not in inputs:
            if name in signature.defaults:
                continue
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
        shape = _shape(inputs[name])
        flat: list[Any] = []
        try:
            _fill(inputs[name], 0, shape, spec, flat)
            arrays[name] = _array(flat, shape, spec)
        except StatusError as error:
            raise _invalid(f"{name}: {error.message}") from error
    return arrays


def _shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _fill(value: Any, level: int, shape: tuple[int, ...], spec: InputSpec, flat: list[Any]) -> None:
    if isinstance(value, list):
        if level >= len(shape):
            raise _invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise _invalid(
                f"Encountered list at unexpected size: {len(value)} at level: {level} "
                f"expected size: {shape[level]}"
            )
        for one in value:
            _fill(one, level + 1, shape, spec, flat)
    elif level != len(shape):
        raise _invalid(
            f"JSON Value: {_show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {len(shape)}"
        )
    else:
        flat.append(_value(value, spec.dtype))


def _value(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            return _utf8(value)
        if isinstance(value, dict):
            return _base64(value)
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif dtype.is_integer:
        if isinstance(value, int) and not isinstance(value, bool) and dtype.min <= value <= dtype.max:
            return value
    elif dtype.is_floating:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                pass
    else:
        raise StatusError(
            Code.UNIMPLEMENTED, f"Conversion of JSON Value: {_show(value)} to type: {dtype.name}"
        )
    raise _invalid(f"JSON Value: {_show(value)} Type: {_kind(value)} is not of expected type: {dtype.name}")


def _array(flat: list[Any], shape: tuple[int, ...], spec: InputSpec) -> np.ndarray:
    if spec.dtype == tf.string:
        array = np.empty(len(flat), object)
        array[:] = flat
    else:
        with np.errstate(over="ignore"):  # 1e300 as a float32 is infinite, as in TF Serving
            array = np.array(flat, spec.dtype.as_numpy_dtype)
    return array.reshape(shape)


def _example(value: Any) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise _invalid(f"Example must be JSON object but got JSON {_kind(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for one in content if isinstance(content, list) else [content]:
            kind, converted = _feature_value(name, one)
            if feature.WhichOneof("kind") not in (None, kind):
                expected = feature.WhichOneof("kind").removesuffix("_list")
                raise _invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
            getattr(feature, kind).value.append(converted)
    return example


def _feature_value(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return "int64_list", int(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise _invalid(f"Feature: {name} has {value}. Only int64 is supported.")
        return "int64_list", value
    if isinstance(value, float):
        return "float_list", float(np.float32(value))
    if isinstance(value, str):
        return "bytes_list", _utf8(value)
    if isinstance(value, dict) and not _is_object(value):
        return "bytes_list", _base64(value)
    raise _invalid(f"Feature: {name} has element with unexpected JSON type: {_kind(value)}")


def _is_object(value: Any) -> bool:
    """Whether `value` has named members; `{"b64": "..."}` is a value."""
    return isinstance(value, dict) and not (list(value) == [_B64] and isinstance(value[_B64], str))


def _base64(value: dict[str, Any]) -> bytes:
    if _is_object(value):
        raise _invalid(f"JSON Value: {_show(value)} not formatted correctly for base64 data")
    text = value[_B64].replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid("Unable to base64 decode") from error


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise _invalid(f"JSON Value: {json.dumps(text)[:200]} is not valid Unicode") from error


def _to_json(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        convert: Callable[[bytes], Any] = lambda value: value.decode("utf-8", "replace")  # noqa: E731
        if name.endswith(_BYTES_SUFFIX):
            convert = lambda value: {_B64: base64.b64encode(value).decode("ascii")}  # noqa: E731
        flat = np.empty(array.size, object)
        flat[:] = [convert(value) for value in array.ravel()]
        return flat.reshape(array.shape).tolist()
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        # Through text: 0.2 of 32 bits shall read 0.2, not 0.20000000298.
        return array.astype(str).astype(np.float64).tolist()
    if array.dtype.kind == "V":  # bfloat16 and others that numpy does not know
        return array.astype(np.float32).astype(str).astype(np.float64).tolist()
    return array.tolist()


def _float32(value: float) -> float:
    return float(str(np.float32(value)))


def _dump(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=None).encode("utf-8")


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 256 else text[:256] + "..."


def _text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    kinds = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return kinds.get(type(value), "Null")


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
