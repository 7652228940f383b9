"""TensorProto <-> tensor, checked against what a signature declares: all but shapes, which the graph judges.

The wire allows far more than a signature does: negative sizes, a few values that stand for a
huge tensor, contents of the wrong length. All of it is refused here, with the input's name,
before TensorFlow sees it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.model_server.core.errors import Code, StatusError

# A proto may give one value that fills the whole declared shape. Beyond this many elements
# it is a request for memory, not a request for an answer.
MAX_FILLED_ELEMENTS = 1 << 16
_BYTES_OF_ELEMENT = 16  # a filled string counts as one element for each of these

# DataType -> the field of TensorProto that holds its values one by one.
_VALUE_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
}


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """What a signature declares of one input.

    Attributes:
      name: the input's name in requests.
      dtype: its type.
      shape: size of each dimension, None where any size goes; None for any rank.
    """

    name: str
    dtype: tf.DType
    shape: tuple[int | None, ...] | None

    # What every request needs of the type, and TensorFlow works out at each look.

    @functools.cached_property
    def number(self) -> int:
        """The type as a TensorProto numbers it."""
        return self.dtype.as_datatype_enum

    @functools.cached_property
    def numpy(self) -> type:
        """The type of arrays: `object` for strings."""
        return self.dtype.as_numpy_dtype

    @functools.cached_property
    def field(self) -> str | None:
        """The field of a TensorProto with its values one by one; None for types that have none."""
        return _VALUE_FIELDS.get(self.number)


def decode(
    proto: tensor_pb2.TensorProto, spec: InputSpec, max_filled: int = MAX_FILLED_ELEMENTS
) -> np.ndarray:
    """Turns one input of a request into an array.

    Args:
      proto: the tensor as it came over the wire.
      spec: what the signature declares.
      max_filled: elements that may be filled with the last value given.

    Returns:
      An array of the declared dtype (strings: object array of bytes), with the proto's shape.

    Raises:
      StatusError: INVALID_ARGUMENT, naming the input: other dtype, or contents that do not make
        up the proto's own shape.
    """
    if proto.dtype != spec.number:
        raise _invalid(
            f"Expected input {spec.name} to be {spec.dtype.name} but got {_dtype_name(proto.dtype)}."
        )
    if proto.tensor_shape.unknown_rank:
        raise _parsing(spec, "its shape has an unknown rank")
    shape = tuple([dim.size for dim in proto.tensor_shape.dim])
    if shape and min(shape) < 0:
        raise _parsing(spec, f"its shape {list(shape)} has a negative size")
    count = math.prod(shape)  # Python integers: a product of sizes cannot wrap around
    content = proto.tensor_content
    values = getattr(proto, spec.field) if spec.field and not content else ()
    _check_contents(content, values if spec.field else _elements(proto), spec, shape, count, max_filled)
    try:
        # the usual cases, in a fraction of make_ndarray's time
        if content:
            return np.frombuffer(content, spec.numpy).reshape(shape)
        if count and len(values) == count and spec.field != "half_val":
            return np.fromiter(values, spec.numpy, count).reshape(shape)
        if spec.dtype == tf.string and not values:  # make_ndarray would fill with str
            return np.full(shape, b"", object)
        # make_ndarray fills missing values from the last one, as TF Serving does.
        array = tf.make_ndarray(proto)
        if array.shape != shape:  # no values at all for a shape that needs some
            raise ValueError(f"{array.size} values do not fill shape {list(shape)}")
        return array
    except (ValueError, TypeError, OverflowError, MemoryError, tf.errors.OpError) as error:
        raise _parsing(spec, str(error).splitlines()[0]) from error


def encode(array: np.ndarray, dtype: tf.DType, as_content: bool = False) -> tensor_pb2.TensorProto:
    """Turns one output into a TensorProto.

    Args:
      array: the values; strings as an object array of bytes.
      dtype: their type.
      as_content: pack numbers in `tensor_content` instead of the typed value field. Clients
        that read `outputs["score"].float_val` need the typed field, TF Serving's default.

    Returns:
      The proto; `tf.make_ndarray` gives back the same array.
    """
    number = dtype.as_datatype_enum
    field = _VALUE_FIELDS.get(number)
    if field is None or (as_content and number != types_pb2.DT_STRING):
        return tf.make_tensor_proto(array, dtype=dtype, shape=array.shape)
    proto = tensor_pb2.TensorProto(dtype=number)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = np.asarray(array).ravel()
    if field == "half_val":
        flat = flat.view(np.uint16)
    # tolist() makes Python values in one go: four times faster than handing over numpy scalars.
    getattr(proto, field).extend(flat.tolist())
    return proto


def describe_shape(shape: tuple[int | None, ...] | None) -> str:
    """A shape for a person: `[?, 64]`, or `any`."""
    return (
        "any"
        if shape is None
        else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
    )


def fits(shape: tuple[int, ...], spec: InputSpec) -> bool:
    """Whether `shape` is one that the signature declares."""
    if spec.shape is None:
        return True
    return len(shape) == len(spec.shape) and all(
        want is None or want == size for size, want in zip(shape, spec.shape, strict=True)
    )


def check_shape(shape: tuple[int, ...], spec: InputSpec) -> None:
    """Raises INVALID_ARGUMENT, naming the input, unless `shape` fits what the signature declares."""
    if not fits(shape, spec):
        raise _invalid(
            f"Expected input {spec.name} to have shape {describe_shape(spec.shape)} "
            f"but got {describe_shape(shape)}."
        )


def _elements(proto: tensor_pb2.TensorProto) -> range:
    """The values of a type without a field of its own: complex numbers are pairs, quantised ones integers."""
    return range((len(proto.scomplex_val) + len(proto.dcomplex_val)) // 2 + len(proto.int_val))


def _check_contents(
    content: bytes,
    values: Sequence[Any],
    spec: InputSpec,
    shape: tuple[int, ...],
    count: int,
    max_filled: int,
) -> None:
    if content:
        if spec.dtype == tf.string:
            raise _parsing(spec, "strings come in string_val, not in tensor_content")
        want = count * spec.dtype.size
        if len(content) != want:
            raise _parsing(spec, f"tensor_content has {len(content)} bytes, shape {list(shape)} needs {want}")
        return
    given = len(values)
    if given > count:
        raise _parsing(spec, f"{given} values do not fit in shape {list(shape)}")
    if given < count:
        weight = 1
        if given and isinstance(values[-1], (bytes, str)):
            weight += len(values[-1]) // _BYTES_OF_ELEMENT
        if (count - given) * weight > max_filled:
            raise _parsing(
                spec, f"shape {list(shape)} has {count} elements but only {given} values are given"
            )


def _dtype_name(number: int) -> str:
    try:
        return tf.as_dtype(number).name
    except TypeError:
        return f"unknown type {number}"


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)


def _parsing(spec: InputSpec, reason: str) -> StatusError:
    return _invalid(f"tensor parsing error: {spec.name}: {reason}.")
