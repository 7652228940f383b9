"""Parts of the model server without a process: flags, tensors, versions, warm-up."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import model_pb2

from serving.model_server.core import errors, predictor, servable, tensors, warmup
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.version_manager import VersionManager
from serving.model_server.core.versions import Policy, State
from serving.model_server.grpc_api import prediction_service
from serving.model_server.process import flags, ports
from tests.serving import overlap_model

FLOATS = tensors.InputSpec("age", tf.float32, (None, 2))


def proto(dtype: int, shape: list[int], **fields: object) -> tensor_pb2.TensorProto:
    made = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


# ---- flags


def test_flags_are_those_of_tensorflow_model_server() -> None:
    config = flags.parse(
        [
            "--port=0",
            "--model_base_path",
            "/m",
            "--enable_model_warmup=false",
            "--file_system_poll_wait_seconds=5",
        ]
    )
    assert config.port == 0
    assert config.model_base_path == "/m"
    assert config.model_name == "shelfwise"
    assert config.enable_model_warmup is False
    assert config.file_system_poll_wait_seconds == 5
    assert config.grpc_max_threads == 4 * os.cpu_count()
    assert flags.parse(["--model_base_path=/m", "--enable_model_warmup"]).enable_model_warmup is True


@pytest.mark.parametrize(
    "flag",
    ["--port=70000", "--grpc_max_threads=0", "--file_system_poll_wait_seconds=-1", "--model_name=",
     "--tensorflow_intra_op_parallelism=-2", "--enable_model_warmup=perhaps", "--rest_api_port=70000",
     "--rest_api_port=-2", "--rest_api_port=8500",
     "--monitoring_config_file=m", "--batching_parameters_file=b", "--grpc_channel_arguments=a",
     "--profiler_port=70000", "--profiler_port=8500", "--use_alts_credentials", "--num_load_threads=many",
     "--prefer_tflite_model=perhaps", "--log_format=xml", "--max_request_bytes=0", "--max_json_bytes=0",
     "--max_rows=-1", "--max_filled_elements=-1", "--grpc_max_concurrent_rpcs=0",
     "--rest_api_max_connections=0", "--unknown_flag=1"],
)  # fmt: skip
def test_wrong_flag_is_named(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        flags.parse(["--model_base_path=/m", flag])
    assert stopped.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]  # before it, the usage lists every flag
    assert re.search(rf"error: (argument |unrecognized arguments: )?{flag.split('=')[0]}\b", error)


def test_flags_that_mean_nothing_here_are_accepted_and_named() -> None:
    given = [
        "--prefer_tflite_model", "--per_process_gpu_memory_fraction=0.5",
        "--tensorflow_session_parallelism=2", "--num_load_threads=4", "--saved_model_tags=serve",
        "--xla_cpu_compilation_enabled=true",
    ]  # fmt: skip
    config = flags.parse(["--model_base_path=/m", "--use_alts_credentials=false", *given])
    assert sorted(line.split()[0] for line in config.ignored) == sorted(flag.split("=")[0] for flag in given)
    assert all(" has no effect here: " in line for line in config.ignored)
    assert flags.parse(["--model_base_path=/m"]).ignored == ()


def test_a_host_is_ours_if_one_of_its_addresses_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ports.is_ours("")
    assert ports.is_ours("localhost")
    assert not ports.is_ours("192.0.2.1")
    stream = socket.SOCK_STREAM
    foreign = (socket.AF_INET, stream, 6, "", ("192.0.2.1", 0))
    ours = (socket.AF_INET, stream, 6, "", ("127.0.0.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [foreign, ours])
    assert ports.is_ours("both")


# ---- tensors


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -2.0]], np.float32),
        np.array([1e300]),
        np.array([[1, 2], [3, 2**31 - 1]], np.int32),
        np.array(-(2**62)),
        np.array([True, False]),
        np.array([[b"caf\xc3\xa9", b""]], object),
        np.zeros([0, 3], np.float32),
        np.array([1, 255], np.uint8),
        np.array([1.5, 2.5], np.float16),
        np.array([1 + 2j]),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
@pytest.mark.parametrize("as_content", [False, True])
def test_encode_and_decode_agree_with_tensorflow(array: np.ndarray, as_content: bool) -> None:
    value = tf.constant(array)
    encoded = tensors.encode(value.numpy(), value.dtype, as_content)
    np.testing.assert_array_equal(tf.make_ndarray(encoded), value.numpy())
    spec = tensors.InputSpec("x", value.dtype, tuple(None for _ in array.shape))
    decoded = tensors.decode(encoded, spec)
    assert tf.as_dtype(decoded.dtype) == value.dtype
    assert decoded.shape == value.shape
    np.testing.assert_array_equal(decoded, value.numpy())


def test_encode_fills_the_typed_field_unless_told_otherwise() -> None:
    value = np.array([1, 2], np.float32)
    assert list(tensors.encode(value, tf.float32).float_val) == [1.0, 2.0]
    assert (
        tensors.encode(value, tf.float32, as_content=True).tensor_content
        == np.array([1, 2], np.float32).tobytes()
    )


def test_one_value_fills_the_shape() -> None:
    decoded = tensors.decode(proto(types_pb2.DT_FLOAT, [2, 2], float_val=[7]), FLOATS)
    np.testing.assert_array_equal(decoded, np.full([2, 2], 7, np.float32))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (proto(types_pb2.DT_STRING, [1, 2], string_val=[b"1", b"2"]), "to be float32 but got string"),
        (proto(types_pb2.DT_INVALID, [1, 2]), "to be float32"),
        (proto(999, [1, 2]), "to be float32"),
        (proto(types_pb2.DT_FLOAT, [-1, 2], float_val=[1, 2]), "negative"),
        (proto(types_pb2.DT_FLOAT, [1, 2], tensor_content=b"12345"), "5 bytes, shape .* needs 8"),
        (proto(types_pb2.DT_FLOAT, [1, 2], float_val=[1, 2, 3]), "3 values do not fit"),
        (proto(types_pb2.DT_FLOAT, [2**40, 2], float_val=[1]), "only 1 values"),
        (proto(types_pb2.DT_FLOAT, [2**62, 2], float_val=[1]), "only 1 values"),
        (proto(types_pb2.DT_FLOAT, [2**62, 2], tensor_content=b""), "only 0 values"),
    ],
)
def test_malformed_tensor_names_the_input(bad: tensor_pb2.TensorProto, reason: str) -> None:
    with pytest.raises(StatusError, match=reason) as raised:
        tensors.decode(bad, FLOATS)
    assert raised.value.code == Code.INVALID_ARGUMENT
    assert "age" in raised.value.message


def test_unknown_rank_and_string_content_are_refused() -> None:
    unknown = proto(types_pb2.DT_FLOAT, [], float_val=[1])
    unknown.tensor_shape.unknown_rank = True
    with pytest.raises(StatusError, match="age: its shape has an unknown rank"):
        tensors.decode(unknown, FLOATS)
    with pytest.raises(StatusError, match="user: strings come in string_val"):
        tensors.decode(
            proto(types_pb2.DT_STRING, [1], tensor_content=b"abc"),
            tensors.InputSpec("user", tf.string, (None,)),
        )


# ---- servable, predictor, warm-up


@pytest.fixture(scope="module")
def loaded(exports: dict[int, Path]) -> servable.Servable:
    return servable.load(str(exports[1]), 1)


def test_expired_deadline_starts_no_work(loaded: servable.Servable) -> None:
    request = overlap_model.predict_request("busy", {"seconds": np.float64(5)})
    with pytest.raises(StatusError, match="the deadline passed before the work began") as raised:
        predictor.run(loaded, request, deadline=time.monotonic() - 0.1)
    assert raised.value.code == Code.DEADLINE_EXCEEDED


def test_a_call_without_a_deadline_has_none() -> None:
    found: list[float | None] = []

    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        found.append(prediction_service.deadline(context))
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"m": handler}),))
    port = server.add_insecure_port("localhost:0")
    server.start()
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        channel.unary_unary("/s/m")(b"")
        channel.unary_unary("/s/m")(b"", timeout=100)
    server.stop(None)
    assert found[0] is None
    assert 50 < found[1] - time.monotonic() < 110  # gRPC rounds it up on its way


def test_an_export_of_tensorflow_1_has_no_functions_and_serves(tmp_path: Path) -> None:
    v1, folder = tf.compat.v1, str(tmp_path / "1")
    with v1.Graph().as_default(), v1.Session() as session:
        asked = v1.placeholder(tf.float32, [None])
        weight = v1.get_variable("weight", initializer=3.0, use_resource=True)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, folder, {"x": asked}, {"y": asked * weight})
    loaded = servable.load(folder, 1)
    answer = loaded.signatures["serving_default"].run({"x": np.asarray([1, 2], np.float32)})
    assert answer["y"].tolist() == [3, 6]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("inter_op", [-1, 0])
def test_loops_and_conditions_run_whichever_executor_runs_them(
    inter_op: int, old: bool, tmp_path: Path
) -> None:
    v1, folder = tf.compat.v1, str(tmp_path / "1")

    def steps(values: tf.Tensor, weight: tf.Variable) -> tf.Tensor:
        _, total = tf.while_loop(
            lambda step, _: step < 3,
            lambda step, total: (
                step + 1,
                total + tf.cond(step > 0, lambda: 2 * values, lambda: values + weight),
            ),
            [tf.constant(0), values],
        )
        return total

    if old:
        v1.disable_control_flow_v2()
        try:
            with v1.Graph().as_default() as graph, v1.Session() as session:
                asked = v1.placeholder(tf.float32, [None, 2])
                weight = v1.get_variable("weight", initializer=[1.0, 10.0], use_resource=True)
                total = steps(asked, weight)
                session.run(v1.global_variables_initializer())
                v1.saved_model.simple_save(session, folder, {"values": asked}, {"total": total})
        finally:
            v1.enable_control_flow_v2()
        assert any(node.op == "Merge" for node in graph.as_graph_def().node)
    else:
        module = tf.Module()
        module.weight = tf.Variable([1.0, 10.0])
        function = tf.function(lambda values: {"total": steps(values, module.weight)}, autograph=False)
        spec = tf.TensorSpec([None, 2], tf.float32, "values")
        tf.saved_model.save(module, folder, {"serving_default": function.get_concrete_function(spec)})
    loaded = servable.load(folder, 1, inter_op=inter_op)
    values = np.arange(4, dtype=np.float32).reshape(2, 2)
    found = loaded.signatures["serving_default"].run({"values": values})
    np.testing.assert_array_equal(found["total"], 6 * values + [1, 10])


def test_warm_up_runs_the_recorded_requests(loaded: servable.Servable) -> None:
    assert warmup.warm_up(loaded) == 2


@pytest.mark.parametrize(
    ("requests", "code"),
    [
        ([("similar", {"item_id": ["1"]})], Code.INVALID_ARGUMENT),
        ([("nothing", {})], Code.FAILED_PRECONDITION),
    ],
)
def test_failing_warm_up_names_the_record(
    loaded: servable.Servable, tmp_path: Path, requests: list, code: Code
) -> None:
    overlap_model.write_warmup(str(tmp_path), requests)
    with pytest.raises(StatusError, match="tf_serving_warmup_requests record 1") as raised:
        warmup.warm_up(servable.Servable(1, str(tmp_path), loaded.signatures, loaded.signature_defs, None))
    assert raised.value.code == code


def test_warm_up_file_that_is_no_tfrecord(loaded: servable.Servable, tmp_path: Path) -> None:
    overlap_model.write_warmup(str(tmp_path), [])
    (tmp_path / warmup.WARMUP_FILE).write_bytes(b"not a record file at all")
    with pytest.raises(StatusError, match="not a TFRecord file") as raised:
        warmup.warm_up(servable.Servable(1, str(tmp_path), loaded.signatures, loaded.signature_defs, None))
    assert raised.value.code == Code.DATA_LOSS


def test_graph_error_is_one_readable_line(loaded: servable.Servable) -> None:
    request = overlap_model.predict_request(
        "embed_user",
        {
            "user_id": ["1"],
            "history_item_id": [["100"], ["101"]],
            "history_age_days": [[0.0], [0.0], [0.0]],
            "history_event_type": [[""]],
            "context_store_id": [""],
            "context_timestamp": np.array([0], np.int64),
        },
    )
    with pytest.raises(StatusError, match=r"history_age_days \[3, 1\]") as raised:
        predictor.run(loaded, request)
    assert raised.value.code == Code.INVALID_ARGUMENT
    assert "\n" not in raised.value.message
    assert "{{" not in raised.value.message


def test_every_tensorflow_code_has_its_number() -> None:
    for number in range(1, 17):
        error = tf.compat.v1.errors.exception_type_from_error_code(number)(None, None, "why")
        assert errors.from_tensorflow(error).code == number


# ---- version manager


def spec(**fields: object) -> model_pb2.ModelSpec:
    made = model_pb2.ModelSpec(name="shelfwise")
    for name, value in fields.items():
        if name == "version":
            made.version.value = value
        else:
            setattr(made, name, value)
    return made


@pytest.fixture
def manager(tmp_path: Path) -> VersionManager:
    return VersionManager("shelfwise", str(tmp_path), servable.load)


def states(manager: VersionManager) -> dict[int, tuple[State, Code]]:
    return {status.version: (status.state, status.code) for status in manager.statuses(spec())}


def current(manager: VersionManager) -> int:
    with manager.lease(spec()) as leased:
        return leased.version


def test_versions_compare_as_numbers_and_other_names_do_not_count(
    manager: VersionManager, exports: dict[int, Path], tmp_path: Path
) -> None:
    for name in ("9", "10", "latest", "11.partial", "-12"):
        shutil.copytree(exports[1], tmp_path / name)
    (tmp_path / "99").write_text("a file, not a folder")
    manager.poll()
    assert current(manager) == 10
    assert states(manager) == {10: (State.AVAILABLE, Code.OK)}


def test_old_version_is_kept_until_its_requests_end(
    manager: VersionManager, exports: dict[int, Path], tmp_path: Path
) -> None:
    shutil.copytree(exports[1], tmp_path / "1")
    manager.poll()
    with manager.lease(spec()) as old:
        shutil.copytree(exports[2], tmp_path / "2")
        manager.poll()  # sees the files
        manager.poll()  # sees that they did not change
        assert current(manager) == 2
        assert states(manager)[1][0] == State.UNLOADING
        with pytest.raises(StatusError) as raised, manager.lease(spec(version=1)):
            pass
        assert raised.value.code == Code.NOT_FOUND
        response = predictor.run(
            old, overlap_model.predict_request("similar", {"item_id": ["100"], "k": [1]})
        )
        assert response.model_spec.version.value == 1
    manager._drop_drained()
    assert states(manager) == {1: (State.END, Code.OK), 2: (State.AVAILABLE, Code.OK)}


def test_removed_version_falls_back_and_an_emptied_folder_goes_on_serving(
    manager: VersionManager, exports: dict[int, Path], tmp_path: Path
) -> None:
    for version in (1, 2):
        shutil.copytree(exports[version], tmp_path / str(version))
    manager.poll()
    assert current(manager) == 2
    shutil.rmtree(tmp_path / "2")
    manager.poll()
    assert current(manager) == 1
    shutil.rmtree(tmp_path / "1")
    manager.poll()
    assert current(manager) == 1


def test_a_look_that_fails_unloads_nothing(exports: dict[int, Path], tmp_path: Path) -> None:
    """Neither a folder that cannot be listed says that versions are gone, nor one that is not mounted."""
    base = tmp_path / "models"
    for version in (1, 2):
        shutil.copytree(exports[version], base / str(version))
    manager = VersionManager("shelfwise", str(base), servable.load, policy=Policy(latest=2))
    manager.poll()
    assert manager.available() == [2, 1]
    base.rename(tmp_path / "away")
    manager.poll()
    assert manager.available() == [2, 1]
    base.mkdir()
    manager.poll()
    assert manager.available() == [2, 1]
    base.rmdir()
    (tmp_path / "away").rename(base)
    with manager.lease(spec(version=1)) as before:
        manager.poll()
        with manager.lease(spec(version=1)) as after:
            assert after is before  # nothing was loaded again
    shutil.rmtree(base / "1")
    manager.poll()
    assert manager.available() == [2]


def test_a_number_above_int64_is_no_version(
    manager: VersionManager, exports: dict[int, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    largest = 2**63 - 1
    shutil.copytree(exports[1], tmp_path / str(largest))
    for number in (largest + 1, 20261127123456789012, 10**200):
        shutil.copytree(exports[2], tmp_path / str(number))
    manager.poll()
    manager.poll()
    assert current(manager) == largest
    assert states(manager) == {largest: (State.AVAILABLE, Code.OK)}
    lines = [record.getMessage() for record in caplog.records if "is ignored" in record.getMessage()]
    assert len(lines) == 3
    assert f"{tmp_path / str(largest + 1)} is ignored: no version is above {largest}" in lines


def test_whatever_one_version_raises_is_its_own_failure(exports: dict[int, Path], tmp_path: Path) -> None:
    for version in (1, 2):
        shutil.copytree(exports[version], tmp_path / str(version))
    tries = []

    def load(path: str, version: int) -> servable.Servable:
        tries.append(version)
        if version == 2:
            raise ValueError("Value out of range\nof something")
        return servable.load(path, version)

    manager = VersionManager("shelfwise", str(tmp_path), load)
    for _ in range(3):
        manager.poll()
    assert current(manager) == 1
    assert states(manager)[2] == (State.END, Code.INTERNAL)
    assert "/2: ValueError: Value out of range of something" in manager.statuses(spec())[0].message
    assert tries == [2, 1]  # not again while its files are the same


def test_a_version_that_changed_while_it_was_loaded_does_not_serve(
    exports: dict[int, Path], tmp_path: Path
) -> None:
    """The graph may be from before the change and the variables from after it."""
    shutil.copytree(exports[1], tmp_path / "1")
    shutil.copytree(exports[2], tmp_path / "2")
    copying = [True]

    def load(path: str, version: int) -> servable.Servable:
        loaded = servable.load(path, version)
        if version == 2 and copying:
            (Path(path) / "variables" / "late").write_text("x")
            copying.clear()
        return loaded

    manager = VersionManager("shelfwise", str(tmp_path), load)
    manager.poll()
    assert manager.available() == [1]
    assert states(manager)[2] == (State.END, Code.UNAVAILABLE)
    assert "changed while it was loaded" in manager.statuses(spec())[0].message
    manager.poll()  # sees the new file
    manager.poll()  # sees that it stays as it is
    assert manager.available() == [2]


def test_a_version_forgotten_while_requests_use_it_ends_with_them(
    manager: VersionManager, exports: dict[int, Path], tmp_path: Path
) -> None:
    for version in (1, 2):
        shutil.copytree(exports[version], tmp_path / str(version))
    manager.poll()
    with manager.lease(spec()) as old:
        assert old.version == 2
        shutil.rmtree(tmp_path / "2")
        manager.poll()
        (tmp_path / "2").mkdir()  # comes back broken
        manager.poll()
        manager.poll()
        assert states(manager)[2] == (State.END, Code.NOT_FOUND)
        (tmp_path / "2").rmdir()
        manager.poll()
        assert 2 not in states(manager)
    manager.poll()
    assert states(manager) == {1: (State.AVAILABLE, Code.OK)}
    assert not manager._draining


def test_a_base_path_that_is_a_version_is_named(
    exports: dict[int, Path], caplog: pytest.LogCaptureFixture
) -> None:
    manager = VersionManager("shelfwise", str(exports[1]), servable.load)
    manager.poll()
    text = f"{exports[1]} is itself a version's folder, with saved_model.pb; give the folder that holds it"
    assert text in caplog.text
    assert text in manager.describe_failures()


def test_files_that_still_change_are_not_loaded(
    manager: VersionManager, exports: dict[int, Path], tmp_path: Path
) -> None:
    shutil.copytree(exports[1], tmp_path / "1")
    manager.poll()
    shutil.copytree(exports[2], tmp_path / "2")
    for growth in range(3):
        (tmp_path / "2" / "assets" / "words.txt").write_text("x" * growth)
        manager.poll()
        assert current(manager) == 1
    manager.poll()
    assert current(manager) == 2


def test_before_the_first_look_the_model_is_unavailable_not_unknown(manager: VersionManager) -> None:
    with pytest.raises(StatusError) as raised, manager.lease(spec()):
        pass
    assert raised.value.code == Code.UNAVAILABLE
    manager.poll()
    with pytest.raises(StatusError) as raised, manager.lease(spec()):
        pass
    assert raised.value.code == Code.NOT_FOUND
    label = pytest.raises(StatusError, match="Unrecognized servable version label: canary")
    with label as raised, manager.lease(spec(version_label="canary")):
        pass
    assert raised.value.code == Code.INVALID_ARGUMENT


def test_version_whose_warm_up_answers_are_not_numbers_never_serves(
    exports: dict[int, Path], tmp_path: Path
) -> None:
    shutil.copytree(exports[1], tmp_path / "1")
    shutil.copytree(exports[2], tmp_path / "2")
    history = {
        "user_id": ["1"],
        "history_item_id": [["100"]],
        "history_age_days": [[-1.0]],  # its weight is 1 / (1 - 1)
        "history_event_type": [["view"]],
        "context_store_id": ["1"],
        "context_timestamp": np.zeros(1, np.int64),
    }
    overlap_model.write_warmup(str(tmp_path / "2"), [("embed_user", history)])

    def load(path: str, version: int) -> servable.Servable:
        loaded = servable.load(path, version)
        warmup.warm_up(loaded)
        return loaded

    manager = VersionManager("shelfwise", str(tmp_path), load)
    manager.poll()
    assert current(manager) == 1
    assert states(manager)[2] == (State.END, Code.INTERNAL)
    assert "record 1: output embedding of signature embed_user" in manager.statuses(spec())[0].message
