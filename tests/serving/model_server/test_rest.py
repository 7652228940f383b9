"""REST, metrics, limits, reflection, Classify and Regress on one server."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import time
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from serving.model_server.core import inference, tensors
from serving.model_server.core.errors import StatusError
from serving.model_server.core.servable import Signature
from serving.model_server.http_api import json_tensors, json_values
from tests.serving import overlap_model
from tests.serving.conftest import MAX_BYTES
from tests.serving.http_client import call
from tests.serving.process import Server, wait_until
from tests.serving.stubs import Stubs


@pytest.fixture(scope="module")
def url(rest: Server) -> str:
    return f"http://localhost:{rest.rest_port}/v1/models/shelfwise"


@pytest.fixture(scope="module")
def stubs(rest: Server) -> Stubs:
    return Stubs(rest.port)


def instance(**more: object) -> dict[str, object]:
    return {
        "user_id": "1",
        "history_item_id": ["103"],
        "history_age_days": [1],
        "history_event_type": ["purchase"],
        "context_store_id": "9",
        "context_timestamp": 0,
        "exclude_item_id": [""],
        "category": [""],
        "k": 3,
        **more,
    }


def test_the_ports_open_when_the_models_are_loaded(rest: Server) -> None:
    """As TensorFlow Serving's do: until then connections are refused, which load balancers understand."""
    messages = [json.loads(line)["message"] for line in rest.log.read_text().splitlines() if line[:1] == "{"]
    places = [
        next(place for place, message in enumerate(messages) if message.startswith(text))
        for text in ("loaded version 2 of shelfwise", "gRPC on port", "REST on port")
    ]
    assert places == sorted(places)


# ---- answers


def test_a_search_in_json(url: str) -> None:
    """Words, truth values and whole numbers; every row has its own."""
    searches = [("café 3", "price_desc", 2), ("nothing", "", 1)]
    body = {
        "signature_name": "search",
        "instances": [
            {name: value for name, value in instance().items() if name != "exclude_item_id"}
            | {"query": query, "sort": sort, "max_price": 0.3, "k": k}
            for query, sort, k in searches
        ],
    }
    status, answer = call(f"{url}:predict", body)
    assert status == 200, answer
    found, nothing = answer["predictions"]
    assert found["item_id"] == ["123", "113"]
    assert found["price"] == pytest.approx([0.23, 0.13])
    assert (found["total"], found["relaxed"], found["notice"]) == (3, False, "")
    assert found["facet_count"] == [3, 1, 0]
    assert (nothing["total"], nothing["relaxed"], nothing["notice"]) == (0, True, "Nothing has nothing")


def test_row_format(url: str) -> None:
    body = {
        "signature_name": "recommend",
        "instances": [instance(), instance(history_item_id=["107"])],
    }
    status, answer = call(f"{url}:predict", body)
    assert status == 200
    assert [row["item_id"] for row in answer["predictions"]] == [["143", "133", "123"], ["147", "137", "127"]]
    row = answer["predictions"][0]
    assert row["item_text"][0] == "Product 143 of café 3"
    expected = overlap_model.expected_scores([("103", 1.0)], boost=1)[43]
    assert row["score"][0] == pytest.approx(float(expected), abs=1e-6)
    status, answer = call(
        f"{url}:predict", {"signature_name": "recommend", "instances": [instance(k=1), instance(k=2)]}
    )
    assert [row["item_id"] for row in answer["predictions"]] == [["143", ""], ["143", "133"]]


def test_row_format_with_a_scalar_input(url: str) -> None:
    rows = [{"item_id": "100", "k": 2}, {"item_id": "103", "k": 2}]
    body = {"signature_name": "similar_scalar", "instances": rows}
    status, answer = call(f"{url}:predict", body)
    assert [row["item_id"] for row in answer["predictions"]] == [["140", "130"], ["143", "133"]]
    rows[1]["k"] = 3
    assert call(f"{url}:predict", body) == (
        400,
        {"error": "k: is a scalar; it must be one value, the same in all instances"},
    )


