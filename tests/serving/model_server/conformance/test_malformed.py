"""Hundreds of malformed requests: each gets its proper error, and the server goes on as it was."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from tests.serving import overlap_model
from tests.serving.http_client import call
from tests.serving.model_server.conformance.conftest import Target

USER = {
    "user_id": ["1"],
    "history_item_id": [["103", "107"]],
    "history_age_days": np.array([[4.0, 0.0]], np.float32),
    "history_event_type": [["view", "view"]],
    "context_store_id": ["9"],
    "context_timestamp": np.array([0], np.int64),
}
GOOD: dict[str, dict[str, object]] = {
    "recommend": {**USER, "exclude_item_id": [["1"]], "category": [[""]], "k": [3]},
    "rank": {**USER, "candidate_item_id": [["103", "107"]]},
    "similar": {"item_id": ["100"], "k": [3]},
    "embed_text": {"text": ["organic milk"]},
    "embed_user": USER,
    "embed_item": {"item_id": ["107"]},
}
INVALID, INTERNAL = "INVALID_ARGUMENT", "INTERNAL"
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def shaped(proto: tensor_pb2.TensorProto, *sizes: int) -> tensor_pb2.TensorProto:
    del proto.tensor_shape.dim[:]
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


def tensors(name: str, good: object) -> Iterator[tuple[str, tensor_pb2.TensorProto]]:
    """Malformed tensors in the place of a good one."""

    def fresh() -> tensor_pb2.TensorProto:
        return tf.make_tensor_proto(good)

    proto = fresh()
    shape = [dim.size for dim in proto.tensor_shape.dim]
    text = proto.dtype == types_pb2.DT_STRING
    for dtype in (tf.float64, tf.uint8, tf.bool, tf.string, tf.float32, tf.int32):
        if dtype.as_datatype_enum != proto.dtype:
            values = np.full(shape, b"1" if dtype == tf.string else 1)
            yield f"{name} as {dtype.name}", tf.make_tensor_proto(values, dtype=dtype)
    for number in (0, 4242):
        proto = fresh()
        proto.dtype = number
        yield f"{name} of type {number}", proto
    yield f"{name} with a negative size", shaped(fresh(), *shape[:-1], -1)
    yield f"{name} beyond memory", shaped(fresh(), *[2**40] * max(len(shape), 1))
    proto = fresh()
    proto.tensor_shape.unknown_rank = True
    yield f"{name} of unknown rank", proto
    proto = fresh()
    if not text:
        proto.tensor_content = b"12345"  # no multiple of any size
    else:
        proto.tensor_content = b"abc"
    yield f"{name} with a wrong tensor_content", proto
    if text:
        proto = fresh()
        proto.string_val.extend([b"x"] * 3)
        yield f"{name} with too many values", proto


def grpc_cases() -> Iterator[tuple[str, bytes, str]]:
    """(what is wrong, serialized request, the code it deserves)."""
    for signature, inputs in GOOD.items():
        good = overlap_model.predict_request(signature, inputs)

        def changed(good: predict_pb2.PredictRequest = good) -> predict_pb2.PredictRequest:
            made = predict_pb2.PredictRequest()
            made.CopyFrom(good)
            return made

        for name, value in inputs.items():
            for what, proto in tensors(name, value):
                message = changed()
                message.inputs[name].CopyFrom(proto)
                yield f"{signature}: {what}", message.SerializeToString(), INVALID
            message = changed()
            del message.inputs[name]
            yield f"{signature}: without {name}", message.SerializeToString(), INVALID
            message = changed()
            message.inputs[name.upper()].CopyFrom(tf.make_tensor_proto(value))
            yield f"{signature}: {name} twice", message.SerializeToString(), INVALID
        for alias in ("price", "", "ITEM_ID", "\x00"):
            message = changed()
            message.output_filter.append(alias)
            yield f"{signature}: output {alias!r}", message.SerializeToString(), INVALID
        for version in (0, -1, 3, 2**63 - 1):
            message = changed()
            message.model_spec.version.value = version
            yield f"{signature}: version {version}", message.SerializeToString(), "NOT_FOUND"
        for name in ("other", "shelfwise ", "SHELFWISE", "x" * 10_000, "../shelfwise"):
            message = changed()
            message.model_spec.name = name
            yield f"{signature}: model {name[:20]!r}", message.SerializeToString(), "NOT_FOUND"
        message = changed()
        message.model_spec.version_label = "none"
        yield f"{signature}: unknown label", message.SerializeToString(), INVALID
        message = changed()
        message.model_spec.ClearField("name")
        yield f"{signature}: no model name", message.SerializeToString(), INVALID
        message = changed()
        message.model_spec.signature_name = signature + "?"
        yield f"{signature}: unknown signature", message.SerializeToString(), "FAILED_PRECONDITION"
        # A protobuf string that is not UTF-8.
        content = good.SerializeToString().replace(b"shelfwise", b"shelf\xff\xfee", 1)
        yield f"{signature}: model name of invalid UTF-8", content, INTERNAL
        content = good.SerializeToString()
        random_ = random.Random(signature)
        for size in sorted(random_.sample(range(1, len(content)), min(25, len(content) - 1))):
            try:
                predict_pb2.PredictRequest.FromString(content[:size])
            except DecodeError:
                yield f"{signature}: cut after {size} bytes", content[:size], INTERNAL


def rest_cases() -> Iterator[tuple[str, bytes]]:
    """(what is wrong, body of a predict request): all of them deserve 400."""

    def plain(value: object) -> object:
        return value.tolist() if isinstance(value, np.ndarray) else value

    for signature, inputs in GOOD.items():
        columns = {name: plain(value) for name, value in inputs.items()}
        body = {"signature_name": signature, "inputs": columns}
        for name, value in columns.items():
            text = isinstance(np.array(value).flat[0], str)
            wrong = [None, {}, {"b64": "!"}, json.loads("[" * 99 + "]" * 99), [[1], [2, 3]], {"a": 1}]
            wrong += [5, True, [1.5]] if text else ["x", "1", [True], [["a"]]]
            for other in wrong:
                changed = {**columns, name: other}
                yield f"{signature}: {name} = {other}", json.dumps({**body, "inputs": changed}).encode()
            less = {key: one for key, one in columns.items() if key != name}
            yield f"{signature}: without {name}", json.dumps({**body, "inputs": less}).encode()
            yield (
                f"{signature}: {name} misspelt",
                json.dumps({**body, "inputs": {**less, name.upper(): value}}).encode(),
            )
        content = json.dumps(body).encode()
        random_ = random.Random(signature)
        for size in sorted(random_.sample(range(1, len(content)), 20)):
            yield f"{signature}: cut after {size} bytes", content[:size]
        for place in random_.sample(range(1, len(content)), 5):
            yield f"{signature}: invalid UTF-8", content[:place] + b"\xff" + content[place:]


def alive(target: Target) -> None:
    response = target.stubs.predict("similar", GOOD["similar"])
    assert [item.decode() for item in response.outputs["item_id"].string_val] == ["140", "130", "120"]


def test_every_malformed_request_gets_its_error(target: Target) -> None:
    raw = target.stubs.channel.unary_unary(PREDICT)

    def code(content: bytes) -> str:
        try:
            raw(content, timeout=20)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    cases = list(grpc_cases())
    bodies = list(rest_cases()) if target.rest is not None else []
    if target.server is not None:
        assert len(cases) >= 400
        assert len(cases) + len(bodies) >= 700
    wrong = [(what, wanted, found) for what, content, wanted in cases if (found := code(content)) != wanted]
    alive(target)
    wrong += [
        (what, 400, status)
        for what, body in bodies
        if (status := call(f"{target.url}:predict", body)[0]) != 400
    ]
    alive(target)
    if target.server is not None:  # another server may be more patient; it must live
        assert wrong == []


@pytest.mark.slow
def test_memory_is_flat_under_malformed_requests(target: Target) -> None:
    if target.server is None:
        pytest.skip("the server runs elsewhere")
    raw = target.stubs.channel.unary_unary(PREDICT)
    contents = [content for _, content, _ in grpc_cases()]
    process = psutil.Process(target.server.process.pid)

    def rounds(count: int) -> int:
        for _ in range(count):
            for future in [raw.future(content, timeout=20) for content in contents]:
                assert future.exception() is not None
        return process.memory_info().rss

    before = rounds(3)  # caches and thread stacks are filled
    assert rounds(6) - before < 30e6
    alive(target)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_numbers_that_are_none_are_an_answer_of_the_model(target: Target, value: float) -> None:
    """NaN is a float: the model decides. It must not harm the next request."""
    inputs = {**USER, "history_age_days": np.array([[value, 1.0]], np.float32)}
    assert target.stubs.predict("embed_user", inputs).outputs["embedding"].float_val
    alive(target)


def test_bytes_that_are_no_text_are_just_an_unknown_item(target: Target) -> None:
    response = target.stubs.predict("similar", {"item_id": [b"\xff\xfe"], "k": [1]})
    assert tf.make_ndarray(response.outputs["item_id"]).shape == (1, 1)
    alive(target)
