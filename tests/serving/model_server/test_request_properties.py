"""gRPC: any tensor comes through as it was; any other message is refused with the input's name."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from serving.model_server.core import predictor, tensors
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.servable import Servable, Signature
from serving.model_server.core.tensors import InputSpec
from tests.properties import drawn, outcome

DTYPES = [
    *(tf.string, tf.bool, tf.int8, tf.uint8, tf.int16, tf.uint16, tf.int32, tf.uint32, tf.int64, tf.uint64),
    *(tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64),
]
SHAPES = st.lists(st.integers(0, 3), max_size=3)


@st.composite
def arrays(draw, dtype):
    """Any bits of a type, in any shape."""
    shape = draw(SHAPES)
    size = int(np.prod(shape))
    if dtype == tf.string:
        out = np.empty(size, object)
        out[:] = draw(st.lists(st.binary(max_size=4), min_size=size, max_size=size))
    elif dtype == tf.bool:
        out = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    else:
        bits = draw(st.binary(min_size=size * dtype.size, max_size=size * dtype.size))
        out = np.frombuffer(bits, dtype.as_numpy_dtype)
    return out.reshape(shape)


def bits(array):
    return array.tolist() if array.dtype == object else array.tobytes()


@drawn(100)
@given(data=st.data(), dtype=st.sampled_from(DTYPES), as_content=st.booleans())
def test_a_tensor_comes_through_as_it_was(data, dtype, as_content):
    array = data.draw(arrays(dtype))
    proto = tensors.encode(array, dtype, as_content)
    proto = tensor_pb2.TensorProto.FromString(proto.SerializeToString())
    found = tensors.decode(proto, InputSpec("x", dtype, None))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    if dtype.is_floating or dtype == tf.complex64:  # a NaN may change its bits, and stays one
        assert np.array_equal(found.astype(np.complex128), array.astype(np.complex128), equal_nan=True)
    else:
        assert bits(found) == bits(array)


@drawn(60)
@given(data=st.data(), dtype=st.sampled_from([*DTYPES[:9], tf.float32]), given_=st.integers(1, 4))
def test_the_last_value_given_fills_the_rest(data, dtype, given_):
    array = data.draw(arrays(dtype).filter(lambda array: array.size >= given_))
    proto = tensors.encode(array, dtype)
    field = getattr(proto, InputSpec("x", dtype, None).field)
    kept = list(field)[:given_]
    del field[:]
    field.extend(kept)
    found = tensors.decode(proto, InputSpec("x", dtype, None))
    flat = array.ravel()
    expected = np.concatenate([flat[:given_], np.repeat(flat[given_ - 1 : given_], array.size - given_)])
    assert found.shape == array.shape
    assert bits(found.ravel()) == bits(expected) or np.isnan(expected.astype(float)).any()


NUMBERS = {
    "float_val": st.floats(width=32),
    "double_val": st.floats(),
    "int_val": st.integers(-(2**31), 2**31 - 1),
    "half_val": st.integers(-(2**31), 2**31 - 1),
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
    "bool_val": st.booleans(),
    "string_val": st.binary(max_size=3),
    "scomplex_val": st.floats(width=32),
}


@st.composite
def protos(draw, dtype):
    """A TensorProto that may contradict itself in every way."""
    proto = tensor_pb2.TensorProto()
    proto.dtype = draw(st.sampled_from([dtype.as_datatype_enum] * 8 + [0, 21, 99, 10_000, -1]))
    for size in draw(st.lists(st.integers(-2, 4) | st.sampled_from([2**31, 2**62, -(2**63)]), max_size=3)):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = draw(st.sampled_from([False] * 7 + [True]))
    fields = [InputSpec("x", dtype, None).field or "scomplex_val"] * 3 + sorted(NUMBERS)
    for _ in range(draw(st.integers(0, 2))):
        field = draw(st.sampled_from(fields))
        getattr(proto, field).extend(draw(st.lists(NUMBERS[field], max_size=5)))
    if draw(st.integers(0, 3)) == 0:
        proto.tensor_content = draw(st.binary(max_size=16))
    return proto


@drawn(200)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_any_message_is_a_tensor_of_its_own_shape_or_refused(data, dtype):
    proto = data.draw(protos(dtype))
    found, error = outcome(
        lambda: tensors.decode(proto, InputSpec("the input", dtype, None), max_filled=64), StatusError
    )
    if error:
        assert error.code == Code.INVALID_ARGUMENT
        assert "the input" in error.message
        return
    assert found.dtype == dtype.as_numpy_dtype
    assert list(found.shape) == [dim.size for dim in proto.tensor_shape.dim]
    assert found.size <= 64 + 5 + 16
    assert dtype != tf.string or all(type(value) is bytes for value in found.ravel())


@pytest.mark.parametrize("sizes", [[], [3], [2, 0]])
def test_texts_that_are_not_given_are_empty_bytes(sizes):
    proto = tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    found = tensors.decode(proto, InputSpec("x", tf.string, None))
    assert found.shape == tuple(sizes)
    assert all(type(value) is bytes and value == b"" for value in found.ravel())
    assert tf.make_ndarray(tensors.encode(found, tf.string)).tolist() == found.tolist()


def complex_proto(sizes, values):
    proto = tensor_pb2.TensorProto(dtype=tf.complex64.as_datatype_enum, scomplex_val=values)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("sizes", "values", "reason"),
    [
        ([2**31, 2**31, 2**62], [], r"has \d+ elements but only 0 values are given"),
        ([1 << 30], [1.0, 2.0], "has 1073741824 elements but only 1 values are given"),
        ([1], [1.0, 2.0, 3.0, 4.0], r"2 values do not fit in shape \[1\]"),
    ],
)
def test_types_without_a_field_of_their_own_have_the_same_limits(sizes, values, reason):
    with pytest.raises(StatusError, match=f"tensor parsing error: x: .*{reason}"):
        tensors.decode(complex_proto(sizes, values), InputSpec("x", tf.complex64, None))
    found = tensors.decode(complex_proto([3], [1.0, 2.0]), InputSpec("x", tf.complex64, None))
    assert found.tolist() == [1 + 2j] * 3


def doubling(inputs):
    return {name.replace("in", "out"): value for name, value in inputs.items()}


SPECS = {
    "in_text": InputSpec("in_text", tf.string, None),
    "in_number": InputSpec("in_number", tf.int64, (None,)),
}
SERVABLE = Servable(
    7,
    "",
    {
        "serving_default": Signature(SPECS, {"out_text": tf.string, "out_number": tf.int64}, {}, doubling),
        "one": Signature(SPECS, {"out_number": tf.int64}, {"in_text": np.array([b"x"], object)}, doubling),
    },
    {},
    None,
)


@st.composite
def requests(draw):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = draw(st.text(max_size=3))
    request.model_spec.signature_name = draw(st.sampled_from(["", "one", "none"]))
    for name in draw(st.lists(st.sampled_from(["in_text", "in_number", "other"]), max_size=3)):
        dtype = draw(st.sampled_from([SPECS[name].dtype] * 3 + [tf.float32])) if name in SPECS else tf.string
        proto = tensors.encode(draw(arrays(dtype)), dtype) if draw(st.booleans()) else draw(protos(dtype))
        request.inputs[name].CopyFrom(proto)
    request.output_filter.extend(draw(st.lists(st.sampled_from(["out_text", "out_number", "x"]), max_size=2)))
    return request


def check(request):
    response, error = outcome(lambda: predictor.run(SERVABLE, request), StatusError)
    if error:
        assert error.code in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)
        assert error.message
        return
    signature = SERVABLE.signatures[request.model_spec.signature_name or "serving_default"]
    assert response.outputs.keys() == set(request.output_filter or signature.outputs)
    assert response.model_spec.version.value == 7
    for name, proto in response.outputs.items():
        given_ = request.inputs[name.replace("out", "in")]
        assert np.array_equal(tf.make_ndarray(proto), tf.make_ndarray(given_)) or given_.tensor_shape.dim


@drawn(80)
@given(requests())
def test_any_request_is_answered_or_refused(request_):
    check(request_)


@drawn(60)
@given(request_=requests(), place=st.integers(0, 200), new=st.binary(max_size=4), cut=st.integers(0, 4))
@example(predict_pb2.PredictRequest(), 0, b"\x12\x00", 0)
def test_any_changed_bytes_of_a_request_are_answered_or_refused(request_, place, new, cut):
    wire = bytearray(request_.SerializeToString())
    wire[place : place + cut] = new
    try:
        changed = predict_pb2.PredictRequest.FromString(bytes(wire))
    except DecodeError:  # gRPC refuses it
        return
    check(changed)