def test_column_format_with_bytes(url: str) -> None:
    item = {"b64": base64.b64encode(b"100").decode()}
    body = {"signature_name": "similar", "inputs": {"item_id": [item, "103"], "k": [2, 2]}}
    status, answer = call(f"{url}:predict", body)
    assert status == 200
    assert answer["outputs"]["item_id"] == [["140", "130"], ["143", "133"]]
    example = tf.train.Example()
    example.features.feature["candidate_item_id"].bytes_list.value.extend([b"100", b"149"])
    encoded = {"b64": base64.b64encode(example.SerializeToString()).decode()}
    expected = [[pytest.approx(1 / (1 + np.exp(-score)), rel=1e-5) for score in (1.0, 1.049)]]
    assert call(f"{url}:predict", {"instances": [encoded]}) == (200, {"predictions": expected})
    assert call(f"{url}:predict", {"inputs": [encoded]}) == (200, {"outputs": expected})


def test_versions_and_labels(url: str) -> None:
    body = {"signature_name": "similar", "inputs": {"item_id": ["100"], "k": [1]}}

    def score(path: str) -> float:
        status, answer = call(f"{url}{path}:predict", body)
        assert status == 200, answer
        return answer["outputs"]["score"][0][0]

    assert score("/versions/1") == pytest.approx(1.04, abs=1e-5)
    assert score("/labels/stable") == pytest.approx(1.04, abs=1e-5)
    assert score("/labels/a%20b") == score("") == pytest.approx(2.04, abs=1e-5)
    assert call(f"{url}/versions/7:predict", body) == (
        404,
        {"error": "Servable not found for request: Specific(shelfwise, 7)"},
    )
    assert call(f"{url}/labels/no:predict", body) == (
        400,
        {"error": "Unrecognized servable version label: no"},
    )


