"""Predict of the REST API: JSON <-> tensors; forms and messages follow TensorFlow Serving."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.predictor import Arrays, check_rows
from serving.model_server.core.servable import Signature
from serving.model_server.core.tensors import InputSpec
from serving.model_server.http_api import json_values
from serving.model_server.http_api.json_values import invalid

_MAX_RANK = 32  # numpy and TensorFlow end somewhat beyond it, each at another place
_BYTES_SUFFIX = "_bytes"  # outputs of such names are written as base64


def read_inputs(
    document: Mapping[str, Any], signature: Signature, max_rows: int = 0
) -> tuple[dict[str, np.ndarray], bool]:
    """The inputs of a predict request.

    Row format, `"instances": [{"user_id": "1", ..., "k": 5}, ...]`: an input that the
    signature declares as a scalar must have the same value in every instance. Column format,
    `"inputs": {"user_id": ["1"], ..., "k": [5]}`. Where a signature has one input only, its
    value may stand alone.

    Args:
      document: the request.
      signature: what it asks for.
      max_rows: see `predictor.check_rows`; checked before any value is read.

    Returns:
      (inputs by name, whether the format was rows).

    Raises:
      StatusError: INVALID_ARGUMENT, naming instance and input.
    """
    if "instances" in document and "inputs" in document:
        raise invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in document:
        return _rows(document["instances"], signature, max_rows), True
    if "inputs" in document:
        return _columns(document["inputs"], signature, max_rows), False
    raise invalid("Missing 'inputs' or 'instances' key")


def write_outputs(outputs: Arrays, rows: bool) -> bytes:
    """A predict answer.

    Args:
      outputs: by name.
      rows: as `{"predictions": [...]}`, else as `{"outputs": ...}`.

    Raises:
      StatusError: INVALID_ARGUMENT: outputs without a common first dimension in row format;
        UNIMPLEMENTED: complex numbers.
    """
    values = {name: _to_json(name, outputs[name]) for name in sorted(outputs)}
    if not rows:
        return json_values.dump({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    size: int | None = None
    for name in values:
        if outputs[name].ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size is not None and len(outputs[name]) != size:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(outputs[name])} expecting: {size}"
            )
        size = len(outputs[name])
    if len(values) == 1:
        return json_values.dump({"predictions": next(iter(values.values()))})
    names = list(values)
    return json_values.dump(
        {"predictions": [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]}
    )


def _rows(instances: Any, signature: Signature, max_rows: int) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid("Expecting 'instances' to be an list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    check_rows("'instances'", (len(instances),), max_rows)
    needed = signature.inputs.keys() - signature.defaults.keys()
    objects = json_values.is_object(instances[0])
    if not objects and len(signature.inputs) != 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    values: dict[str, list[Any]] = {}
    for number, instance in enumerate(instances):
        if json_values.is_object(instance) != objects:
            got = ("object but got list", "value/list but got object")[not objects]
            raise invalid(f"Expecting {got} at item {number} of input list")
        named = instance if objects else {next(iter(signature.inputs)): instance}
        for name in named:
            if name not in signature.inputs:
                raise invalid(
                    f"Failed to process element: {number} key: {name} of 'instances' list. Error: "
                    f"JSON object: does not have named input: {name}"
                )
        if not needed <= named.keys() or (number and named.keys() != values.keys()):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. "
                f"JSON object: {json_values.show(instance)} "
                f"keys must be equal to: {','.join(sorted(signature.inputs))}"
            )
        for name, value in named.items():
            values.setdefault(name, []).append(value)
    arrays = {}
    for name, column in values.items():
        spec = signature.inputs[name]
        shape: tuple[int, ...] = ()
        flat: list[Any] = []
        for number, value in enumerate(column):
            try:
                if number == 0:
                    shape = _shape(value)
                if _shape(value) != shape:
                    raise invalid(f"Expecting shape {_text(shape)} but got: {_text(_shape(value))}")
                _fill(value, 0, shape, spec, flat)
            except StatusError as error:
                raise invalid(
                    f"Failed to process element: {number} key: {name} of 'instances' list. "
                    f"Error: {error.message}"
                ) from error
        array = _array(flat, (len(column), *shape), spec)
        if spec.shape == ():
            if shape or any(value != flat[0] for value in flat):
                raise invalid(f"{name}: is a scalar; it must be one value, the same in all instances")
            array = array[0:1].reshape(())
        arrays[name] = array
    return arrays


def _columns(inputs: Any, signature: Signature, max_rows: int) -> dict[str, np.ndarray]:
    if not json_values.is_object(inputs):
        if len(signature.inputs) != 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        inputs = {next(iter(signature.inputs)): inputs}
    for name in inputs:
        if name not in signature.inputs:
            raise invalid(f"JSON object: does not have named input: {name}")
    arrays = {}
    for name, spec in signature.inputs.items():
        if name not in inputs:
            if name in signature.defaults:
                continue
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        flat: list[Any] = []
        try:
            shape = _shape(inputs[name])
            check_rows("it", shape, max_rows)
            _fill(inputs[name], 0, shape, spec, flat)
            arrays[name] = _array(flat, shape, spec)
        except StatusError as error:
            raise invalid(f"{name}: {error.message}") from error
    return arrays


def _shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
        if len(shape) == _MAX_RANK and isinstance(value, list):
            raise invalid(f"JSON Value: lists are nested more than {_MAX_RANK} deep")
    return tuple(shape)


def _fill(value: Any, level: int, shape: tuple[int, ...], spec: InputSpec, flat: list[Any]) -> None:
    if isinstance(value, list):
        if level >= len(shape):
            raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise invalid(
                f"Encountered list at unexpected size: {len(value)} at level: {level} "
                f"expected size: {shape[level]}"
            )
        for one in value:
            _fill(one, level + 1, shape, spec, flat)
    elif level != len(shape):
        raise invalid(
            f"JSON Value: {json_values.show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {len(shape)}"
        )
    else:
        flat.append(_value(value, spec.dtype))


def _value(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            return json_values.utf8(value)
        if isinstance(value, dict):
            return json_values.decode_base64(value)
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
            Code.UNIMPLEMENTED, f"Conversion of JSON Value: {json_values.show(value)} to type: {dtype.name}"
        )
    raise invalid(
        f"JSON Value: {json_values.show(value)} Type: {json_values.kind(value)} "
        f"is not of expected type: {dtype.name}"
    )


def _array(flat: list[Any], shape: tuple[int, ...], spec: InputSpec) -> np.ndarray:
    if spec.dtype == tf.string:
        array = np.empty(len(flat), object)
        array[:] = flat
    else:
        with np.errstate(over="ignore"):  # 1e300 as a float32 is infinite, as in TF Serving
            array = np.array(flat, spec.dtype.as_numpy_dtype)
    return array.reshape(shape)


def _to_json(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        convert: Callable[[bytes], Any] = lambda value: value.decode("utf-8", "replace")  # noqa: E731
        if name.endswith(_BYTES_SUFFIX):
            convert = lambda value: {json_values.B64: base64.b64encode(value).decode("ascii")}  # noqa: E731
        flat = np.empty(array.size, object)
        flat[:] = [convert(value) for value in array.ravel()]
        return flat.reshape(array.shape).tolist()
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        # Through text: 0.2 of 32 bits shall read 0.2, not 0.20000000298.
        return array.astype(str).astype(np.float64).tolist()
    if array.dtype.kind == "c":
        raise StatusError(
            Code.UNIMPLEMENTED, f"Conversion of output {name} of type {array.dtype.name} to JSON"
        )
    if array.dtype.kind == "V":  # bfloat16 and others that numpy does not know
        return array.astype(np.float32).astype(str).astype(np.float64).tolist()
    return array.tolist()


def _text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
