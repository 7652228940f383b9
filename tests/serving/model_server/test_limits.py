"""What a request may cost, and who may change the configuration: a server with small limits."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, model_management_pb2, predict_pb2

from tests.serving.http_client import call
from tests.serving.process import Server, wait_until
from tests.serving.stubs import Stubs


@pytest.fixture(scope="module")
def strict(
    exports: dict[int, Path],
    start: Callable[..., Server],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Server:
    base_path = tmp_path_factory.mktemp("models")
    shutil.copytree(exports[1], base_path / "1")
    server = start(
        base_path,
        "--rest_api_port=-1",
        "--max_rows=3",
        "--max_filled_elements=10",
        "--grpc_max_threads=1",
        "--grpc_max_concurrent_rpcs=2",
        "--enable_reload_config=false",
        "--enable_batching",
    )
    return server.wait_serving(1)


@pytest.fixture(scope="module")
def stubs(strict: Server) -> Stubs:
    return Stubs(strict.port)


def refusal(ask: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        ask()
    return raised.value.code().name, raised.value.details()


def test_rows_beyond_the_limit_are_refused_by_whatever_way_they_come(strict: Server, stubs: Stubs) -> None:
    url = f"http://localhost:{strict.rest_port}/v1/models/shelfwise:"
    text = "has 4 rows; a request may have 3 (--max_rows)"
    assert len(stubs.predict("embed_text", {"text": ["a"] * 3}).outputs) == 1
    code, message = refusal(lambda: stubs.predict("embed_text", {"text": ["a"] * 4}))
    assert (code, text in message) == ("INVALID_ARGUMENT", True), message
    for document in ({"instances": ["a"] * 4}, {"inputs": ["a"] * 4}):
        status, answer = call(f"{url}predict", {"signature_name": "embed_text", **document})
        assert (status, text in answer["error"]) == (400, True)
    example = {"candidate_item_id": ["149", "100"]}
    for count, wanted in ((3, 200), (4, 400)):
        document = {"signature_name": "classification", "examples": [example] * count}
        assert call(f"{url}classify", document)[0] == wanted
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "shelfwise", "classification"
    for _ in range(4):
        request.input.example_list.examples.add()
    code, message = refusal(lambda: stubs.prediction.Classify(request, timeout=20))
    assert (code, text in message) == ("INVALID_ARGUMENT", True), message


def test_a_few_bytes_may_not_stand_for_many_elements(stubs: Stubs) -> None:
    def rank(candidates: int, value: bytes, dtype: int = types_pb2.DT_STRING) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "shelfwise", "embed_text"
        text = request.inputs["text"]
        text.dtype = dtype
        text.tensor_shape.dim.add(size=candidates)
        text.string_val.append(value)
        return request

    assert (
        stubs.prediction.Predict(rank(3, b"bread"), timeout=20).outputs["embedding"].tensor_shape.dim[0].size
        == 3
    )
    for request in (rank(12, b"bread"), rank(2, b"b" * 1000), rank(2**40, b"")):
        code, message = refusal(lambda request=request: stubs.prediction.Predict(request, timeout=20))
        assert (code, "only 1 values are given" in message) == ("INVALID_ARGUMENT", True), message


def test_calls_that_would_wait_beyond_the_limit_are_refused(strict: Server, stubs: Stubs) -> None:
    busy = {"seconds": np.float64(1.0)}

    def refused(signature: str, inputs: dict) -> bool:
        try:
            stubs.predict(signature, inputs)
        except grpc.RpcError as error:
            return error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return False

    done = threading.Event()

    def work() -> None:  # again and again: both places are taken, whoever came first
        while not done.is_set():
            refused("busy", busy)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: refused("embed_text", {"text": ["a"]}), strict)  # one works, one waits
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert stubs.predict("embed_text", {"text": ["a"]}).model_spec.version.value == 1


def test_nobody_reloads_unless_the_server_was_told(stubs: Stubs, tmp_path: Path) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="other", base_path=str(tmp_path))
    code, message = refusal(lambda: stubs.model.HandleReloadConfigRequest(request, timeout=20))
    assert (code, "--enable_reload_config" in message) == ("PERMISSION_DENIED", True)
    assert stubs.predict("embed_text", {"text": ["a"]}).model_spec.version.value == 1