def test_status_and_metadata(url: str) -> None:
    entry = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    both = [{"version": "2", **entry}, {"version": "1", **entry}]
    assert call(url) == (200, {"model_version_status": both})
    assert call(f"{url}/versions/1") == (200, {"model_version_status": both[1:]})
    assert call(f"{url}/labels/stable") == (200, {"model_version_status": both[1:]})
    status, answer = call(f"{url}/labels/stable/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "shelfwise", "signature_name": "", "version": "1"}
    inputs = answer["metadata"]["signature_def"]["signature_def"]["similar"]["inputs"]
    assert inputs["k"]["dtype"] == "DT_INT32"
    assert [dim["size"] for dim in inputs["item_id"]["tensor_shape"]["dim"]] == ["-1"]


def test_the_graph_decides_about_shapes(url: str, stubs: Stubs) -> None:
    """As in TensorFlow Serving. `rank` of the test model makes nothing of the context, whatever its shape."""
    plain = {**instance(), "candidate_item_id": ["103", "107"]}
    for name in ("exclude_item_id", "category", "k"):
        del plain[name]
    unusual = {**plain, "context_store_id": [plain["context_store_id"]]}
    expected = call(url + PREDICT, {"signature_name": "rank", "instances": [plain] * 2})
    assert expected[0] == 200
    assert call(url + PREDICT, {"signature_name": "rank", "instances": [unusual] * 2}) == expected
    columns = {name: [value] * 2 for name, value in plain.items()}
    by_column = call(url + PREDICT, {"signature_name": "rank", "inputs": columns})
    assert by_column[0] == 200
    for shape in ("9", [["9", "9"]], []):
        body = {"signature_name": "rank", "inputs": {**columns, "context_store_id": shape}}
        assert call(url + PREDICT, body) == by_column
    tensors_ = {
        **{name: np.array(value) for name, value in columns.items()},
        "history_age_days": np.array(columns["history_age_days"], np.float32),
        "context_timestamp": np.array(columns["context_timestamp"], np.int64),
    }
    answers = [
        stubs.predict("rank", {**tensors_, "context_store_id": np.array(value)}).outputs["score"]
        for value in (["9", "9"], "9", [["9"]])
    ]
    assert answers[0] == answers[1] == answers[2]


def test_rest_and_grpc_give_the_same_numbers(url: str, stubs: Stubs) -> None:
    response = stubs.predict("embed_text", {"text": ["organic milk and bread"]})
    _, answer = call(
        f"{url}:predict", {"signature_name": "embed_text", "instances": ["organic milk and bread"]}
    )
    wanted = np.array(response.outputs["embedding"].float_val, np.float32)
    np.testing.assert_array_equal(np.array(answer["predictions"][0], np.float32), wanted)


# ---- refusals

PREDICT = ":predict"
REFUSALS: dict[str, tuple[str, object, int, str]] = {
    "unknown model": ("/../other:predict", {}, 400, "Malformed request"),
    "malformed path": ("/versions/x:predict", {}, 400, "Malformed request: POST"),
    "unknown method": (":guess", {}, 400, "Malformed request: POST"),
    "version too large": ("/versions/99999999999999999999:predict", {}, 400, "Failed to convert version"),
    "empty": (PREDICT, b"", 400, "The document is empty"),
    "not JSON": (PREDICT, b"{'a': 1}", 400, "JSON Parse error"),
    "not UTF-8": (PREDICT, b'{"a": "\xff"}', 400, "not UTF-8"),
    "too deep": (PREDICT, b'{"inputs":' + b"[" * 100_000, 400, "nested too deeply"),
    "a list": (PREDICT, [1], 400, "Is not object"),
    "no inputs": (PREDICT, {"signature_name": "similar"}, 400, "Missing 'inputs' or 'instances' key"),
    "both": (PREDICT, {"inputs": 1, "instances": []}, 400, "only one of"),
    "signature name": (PREDICT, {"signature_name": 5, "inputs": 1}, 400, "must be a string"),
    "unknown signature": (
        PREDICT,
        {"signature_name": "no", "inputs": 1},
        400,
        'Serving signature name: "no" not found in signature def',
    ),
    "no instances": (PREDICT, {"instances": []}, 400, "No values in 'instances'"),
    "instances no list": (PREDICT, {"instances": 5}, 400, "Expecting 'instances' to be an list"),
    "plain list": (PREDICT, {"signature_name": "similar", "instances": ["1"]}, 400, "plain list"),
    "plain inputs": (PREDICT, {"signature_name": "similar", "inputs": ["1"]}, 400, "plain value/list"),
    "missing key": (
        PREDICT,
        {"signature_name": "similar", "instances": [{"item_id": "1"}]},
        400,
        "keys must be equal to: item_id,k",
    ),
    "missing input": (
        PREDICT,
        {"signature_name": "similar", "inputs": {"k": [1]}},
        400,
        "Missing named input: item_id in 'inputs' object",
    ),
    "unknown input": (
        PREDICT,
        {"signature_name": "similar", "inputs": {"item_id": ["1"], "k": [1], "color": 2}},
        400,
        "does not have named input: color",
    ),
    "unknown key": (
        PREDICT,
        {"signature_name": "similar", "instances": [{"item_id": "1", "k": 1, "c": 2}]},
        400,
        "key: c of 'instances'",
    ),
    "mixed": (
        PREDICT,
        {"signature_name": "similar", "instances": [{"item_id": "1", "k": 1}, 5]},
        400,
        "item 1 of input list",
    ),
    "wrong type": (
        PREDICT,
        {"signature_name": "similar", "inputs": {"item_id": ["1"], "k": [1.5]}},
        400,
        "k: JSON Value: 1.5 Type: Number is not of expected type: int32",
    ),
    "bool is no int": (
        PREDICT,
        {"signature_name": "similar", "inputs": {"item_id": ["1"], "k": [True]}},
        400,
        "expected type: int32",
    ),
    "int too large": (
        PREDICT,
        {"signature_name": "similar", "inputs": {"item_id": ["1"], "k": [2**31]}},
        400,
        "expected type: int32",
    ),
    "null": (
        PREDICT,
        {"signature_name": "similar", "inputs": {"item_id": [None], "k": [1]}},
        400,
        "item_id: JSON Value: null Type: Null",
    ),
    "ragged": (
        PREDICT,
        {"signature_name": "embed_user", "inputs": {**instance(), "history_item_id": [["1"], ["1", "2"]]}},
        400,
        "does not have named input",
    ),
    "uneven": (
        PREDICT,
        {"signature_name": "embed_text", "inputs": ["a", ["b"]]},
        400,
        "Encountered list at unexpected level: 1",
    ),
    "rank": (
        PREDICT,
        {"signature_name": "embed_text", "inputs": [["a"]]},
        400,
        "input text to have shape [?] but got [1, 1]",
    ),
    "lists in lists": (
        PREDICT,
        {"signature_name": "embed_text", "inputs": json.loads("[" * 500 + "]" * 500)},
        400,
        "nested more than 32 deep",
    ),
    "shown, and nested": (
        PREDICT,
        {"signature_name": "embed_text", "inputs": [json.loads('{"a":' * 400 + "1" + "}" * 400)]},
        400,
        '"a"... not formatted correctly for base64 data',
    ),
    "bad base64": (
        PREDICT,
        {"signature_name": "embed_text", "inputs": [{"b64": "%%"}]},
        400,
        "Unable to base64 decode",
    ),
    "graph error": (PREDICT, {"inputs": [{"b64": "////"}]}, 400, "parse"),
    "surrogate": (PREDICT, b'{"signature_name":"embed_text","inputs":["\\ud800"]}', 400, "not valid Unicode"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(url: str, case: str) -> None:
    path, body, code, text = REFUSALS[case]
    status, answer = call(url + path, body)
    assert status == code, answer
    assert list(answer) == ["error"]
    assert text in answer["error"]


def test_paths_outside_and_without_a_model(rest: Server, url: str) -> None:
    root = url.removesuffix("/models/shelfwise").removesuffix("/v1")
    assert call(f"{root}/v1/models") == (400, {"error": "Missing model name in request."})
    assert call(f"{root}/v1/models/other") == (404, {"error": "Could not find any versions of model other"})
    other = call(f"{root}/v1/models/other:predict", {})
    assert other[0] == 404 or "JSON" not in other[1]["error"]
    assert call(f"{root}/other")[0] == 404
    connection = http.client.HTTPConnection("localhost", rest.rest_port, timeout=10)
    connection.request("DELETE", "/v1/models/shelfwise")
    response = connection.getresponse()
    assert response.status == 501
    assert "error" in json.loads(response.read())


def test_a_silent_or_oversized_client_harms_nobody(rest: Server, url: str) -> None:
    with socket.create_connection(("localhost", rest.rest_port)) as silent:
        silent.sendall(
            b"POST /v1/models/shelfwise:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
        )
        status, answer = call(f"{url}:predict", b" " * (MAX_BYTES + 1))
        assert (status, "at most" in answer["error"]) == (413, True)
        for head, code in (
            (b"POST /v1/models/shelfwise:predict HTTP/1.1\r\nHost: a\r\n\r\n", b"411"),
            (
                b"POST /v1/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                b"400",
            ),
            (b"nonsense\r\n\r\n", b"400"),
        ):
            with socket.create_connection(("localhost", rest.rest_port)) as raw:
                raw.sendall(head)
                assert code in raw.recv(1000).split(b"\r\n")[0]
        assert call(url)[0] == 200


def test_a_graph_that_is_late_is_not_waited_for(url: str) -> None:
    body = {"signature_name": "busy", "inputs": 8.0}  # the server's limit is 5 s
    started = time.monotonic()
    assert call(f"{url}:predict", body) == (504, {"error": "the request took longer than 5 s"})
    assert time.monotonic() - started > 4.5


def test_gzip_body(url: str) -> None:
    packed = gzip.compress(json.dumps({"signature_name": "embed_item", "instances": ["107"]}).encode())
    status, answer = call(f"{url}:predict", packed, headers={"Content-Encoding": "gzip"})
    assert (status, answer["predictions"][0].index(1.0)) == (200, 7)


def test_chunked_body_and_keep_alive(rest: Server) -> None:
    connection = http.client.HTTPConnection("localhost", rest.rest_port, timeout=10)
    body = json.dumps({"signature_name": "embed_item", "instances": ["107"]}).encode()
    for _ in range(2):  # the same connection
        connection.request(
            "POST",
            "/v1/models/shelfwise:predict",
            iter([body[:10], body[10:]]),
            {"Transfer-Encoding": "chunked"},
            encode_chunked=True,
        )
        response = connection.getresponse()
        assert response.status == 200
        assert json.loads(response.read())["predictions"][0].index(1.0) == 7


def test_cors_preflight(rest: Server) -> None:
    connection = http.client.HTTPConnection("localhost", rest.rest_port, timeout=10)
    connection.request("OPTIONS", "/v1/models/shelfwise:predict", headers={"Origin": "https://shop.example"})
    response = connection.getresponse()
    response.read()
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, "*")


# ---- limits


def test_grpc_message_beyond_the_limit_is_refused(stubs: Stubs) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stubs.predict("embed_text", {"text": ["x" * (MAX_BYTES + 1)]})
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_requests_beyond_the_concurrency_are_refused_at_once(
    rest: Server, url: str, stubs: Stubs, tmp_path: Path
) -> None:
    begun = [tmp_path / f"begun{number}" for number in range(3)]
    end = tmp_path / "end"  # the requests in work last until the test makes it

    def work(mine: Path) -> None:
        while not mine.exists():  # an earlier test's request may hold a place for a moment
            try:
                stubs.predict("held", {"begun": str(mine), "until": str(end)}, timeout=300)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise

    with futures.ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work, mine) for mine in begun]
        try:
            wait_until(lambda: all(mine.exists() for mine in begun), rest)
            with pytest.raises(grpc.RpcError) as raised:
                stubs.predict("embed_text", {"text": ["a"]})
            assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert call(f"{url}:predict", {"signature_name": "embed_text", "instances": ["a"]})[0] == 429
        finally:
            end.touch()
    assert all(one.exception() is None for one in working)
    assert stubs.predict("embed_text", {"text": ["a"]}).model_spec.version.value == 2


