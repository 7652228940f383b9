"""What every client of TensorFlow Serving may rely on."""

from __future__ import annotations

import base64

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.serving import overlap_model
from tests.serving.http_client import call
from tests.serving.model_server.conformance.conftest import Target
from tests.serving.stubs import Status

SIMILAR = {"item_id": ["100"], "k": [3]}


def request(
    signature: str = "similar", inputs: dict | None = None, name: str = "shelfwise", **choice: object
) -> predict_pb2.PredictRequest:
    made = overlap_model.predict_request(signature, SIMILAR if inputs is None else inputs, name)
    if "version" in choice:
        made.model_spec.version.value = choice["version"]
    if "label" in choice:
        made.model_spec.version_label = choice["label"]
    made.output_filter.extend(choice.get("output_filter", []))
    return made


def refusal(method: object, message: object) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        method(message, timeout=20)
    return raised.value.code().name, raised.value.details()


def example(item: str) -> tf.train.Example:
    made = tf.train.Example()
    made.features.feature["candidate_item_id"].bytes_list.value.extend([item.encode(), b"100"])
    return made


# ---- gRPC


@pytest.mark.parametrize(
    ("choice", "version"), [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1), ({"label": "canary"}, 2)]
)
def test_predict_by_version_and_label(target: Target, choice: dict, version: int) -> None:
    response = target.stubs.prediction.Predict(request(**choice), timeout=20)
    assert response.model_spec.name == "shelfwise"
    assert response.model_spec.version.value == version
    assert response.model_spec.signature_name == "similar"
    assert set(response.outputs) == {"item_id", "item_text", "score", "source", "reason"}
    found = [item.decode() for item in tf.make_ndarray(response.outputs["item_id"])[0]]
    assert found == ["140", "130", "120"]
    wanted = overlap_model.expected_scores([("100", 0.0)], boost=version - 1)[[40, 30, 20]]
    np.testing.assert_allclose(response.outputs["score"].float_val, wanted, rtol=1e-6)


def test_predict_batch_filter_and_tensor_content(target: Target) -> None:
    inputs = {"item_id": ["100", "103", "unknown"], "k": [2, 2, 2]}
    response = target.stubs.prediction.Predict(request(inputs=inputs, output_filter=["item_id"]), timeout=20)
    assert set(response.outputs) == {"item_id"}
    assert tf.make_ndarray(response.outputs["item_id"]).shape == (3, 2)
    rank = {
        "user_id": ["1"],
        "history_item_id": [["103", "107"]],
        "history_age_days": tf.make_tensor_proto(np.array([[4.0, 0.0]], np.float32)),  # packed
        "history_event_type": [["view", "view"]],
        "context_store_id": ["9"],
        "context_timestamp": np.array([0], np.int64),
        "candidate_item_id": [["103", "107", "111"]],
    }
    assert rank["history_age_days"].tensor_content
    response = target.stubs.prediction.Predict(request("rank", rank, version=1), timeout=20)
    wanted = overlap_model.expected_scores([("103", 4.0), ("107", 0.0)], 0)[[3, 7, 11]]
    np.testing.assert_allclose(response.outputs["score"].float_val, wanted, rtol=1e-5)


def test_default_signature(target: Target) -> None:
    response = target.stubs.prediction.Predict(
        request("", {"examples": [example("149").SerializeToString()]}, version=1), timeout=20
    )
    np.testing.assert_allclose(
        response.outputs["p_purchase"].float_val[0], 1 / (1 + np.exp(-0.049)), rtol=1e-5
    )


def test_classify_and_regress(target: Target) -> None:
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "shelfwise", "classification"
    classify.input.example_list.examples.append(example("149"))
    result = target.stubs.prediction.Classify(classify, timeout=20).result
    assert [one.label for one in result.classifications[0].classes] == ["likely", "unlikely"]
    regress = regression_pb2.RegressionRequest(model_spec=classify.model_spec, input=classify.input)
    regress.model_spec.signature_name = "regression"
    value = target.stubs.prediction.Regress(regress, timeout=20).result.regressions[0].value
    assert value == pytest.approx(result.classifications[0].classes[0].score)
    regress.input.Clear()
    assert refusal(target.stubs.prediction.Regress, regress)[0] == "INVALID_ARGUMENT"
    classify.model_spec.signature_name = "similar"
    assert refusal(target.stubs.prediction.Classify, classify)[0] == "INVALID_ARGUMENT"


def test_metadata(target: Target) -> None:
    message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    message.model_spec.name = "shelfwise"
    response = target.stubs.prediction.GetModelMetadata(message, timeout=20)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    assert found.signature_def["similar"].inputs["k"].dtype == tf.int32.as_datatype_enum
    del message.metadata_field[:]
    assert refusal(target.stubs.prediction.GetModelMetadata, message)[0] == "INVALID_ARGUMENT"


