"""The server as a process, asked with the stock stubs, as any TensorFlow Serving user would."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import wrappers_pb2
from grpc_health.v1 import health_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.serving import overlap_model
from tests.serving.process import ROOT, Server, wait_until
from tests.serving.stubs import Status, Stubs

SIMILAR = {"item_id": ["100"], "k": [3]}


@pytest.fixture(scope="module")
def stubs(server: Server) -> Iterator[Stubs]:
    made = Stubs(server.port)
    yield made
    made.channel.close()


def recommend_inputs(history: list[tuple[str, float]], k: int = 5, **more: object) -> dict[str, object]:
    return {
        "user_id": ["1"],
        "history_item_id": [[item for item, _ in history] or [""]],
        "history_age_days": np.array([[age for _, age in history] or [0]], np.float32),
        "history_event_type": [["purchase"] * max(len(history), 1)],
        "context_store_id": ["9"],
        "context_timestamp": np.array([0], np.int64),
        "exclude_item_id": [[""]],
        "category": [[""]],
        "k": [k],
        **more,
    }


# ---- answers


def test_recommend_gives_the_model_s_answer_and_says_who_answered(stubs: Stubs) -> None:
    history = [("103", 4.0), ("113", 1.0), ("107", 0.0), ("unknown", 0.0)]
    response = stubs.predict("recommend", recommend_inputs(history))
    assert response.model_spec.name == "shelfwise"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "recommend"
    scores = overlap_model.expected_scores(history, boost=0)
    best = np.argsort(-scores)[:5]
    outputs = {name: tf.make_ndarray(value)[0] for name, value in response.outputs.items()}
    assert set(outputs) == {"item_id", "item_text", "score", "source", "reason"}
    assert [item.decode() for item in outputs["item_id"]] == [overlap_model.ITEMS[place] for place in best]
    assert outputs["item_text"][0].decode() == overlap_model.TEXTS[best[0]]
    np.testing.assert_allclose(outputs["score"], scores[best], rtol=1e-6)
    # Clients of TF Serving read this field without converting.
    np.testing.assert_allclose(response.outputs["score"].float_val, scores[best], rtol=1e-6)


def test_default_signature_and_output_filter(stubs: Stubs) -> None:
    example = tf.train.Example()
    example.features.feature["candidate_item_id"].bytes_list.value.extend([b"100", b"149"])
    response = stubs.predict("", {"examples": [example.SerializeToString()]})
    assert response.model_spec.signature_name == "serving_default"
    np.testing.assert_allclose(
        response.outputs["p_purchase"].float_val, [0.5, 1 / (1 + np.exp(-0.049))], rtol=1e-5
    )
    response = stubs.predict("similar", SIMILAR, output_filter=["score", "item_id"])
    assert set(response.outputs) == {"score", "item_id"}


def test_metadata_is_the_saved_model_s_signature_map(stubs: Stubs, exports: dict[int, Path]) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "shelfwise"
    response = stubs.prediction.GetModelMetadata(request, timeout=20)
    assert response.model_spec.version.value == 1
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    from tensorflow.core.protobuf import saved_model_pb2

    written = saved_model_pb2.SavedModel.FromString((exports[1] / "saved_model.pb").read_bytes())
    assert dict(found.signature_def) == dict(written.meta_graphs[0].signature_def)
    assert found.signature_def["recommend"].inputs["history_age_days"].dtype == types_pb2.DT_FLOAT


def test_status_and_health(stubs: Stubs) -> None:
    assert {version: entry.state for version, entry in stubs.status().items()} == {1: Status.AVAILABLE}
    assert stubs.healthy()
    assert stubs.healthy("tensorflow.serving.PredictionService")
    with pytest.raises(grpc.RpcError) as raised:
        stubs.healthy("another.Service")
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_warm_up_ran_before_it_served(server: Server) -> None:
    server.wait_log("loaded version 1")
    assert "2 warm-up requests" in server.log.read_text()


# ---- refusals


def _request(
    signature: str = "similar", inputs: dict | None = None, **spec: object
) -> predict_pb2.PredictRequest:
    request = overlap_model.predict_request(signature, SIMILAR if inputs is None else inputs)
    request.model_spec.name = str(spec.get("name", "shelfwise"))
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = str(spec["label"])
    request.output_filter.extend(spec.get("output_filter", []))
    return request


def _tensor(dtype: int, shape: list[int], **fields: object) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


REFUSALS = {
    "unknown model": (_request(name="other"), "NOT_FOUND", "Servable not found for request: Latest(other)"),
    "unknown version": (
        _request(version=7),
        "NOT_FOUND",
        "Servable not found for request: Specific(shelfwise, 7)",
    ),
    "version label": (
        _request(label="stable"),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: stable",
    ),
    "no model name": (_request(name=""), "INVALID_ARGUMENT", "ModelSpec has no name"),
    "no model spec": (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "unknown signature": (
        _request("classify"),
        "FAILED_PRECONDITION",
        'Serving signature key "classify" not found',
    ),
    "initialiser": (_request("__saved_model_init_op", {}), "FAILED_PRECONDITION", "not found"),
    "missing input": (_request(inputs={"k": [3]}), "INVALID_ARGUMENT", "Missing but required: {item_id}"),
    "unexpected input": (
        _request(inputs={**SIMILAR, "color": ["red"]}),
        "INVALID_ARGUMENT",
        "Sent extra: {color}",
    ),
    "wrong dtype": (
        _request(inputs={**SIMILAR, "k": [3.0]}),
        "INVALID_ARGUMENT",
        "input k to be int32 but got float32",
    ),
    "wrong rank": (
        _request(inputs={**SIMILAR, "item_id": [["100"]]}),
        "INVALID_ARGUMENT",
        "input item_id to have shape [?] but got [1, 1]",
    ),
    "content too short": (
        _request(inputs={**SIMILAR, "k": _tensor(types_pb2.DT_INT32, [1], tensor_content=b"abc")}),
        "INVALID_ARGUMENT",
        "tensor parsing error: k: tensor_content has 3 bytes",
    ),
    "string content": (
        _request(inputs={**SIMILAR, "item_id": _tensor(types_pb2.DT_STRING, [1], tensor_content=b"abc")}),
        "INVALID_ARGUMENT",
        "tensor parsing error: item_id",
    ),
    "huge shape": (
        _request(inputs={**SIMILAR, "item_id": _tensor(types_pb2.DT_STRING, [2**50], string_val=[b"1"])}),
        "INVALID_ARGUMENT",
        "tensor parsing error: item_id",
    ),
    "negative size": (
        _request(inputs={**SIMILAR, "item_id": _tensor(types_pb2.DT_STRING, [-1], string_val=[b"1"])}),
        "INVALID_ARGUMENT",
        "tensor parsing error: item_id",
    ),
    "unknown dtype": (
        _request(inputs={**SIMILAR, "k": _tensor(4242, [1], int_val=[1])}),
        "INVALID_ARGUMENT",
        "input k to be int32",
    ),
    "unknown output": (
        _request(output_filter=["price"]),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: price",
    ),
    "output twice": (
        _request(output_filter=["score", "score"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor",
    ),
    "batch sizes differ": (
        _request(
            "recommend",
            recommend_inputs([("100", 1.0)], exclude_item_id=[["1"], ["2"], ["3"]], category=[["a"]] * 2),
        ),
        "INVALID_ARGUMENT",
        "exclude_item_id [3, 1]",
    ),
    "not an example": (_request("serving_default", {"examples": [b"\xff\xff"]}), "INVALID_ARGUMENT", "parse"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_has_tf_serving_s_code_and_names_the_field(stubs: Stubs, case: str) -> None:
    request, code, text = REFUSALS[case]
    with pytest.raises(grpc.RpcError) as raised:
        stubs.prediction.Predict(request, timeout=20)
    assert raised.value.code().name == code, raised.value.details()
    assert text in raised.value.details()
    assert "\n" not in raised.value.details()
    assert len(stubs.predict("similar", SIMILAR).outputs["item_id"].string_val) == 3  # still serves


def test_bytes_that_are_no_request_do_not_end_the_server(stubs: Stubs) -> None:
    raw = stubs.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError):
        raw(b"\x0a\xff\xff\xff\xff\xff", timeout=20)
    assert stubs.healthy()


def test_calls_that_are_not_implemented_say_so(stubs: Stubs) -> None:
    calls = [
        (stubs.prediction.Classify, classification_pb2.ClassificationRequest()),
        (stubs.prediction.Regress, regression_pb2.RegressionRequest()),
        (stubs.prediction.MultiInference, inference_pb2.MultiInferenceRequest()),
    ]
    for call, request in calls:
        with pytest.raises(grpc.RpcError) as raised:
            call(request, timeout=20)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"metadata_field": []}, "INVALID_ARGUMENT", "at least one metadata_field"),
        ({"metadata_field": ["weights"]}, "INVALID_ARGUMENT", "Metadata field weights is not supported"),
        ({"metadata_field": ["signature_def"], "name": "other"}, "NOT_FOUND", "Latest(other)"),
        ({"metadata_field": ["signature_def"], "name": None}, "INVALID_ARGUMENT", "Missing ModelSpec"),
    ],
)
def test_metadata_refusals(stubs: Stubs, fields: dict, code: str, text: str) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields["metadata_field"])
    name = fields.get("name", "shelfwise")
    if name is not None:
        request.model_spec.name = name
    with pytest.raises(grpc.RpcError) as raised:
        stubs.prediction.GetModelMetadata(request, timeout=20)
    assert raised.value.code().name == code
    assert text in raised.value.details()


def test_status_refusals(stubs: Stubs) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
        stubs.model.GetModelStatus(request, timeout=20)
    request.model_spec.name = "other"
    with pytest.raises(grpc.RpcError, match="Could not find any versions of model other") as raised:
        stubs.model.GetModelStatus(request, timeout=20)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    request.model_spec.name = "shelfwise"
    request.model_spec.version.CopyFrom(wrappers_pb2.Int64Value(value=5))
    with pytest.raises(grpc.RpcError, match="Could not find version 5 of model shelfwise"):
        stubs.model.GetModelStatus(request, timeout=20)


def test_deadline_ends_the_call_and_the_server_goes_on(stubs: Stubs) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stubs.predict("busy", {"seconds": np.float64(4)}, timeout=0.2)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert stubs.predict("similar", SIMILAR).model_spec.version.value == 1


def refused_start(*flags: str) -> list[str]:
    """The lines on stderr of a server that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "serving.model_server", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "0",
            "GRPC_VERBOSITY": "NONE",
        },
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()