# ---- Classify, Regress


def example(item: str) -> tf.train.Example:
    made = tf.train.Example()
    made.features.feature["candidate_item_id"].bytes_list.value.extend([item.encode(), b"100"])
    return made


def likely(score: float) -> object:
    return pytest.approx(1 / (1 + np.exp(-score)), rel=1e-5)


def test_classify_and_regress(stubs: Stubs, url: str) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "shelfwise", "classification"
    request.input.example_list.examples.extend([example("100"), example("149")])
    response = stubs.prediction.Classify(request, timeout=20)
    assert response.model_spec.version.value == 2
    rows = [[(one.label, one.score) for one in entry.classes] for entry in response.result.classifications]
    assert rows == [
        [("likely", likely(1.0)), ("unlikely", likely(-1.0))],
        [("likely", likely(1.049)), ("unlikely", likely(-1.049))],
    ]
    regression = regression_pb2.RegressionRequest()
    regression.model_spec.name, regression.model_spec.signature_name = "shelfwise", "regression"
    regression.input.example_list_with_context.context.CopyFrom(example("149"))
    regression.input.example_list_with_context.examples.extend([tf.train.Example(), example("100")])
    result = stubs.prediction.Regress(regression, timeout=20).result
    assert [entry.value for entry in result.regressions] == [likely(1.049), likely(1.0)]

    both = inference_pb2.MultiInferenceRequest(input=request.input)
    for method, spec in (
        (inference.CLASSIFY, request.model_spec),
        (inference.REGRESS, regression.model_spec),
    ):
        both.tasks.add(model_spec=spec, method_name=method)
    answers = stubs.prediction.MultiInference(both, timeout=20).results
    assert answers[0].classification_result == response.result
    assert [entry.value for entry in answers[1].regression_result.regressions] == [likely(1.0), likely(1.049)]

    item = {"candidate_item_id": ["149", {"b64": base64.b64encode(b"100").decode()}]}
    body = {"signature_name": "classification", "examples": [item]}
    status, answer = call(f"{url}:classify", body)
    assert (status, answer["results"]) == (200, [[["likely", likely(1.049)], ["unlikely", likely(-1.049)]]])
    body = {"signature_name": "regression", "context": item, "examples": [{}, {}]}
    assert call(f"{url}/labels/stable:regress", body) == (200, {"results": [likely(0.049)] * 2})