def test_status(target: Target) -> None:
    message = get_model_status_pb2.GetModelStatusRequest()
    message.model_spec.name = "shelfwise"
    response = target.stubs.model.GetModelStatus(message, timeout=20)
    states = {entry.version: entry.state for entry in response.model_version_status}
    assert states == {1: Status.AVAILABLE, 2: Status.AVAILABLE}
    message.model_spec.version.value = 9
    assert refusal(target.stubs.model.GetModelStatus, message)[0] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (request(name="other"), "NOT_FOUND", "Servable not found for request: Latest(other)"),
        (request(version=7), "NOT_FOUND", "Servable not found for request: Specific(shelfwise, 7)"),
        (request(label="no"), "INVALID_ARGUMENT", "Unrecognized servable version label: no"),
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (request("no"), "FAILED_PRECONDITION", 'Serving signature key "no" not found'),
        (request(inputs={"k": [3]}), "INVALID_ARGUMENT", "Missing but required: {item_id}"),
        (request(inputs={**SIMILAR, "color": ["red"]}), "INVALID_ARGUMENT", "Sent extra: {color}"),
        (request(inputs={**SIMILAR, "k": [3.0]}), "INVALID_ARGUMENT", "k"),
        (request(inputs={**SIMILAR, "item_id": [["1"]]}), "INVALID_ARGUMENT", ""),
        (request(output_filter=["price"]), "INVALID_ARGUMENT", "output tensor alias not found"),
        (request("", {"examples": [b"\xff\xff"]}), "INVALID_ARGUMENT", "parse"),
    ],
)
def test_refusal_has_its_code(target: Target, message: object, code: str, text: str) -> None:
    found = refusal(target.stubs.prediction.Predict, message)
    assert found[0] == code
    assert text in found[1]


def test_deadline(target: Target) -> None:
    busy = request("busy", {"seconds": np.float64(3)})
    with pytest.raises(grpc.RpcError) as raised:
        target.stubs.prediction.Predict(busy, timeout=0.2)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_reload_without_a_model_list(target: Target) -> None:
    empty = model_management_pb2.ReloadConfigRequest()
    assert refusal(target.stubs.model.HandleReloadConfigRequest, empty)[0] == "INVALID_ARGUMENT"


# ---- HTTP


@pytest.mark.parametrize(
    ("path", "boost"), [("", 1), ("/versions/1", 0), ("/labels/stable", 0), ("/labels/canary", 1)]
)
def test_rest_predict_in_columns(target: Target, path: str, boost: float) -> None:
    body = {"signature_name": "similar", "inputs": {"item_id": ["100", {"b64": "MTAz"}], "k": [1, 1]}}
    status, answer = call(f"{target.url}{path}:predict", body)
    assert status == 200
    assert answer["outputs"]["item_id"] == [["140"], ["143"]]
    assert answer["outputs"]["score"][0][0] == pytest.approx(1.04 + boost, abs=1e-5)


def test_rest_predict_in_rows(target: Target) -> None:
    status, answer = call(
        f"{target.url}:predict", {"signature_name": "embed_item", "instances": ["107", "103"]}
    )
    assert status == 200
    assert [row.index(1.0) for row in answer["predictions"]] == [7, 3]
    serialized = {"b64": base64.b64encode(example("149").SerializeToString()).decode()}
    status, answer = call(f"{target.url}/versions/1:predict", {"instances": [{"examples": serialized}]})
    assert status == 200
    assert answer["predictions"][0][0] == pytest.approx(1 / (1 + np.exp(-0.049)), rel=1e-5)


def test_rest_classify_and_regress(target: Target) -> None:
    examples = [{"candidate_item_id": ["149", "100"]}]
    status, answer = call(
        f"{target.url}:classify", {"signature_name": "classification", "examples": examples}
    )
    assert status == 200
    assert [label for label, _ in answer["results"][0]] == ["likely", "unlikely"]
    status, values = call(f"{target.url}:regress", {"signature_name": "regression", "examples": examples})
    assert status == 200
    assert values["results"][0] == pytest.approx(answer["results"][0][0][1])


def test_rest_status_and_metadata(target: Target) -> None:
    status, answer = call(f"{target.url}/versions/1")
    assert status == 200
    (entry,) = answer["model_version_status"]
    assert (entry["version"], entry["state"]) == ("1", "AVAILABLE")
    assert entry["status"] == {"error_code": "OK", "error_message": ""}
    status, answer = call(f"{target.url}/metadata")
    assert status == 200
    assert answer["model_spec"]["name"] == "shelfwise"
    assert (
        answer["metadata"]["signature_def"]["signature_def"]["similar"]["inputs"]["k"]["dtype"] == "DT_INT32"
    )


@pytest.mark.parametrize(
    ("path", "body", "code", "text"),
    [
        (
            "/versions/7:predict",
            {"signature_name": "similar", "inputs": SIMILAR},
            404,
            "Specific(shelfwise, 7)",
        ),
        ("/versions/9", None, 404, "Could not find version 9 of model shelfwise"),
        ("/labels/no:predict", {"inputs": 1}, 400, "Unrecognized servable version label: no"),
        (":predict", b"", 400, "JSON Parse error"),
        (":predict", b"{", 400, "JSON Parse error"),
        (":predict", [], 400, "Is not object"),
        (":predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (":predict", {"instances": []}, 400, "No values in 'instances'"),
        (":predict", {"signature_name": "no", "inputs": 1}, 400, "not found in signature def"),
        (
            ":predict",
            {"signature_name": "similar", "inputs": {"k": [1]}},
            400,
            "Missing named input: item_id",
        ),
        (
            ":predict",
            {"signature_name": "similar", "inputs": {**SIMILAR, "k": ["x"]}},
            400,
            "not of expected type",
        ),
        (":predict", {"signature_name": "embed_item", "inputs": [{"b64": 5}]}, 400, "base64"),
        (":guess", {}, 400, "Malformed request: POST"),
    ],
)
def test_rest_refusal(target: Target, path: str, body: object, code: int, text: str) -> None:
    status, answer = call(target.url + path, body)
    assert status == code
    assert text in answer["error"]