@pytest.mark.parametrize("host", ["", "192.0.2.1", "no.such.host.invalid"])
def test_port_in_use_or_foreign_host_is_one_line_and_status_1(
    server: Server, tmp_path: Path, host: str
) -> None:
    port = 0 if host else server.port
    lines = refused_start(f"--model_base_path={tmp_path}", f"--port={port}", f"--host={host}")
    wanted = f"--host: {host} is no name" if host else f"--port: {server.port} is in use"
    assert lines[-1].startswith(wanted)
    assert "Traceback" not in "".join(lines)


@pytest.mark.parametrize("flag", ["port_file", "rest_api_port_file"])
def test_a_port_file_that_cannot_be_written_is_one_line_and_status_1(flag: str, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "port"
    lines = refused_start(
        f"--model_base_path={tmp_path}", "--port=0", "--rest_api_port=-1", f"--{flag}={path}"
    )
    assert lines == [f"--{flag}: {path}: cannot be written (No such file or directory); give another path"]


@pytest.mark.slow
def test_a_unix_socket_and_the_profiler(
    start: Callable[..., Server], exports: dict[int, Path], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "1").symlink_to(exports[1])
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        profiler = probe.getsockname()[1]
    server = start(
        tmp_path / "models",
        f"--grpc_socket_path={tmp_path}/grpc.sock",
        f"--profiler_port={profiler}",
        "--prefer_tflite_model",
    ).wait_serving(1)
    server.wait_log("--prefer_tflite_model has no effect here")
    with grpc.insecure_channel(f"unix:{tmp_path}/grpc.sock") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(overlap_model.predict_request("similar", SIMILAR), timeout=60)
    assert answer.model_spec.version.value == 1
    stubs, traced = Stubs(server.port), threading.Event()

    def ask() -> None:
        while not traced.is_set():
            stubs.predict("similar", SIMILAR)

    with futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            tf.profiler.experimental.client.trace(
                f"grpc://localhost:{profiler}", str(tmp_path / "trace"), 500, num_tracing_attempts=20
            )
        finally:
            traced.set()
        asking.result()
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


# ---- a life: no model, broken, good, half-copied, new, drain


class Stream(threading.Thread):
    """Asks without pause; keeps what went wrong and which versions answered with which score."""

    def __init__(self, port: int, ask: tuple[str, dict], output: str) -> None:
        super().__init__(daemon=True)
        self.ask, self.output = ask, output
        self.stubs = Stubs(port)
        self.failures: list[str] = []
        self.answers: list[tuple[int, float]] = []
        self.halt = threading.Event()

    def run(self) -> None:
        while not self.halt.is_set():
            try:
                response = self.stubs.predict(*self.ask)
                value = tf.make_ndarray(response.outputs[self.output]).flat[0]
                self.answers.append((response.model_spec.version.value, value))
            except grpc.RpcError as error:
                self.failures.append(f"{error.code()} {error.details()}")

    def versions(self) -> set[int]:
        return {version for version, _ in self.answers}


@pytest.mark.slow
def test_versions_come_break_and_go_under_load(
    start: Callable[..., Server], exports: dict[int, Path], tmp_path: Path
) -> None:
    base = tmp_path / "models"
    (base / "1").mkdir(parents=True)
    (base / "1" / "saved_model.pb").write_bytes(b"\xffnot a SavedModel")
    server = start(base, "--shutdown_grace_seconds=600")
    stubs = Stubs(server.port)
    server.wait_log("version 1 does not serve")

    # Only a broken version: up, not healthy, says why, serves nothing.
    assert not stubs.healthy()
    broken = stubs.status()[1]
    assert broken.state == Status.END
    assert broken.status.error_code == grpc.StatusCode.DATA_LOSS.value[0]
    assert "saved_model.pb" in broken.status.error_message
    with pytest.raises(grpc.RpcError, match="Latest\\(shelfwise\\)"):
        stubs.predict("similar", SIMILAR)

    # Repaired in place, without a restart.
    shutil.rmtree(base / "1")
    shutil.copytree(exports[1], base / "1")
    server.wait_serving(1)
    assert stubs.healthy()

    recommend = ("recommend", recommend_inputs([("103", 0.0)], k=1))
    streams = [Stream(server.port, recommend, "score") for _ in range(2)]
    for stream in streams:
        stream.start()

    # Broken: variables cut short. Half-copied: no saved_model.pb. Neither serves.
    shutil.copytree(exports[2], base / "2")
    for part in (base / "2" / "variables").glob("variables.data*"):
        part.write_bytes(part.read_bytes()[:100])
    shutil.copytree(exports[2], base / "3", ignore=shutil.ignore_patterns("saved_model.pb"))
    server.wait_log("version 2 does not serve")
    server.wait_log("version 3 does not serve")
    time.sleep(0.7)  # more looks at the folder: no more lines
    log = server.log.read_text()
    assert log.count("version 2 does not serve") == 1
    assert log.count("version 3 does not serve") == 1
    status = stubs.status()
    assert {version: status[version].state for version in status} == {
        1: Status.AVAILABLE,
        2: Status.END,
        3: Status.END,
    }
    assert status[3].status.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert "no saved_model.pb" in status[3].status.error_message
    assert status[2].status.error_code != 0
    assert "cannot load" in status[2].status.error_message

    # Version 3, completed, takes over while long requests are running too.
    long = Stream(server.port, ("busy", {"seconds": np.float64(0.7)}), "rounds")
    long.start()
    streams.append(long)
    shutil.copy(exports[2] / "saved_model.pb", base / "3" / "saved_model.pb")
    server.wait_serving(3)
    wait_until(lambda: all(3 in stream.versions() for stream in streams), server)
    wait_until(lambda: stubs.status()[1].state == Status.END, server)
    for stream in streams:
        stream.halt.set()
        stream.join()

    assert [failure for stream in streams for failure in stream.failures] == []
    for stream in streams:
        assert stream.versions() == {1, 3}
        answered = [version for version, _ in stream.answers]
        assert answered == sorted(answered)  # one switch, no way back
    for stream in streams[:2]:
        for version, score in stream.answers:
            assert score == pytest.approx(1.043 + (1 if version == 3 else 0), abs=1e-4)

    # SIGTERM: watchers hear NOT_SERVING, what runs ends well, the exit status is 0.
    heard: list[int] = []
    watch = stubs.health.Watch(health_pb2.HealthCheckRequest())
    watcher = threading.Thread(target=lambda: _listen(watch, heard), daemon=True)
    watcher.start()
    wait_until(lambda: bool(heard), server)
    busy = overlap_model.predict_request("busy", {"seconds": np.float64(2)})
    waiting = [stubs.prediction.Predict.future(busy, timeout=60) for _ in range(3)]
    stubs.predict("similar", SIMILAR)  # came after them on the same connection: they are in work
    assert (
        server.terminate() == 0
    )  # within a minute: it does not wait for watchers, as the grace time would let it
    assert [answer.result().model_spec.version.value for answer in waiting] == [3, 3, 3]
    watcher.join(timeout=60)
    assert heard == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("localhost", server.port), timeout=5)


@pytest.mark.slow
def test_sigterm_ends_it_whichever_thread_the_kernel_gives_it_to(
    start: Callable[..., Server], exports: dict[int, Path]
) -> None:
    server = start(exports[1].parent)
    server.wait_serving(2)
    process = server.process.pid
    threads = [int(name) for name in os.listdir(f"/proc/{process}/task")]
    other = max(threads)
    assert other != process
    assert ctypes.CDLL(None, use_errno=True).tgkill(process, other, signal.SIGTERM) == 0
    assert server.process.wait(timeout=300) == 0


def _listen(watch: Iterator[health_pb2.HealthCheckResponse], heard: list[int]) -> None:
    with contextlib.suppress(grpc.RpcError):  # in the end the server has gone
        heard.extend(answer.status for answer in watch)