def test_classify_and_regress_refusals(stubs: Stubs, url: str) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "shelfwise", "classification"

    def refused(text: str) -> None:
        with pytest.raises(grpc.RpcError) as raised:
            stubs.prediction.Classify(request, timeout=20)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert text in raised.value.details()

    refused("Input is empty.")
    request.input.example_list.examples.append(example("100"))
    for signature, text in (
        ("regression", "Expected classification signature outputs to contain at least one of"),
        ("similar", "Expected one input Tensor."),
        ("embed_text", "No classification inputs found in SignatureDef"),
        ("nothing", "No signature was found with the name: nothing"),
    ):
        request.model_spec.signature_name = signature
        refused(text)
    for body, text in (
        ({}, "key 'examples' is expected"),
        ({"examples": []}, "empty array"),
        ({"examples": [5]}, "Example must be JSON object"),
        ({"examples": [{"a": [1, "x"]}]}, "Unexpected element type in feature: a expecting type: int64"),
        ({"examples": [{"a": None}]}, "unexpected JSON type: Null"),
        ({"examples": [{"a": 2**70}]}, "Only int64"),
    ):
        status, answer = call(f"{url}:classify", body)
        assert status == 400
        assert text in answer["error"]
    task = inference_pb2.MultiInferenceRequest()
    with pytest.raises(grpc.RpcError, match="at least one task"):
        stubs.prediction.MultiInference(task, timeout=20)


# ---- what is seen from outside


