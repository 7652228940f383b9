"""REST: tensors that are written as JSON read back the same; whatever else comes is refused, and no more."""

import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given
from hypothesis import strategies as st

from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.servable import Signature
from serving.model_server.core.tensors import InputSpec
from serving.model_server.http_api import json_examples, json_tensors, json_values
from tests.properties import drawn, outcome

DTYPES = [tf.string, tf.bool, tf.int8, tf.uint8, tf.int32, tf.int64, tf.float16, tf.float32, tf.float64]
SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def signature(**dtypes):
    return Signature(
        {name: InputSpec(name, dtype, None) for name, dtype in dtypes.items()}, {}, {}, lambda _: {}
    )


@st.composite
def arrays(draw, dtype, shape):
    """Values of a type, the extreme ones too; texts are UTF-8."""
    if dtype == tf.string:
        values = st.text(max_size=4).filter(lambda text: text.encode("utf-8", "replace").decode() == text)
        values = values.map(str.encode)
    elif dtype == tf.bool:
        values = st.booleans()
    elif dtype.is_integer:
        values = st.integers(int(dtype.min), int(dtype.max))
    else:
        values = st.floats(width=8 * dtype.size)
    size = int(np.prod(shape))
    flat = draw(st.lists(values, min_size=size, max_size=size))
    out = np.empty(size, dtype.as_numpy_dtype)
    out[:] = flat
    return out.reshape(shape)


@drawn(80)
@given(data=st.data(), rows=st.booleans(), count=st.integers(1, 3))
def test_what_is_written_is_read(data, rows, count):
    dtypes = {f"x{number}": data.draw(st.sampled_from(DTYPES)) for number in range(count)}
    batch = data.draw(st.integers(1, 3))
    given_ = {
        name: data.draw(arrays(dtype, [batch, *data.draw(SIZES)] if rows else data.draw(SIZES)))
        for name, dtype in dtypes.items()
    }
    answer = json.loads(json_tensors.write_outputs(given_, rows))
    document = {"instances": answer["predictions"]} if rows else {"inputs": answer["outputs"]}
    found, were_rows = json_tensors.read_inputs(document, signature(**dtypes))
    assert were_rows == rows
    assert found.keys() == given_.keys()
    for name, dtype in dtypes.items():
        assert found[name].dtype == dtype.as_numpy_dtype
        assert found[name].shape == given_[name].shape
        assert np.array_equal(found[name], given_[name], equal_nan=dtype.is_floating)


@pytest.mark.parametrize("rows", [False, True])
def test_complex_outputs_have_no_json(rows):
    with pytest.raises(StatusError, match="Conversion of output x of type complex64 to JSON") as raised:
        json_tensors.write_outputs({"x": np.ones(2, np.complex64)}, rows)
    assert raised.value.code == Code.UNIMPLEMENTED


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\ud800", 10**400, {"b64": "AA"}, {"b64": "A"}, {"b64": "é"}, {"b64": 1}])
)
KEYS = st.sampled_from(["a", "b", "b64", "context", "signature_name"]) | st.text(max_size=3)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
SIGNATURES = st.dictionaries(
    st.sampled_from(["a", "b"]), st.sampled_from([*DTYPES, tf.complex64]), min_size=1
)


def refused(read, *arguments):
    """The result of `read`, or None after a check of the refusal."""
    found, error = outcome(lambda: read(*arguments), StatusError)
    if error:
        assert error.code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
        assert error.message
        json.loads(json_values.write_error(error.message.encode("utf-8", "replace").decode()))
    return found


def documents(key, values):
    return values.map(lambda value: {key: value})


NAMED = st.dictionaries(st.sampled_from("ab"), VALUES)


@drawn(100)
@given(
    document=st.dictionaries(st.sampled_from(["inputs", "instances", "signature_name"]), VALUES, max_size=2)
    | documents("instances", st.lists(NAMED, max_size=3))
    | documents("inputs", NAMED),
    dtypes=SIGNATURES,
)
def test_any_document_gives_tensors_of_the_declared_types_or_is_refused(document, dtypes):
    found = refused(json_tensors.read_inputs, document, signature(**dtypes))
    refused(json_values.signature_name, document)
    for name, array in (found or ({}, False))[0].items():
        assert array.dtype == dtypes[name].as_numpy_dtype


@drawn(80)
@given(examples=VALUES | st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=3), context=VALUES)
@example([{"a": [1, 2.0]}], {})
@example([{"a": 1e300}], {})
def test_any_examples_are_read_or_refused(examples, context):
    found = refused(json_examples.read_examples, {"examples": examples, "context": context}, "classify")
    if found is not None:
        assert len(found.example_list_with_context.examples) == len(examples)


@drawn(100)
@given(st.binary(max_size=12) | st.lists(st.sampled_from(b'{}[]",:0123e-.\\ub64ntrueN \xff')).map(bytes))
@example(b"[" * 5000)
@example(b'{"a":' * 5000)
@example(b'{"a": ' + b"9" * 5000 + b"}")
@example(b"\xff\xfe{\x00}\x00")
def test_any_bytes_are_an_object_or_refused(body):
    document = refused(json_values.parse, body)
    assert document is None or isinstance(document, dict)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("depth", range(100, 1000, 50))
def test_an_error_can_quote_any_value_that_can_be_parsed(depth, opening, closing):
    """Python recurses to parse, and again to write: the second may not fail where the first did not."""
    document = refused(json_values.parse, b'{"inputs":' + opening * depth + b"0" + closing * depth + b"}")
    if document is not None:
        value = document["inputs"]
        refused(json_tensors.read_inputs, document, signature(a=tf.string))
        refused(json_tensors.read_inputs, document, signature(a=tf.float32))
        refused(json_tensors.read_inputs, {"instances": value}, signature(a=tf.float32))
        refused(json_tensors.read_inputs, {"instances": [document]}, signature(a=tf.int32, b=tf.bool))
        refused(json_examples.read_examples, {"examples": [document]}, "regress")


@drawn(60)
@given(content=st.binary(max_size=20), urlsafe=st.booleans(), padded=st.booleans())
def test_base64_in_all_its_forms(content, urlsafe, padded):
    text = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(content).decode()
    assert json_values.decode_base64({"b64": text if padded else text.rstrip("=")}) == content


@drawn(60)
@given(VALUES)
def test_a_quoted_value_is_short_and_the_beginning_of_its_json(value):
    shown, whole = json_values.show(value), json.dumps(value)
    assert shown == whole if len(whole) <= 256 else shown == whole[:256] + "..."