def test_metrics_under_tf_serving_s_names(rest: Server, url: str, stubs: Stubs) -> None:
    page_url = f"http://localhost:{rest.rest_port}/monitoring/prometheus/metrics"

    def value(line: str) -> float:
        page = call(page_url)[1]
        found = [text for text in page.splitlines() if text.startswith(line + " ")]
        return float(found[0].split()[-1]) if found else 0.0

    good = ':tensorflow:serving:request_count{model_name="shelfwise",status="OK"}'
    bad = ':tensorflow:serving:request_count{model_name="shelfwise",status="INVALID_ARGUMENT"}'
    count = (
        ':tensorflow:serving:request_latency_count{API="Predict",entrypoint="REST",model_name="shelfwise"}'
    )
    before = value(good), value(bad), value(count)
    stubs.predict("embed_text", {"text": ["a"]})
    call(f"{url}:predict", {"signature_name": "embed_text", "instances": ["a"]})
    call(f"{url}:predict", {"signature_name": "embed_text", "instances": [1]})
    assert (value(good), value(bad), value(count)) == (before[0] + 2, before[1] + 1, before[2] + 1)
    assert value('shelfwise_model_version_state{model_name="shelfwise",version="2"}') == 30
    page = call(page_url)[1]
    for name in ("runtime_latency_bucket", "model_warmup_latency_count"):
        assert f":tensorflow:serving:{name}" in page
    assert "process_resident_memory_bytes" in page


def test_log_is_one_json_object_a_line(rest: Server) -> None:
    wait_until(lambda: "loaded version 2" in rest.log.read_text(), rest)
    lines = [json.loads(line) for line in rest.log.read_text().splitlines() if line.startswith("{")]
    loaded = [line for line in lines if "loaded version 2 of shelfwise" in line["message"]]
    assert loaded[0]["severity"] == "INFO"
    assert loaded[0]["time"].endswith("Z")


def test_reflection_names_the_services(stubs: Stubs) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(stubs.channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = stub.ServerReflectionInfo(asked, timeout=20)
    names = {service.name for service in answer.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} <= names
    asked = iter(
        [
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="tensorflow.serving.PredictionService"
            )
        ]
    )
    (answer,) = stub.ServerReflectionInfo(asked, timeout=20)
    assert answer.file_descriptor_response.file_descriptor_proto


# ---- JSON without a server


def signature(**inputs: tuple[tf.DType, tuple[int | None, ...]]) -> Signature:
    specs = {name: tensors.InputSpec(name, dtype, shape) for name, (dtype, shape) in inputs.items()}
    return Signature(specs, {}, {}, lambda _: {})


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (tf.float32, [[1, 2.5], [float("nan"), float("inf")]]),
        (tf.float64, [[1e300, -1], [0, 2]]),
        (tf.int64, [[2**63 - 1, -(2**63)], [0, 1]]),
        (tf.uint8, [[0, 255], [1, 2]]),
        (tf.bool, [[True, False], [False, False]]),
        (tf.string, [["a", "é"], ["", "\n"]]),
    ],
)
def test_json_to_tensor_and_back(dtype: tf.DType, values: list) -> None:
    document = json_values.parse(json.dumps({"inputs": {"x": values}}).encode())
    arrays, rows = json_tensors.read_inputs(document, signature(x=(dtype, (None, 2))))
    assert not rows
    assert tf.as_dtype(arrays["x"].dtype) == dtype
    back = json.loads(json_tensors.write_outputs({"y": arrays["x"]}, rows=False))["outputs"]
    np.testing.assert_equal(back, values)
    back = json.loads(json_tensors.write_outputs({"y": arrays["x"], "z": arrays["x"]}, rows=True))
    np.testing.assert_equal([row["z"] for row in back["predictions"]], values)


@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_too_many_rows_are_refused_before_a_value_is_read(key: str) -> None:
    document = {key: ["a", "b", object()]}  # at which reading would stop with another error
    with pytest.raises(StatusError, match=r"has 3 rows; a request may have 2 \(--max_rows\)"):
        json_tensors.read_inputs(document, signature(x=(tf.string, (None,))), max_rows=2)


def test_bytes_outputs_are_base64_and_scalars_have_no_row() -> None:
    image = {"image_bytes": np.array([b"\xff\x00"], object)}
    assert json.loads(json_tensors.write_outputs(image, rows=False)) == {"outputs": [{"b64": "/wA="}]}
    with pytest.raises(StatusError, match="Tensor name: total has no shape"):
        json_tensors.write_outputs({"total": np.array(3)}, rows=True)
    short = np.array([0.2, 1e-7, 3], np.float32)
    assert json_tensors.write_outputs({"x": short}, rows=False) == b'{"outputs": [0.2, 1e-07, 3.0]}'
