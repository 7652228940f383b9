"""A real server says whether a model can be served."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components.common import artifacts
from components.infra_validator import executor
from schema.config import InfraValidation
from serving.model_server.core import servable
from tests.shops import tiny_shop

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow
SETTINGS = InfraValidation(rounds=2)


def export(folder, result=None, module=None):
    """A SavedModel whose signature `serving_default` gives `result`, with one warm-up request.

    With `module`, the signature is its function `answer`.
    """
    if module is None:
        module = tf.Module()
        module.answer = tf.function(
            lambda x: {"y": tf.cast(x, tf.float32)[:, None] * 0 + result},
            input_signature=[tf.TensorSpec([None], tf.int32, "x")],
        )
    tf.saved_model.save(module, str(folder), signatures=module.answer)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "shelfwise", "serving_default"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1, 2], tf.int32))
    os.makedirs(folder / "assets.extra")
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(prediction_log_pb2.PredictionLog(predict_log={"request": request}).SerializeToString())
    return str(folder)


def test_the_servable_passes():
    folder = artifacts.model_folder(tiny_shop.built().servable)
    passed, found = executor.validate(folder, SETTINGS)
    assert passed, found
    assert found.startswith("40 requests answered over gRPC as by the graph, median ")


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (tf.constant([[float("nan")]]), "not finite"),
        (tf.zeros([2, 0]), "signature serving_default: output 'y' is empty"),
    ],
)
def test_answers_that_are_not_sound(tmp_path, result, reason):
    passed, found = executor.validate(export(tmp_path / "model", result), SETTINGS)
    assert not passed
    assert reason in found


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("notice", [""], None),  # nothing to tell
        ("intent_brand", ["", ""], None),
        ("item_text", ["", ""], "output 'item_text' has no text"),
        ("price", [2.0, 1.0], None),  # two items of one score have changed places
        ("score", [0.91, 0.5], None),
        ("score", [0.7, 0.5], "output 'score' differs from the graph's by 0.2"),
        ("price", [np.nan, 1.0], "output 'price' is not finite"),
    ],
)
def test_a_search_may_have_nothing_to_say_and_may_round(tmp_path, name, value, reason):
    own = {"notice": [""], "intent_brand": ["", ""], "item_text": ["a", "b"]}
    own |= {"price": [1.0, 2.0], "score": [0.9, 0.5]}
    module = tf.Module()
    module.answer = tf.function(
        lambda x: {key: tf.constant(content) for key, content in own.items()},
        input_signature=[tf.TensorSpec([None], tf.int32, "x")],
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"search": module.answer})
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "search"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1], tf.int32))
    answer = {key: tf.constant(content).numpy() for key, content in (own | {name: value}).items()}
    refused = pytest.raises(executor._Refused, match=reason) if reason else contextlib.nullcontext()
    with refused:
        executor._check_answers(str(tmp_path), [request], [answer])


@pytest.mark.parametrize("broken", ["graph", "variables"])
def test_a_model_that_cannot_be_loaded_is_refused_at_once(tmp_path, broken):
    folder = tmp_path / "model"
    if broken == "graph":
        export(folder, tf.ones([1, 1]))
        (folder / "saved_model.pb").write_bytes(b"not a graph")
    else:
        shutil.copytree(artifacts.model_folder(tiny_shop.text_encoder()[0]), folder)
        shutil.copytree(
            os.path.join(artifacts.model_folder(tiny_shop.built().servable), "assets.extra"),
            folder / "assets.extra",
        )
        (folder / "variables" / "variables.index").unlink()
    passed, reason = executor.validate(str(folder), SETTINGS)
    assert not passed
    assert "the model server did not serve the model" in reason
    assert "not available after" not in reason  # the server says so; nobody waits until time is up
    assert "\n" not in reason


def test_a_model_without_requests_is_not_blessed(tmp_path):
    passed, reason = executor.validate(str(tmp_path), SETTINGS)
    assert not passed
    assert "no warm-up requests" in reason


class Counting(tf.Module):
    """Answers differently each time, as no servable may."""

    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "x")])
    def answer(self, x):
        return {"y": tf.fill(tf.shape(x), self.calls.assign_add(1.0))}


def test_answers_that_are_not_the_graph_s_are_refused(tmp_path):
    module = Counting()
    passed, reason = executor.validate(export(tmp_path / "model", module=module), SETTINGS)
    assert not passed
    assert reason == "signature serving_default: output 'y' differs from the graph's by 1"


def stand_in(path, *lines, **settings):
    """A program with TensorFlow Serving's command line, in place of its binary."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return InfraValidation(server="tensorflow_serving", binary=str(path), **settings)


_FAULT = """
import dataclasses
from serving.model_server.core import servable

real = servable._signature

def wrong(session, found):
    one = real(session, found)
    return dataclasses.replace(one, run=lambda inputs: {k: v + 1 for k, v in one.run(inputs).items()})

servable._signature = wrong
"""


def test_a_fault_of_the_server_s_loader_is_seen(tmp_path, monkeypatch):
    """It is in this process too, where the graph's own answers come from."""
    start = "import sys\nfrom serving.model_server.process import main\nsys.exit(main.main())\n"
    (tmp_path / "server.py").write_text(_FAULT + start)
    settings = stand_in(tmp_path / "server.sh", f'exec {sys.executable} {tmp_path}/server.py "$@"')
    monkeypatch.setattr(servable, "_signature", servable._signature)  # puts it back
    exec(_FAULT, {})
    passed, reason = executor.validate(export(tmp_path / "model", tf.ones([1, 1])), settings)
    assert not passed
    assert reason == "signature serving_default: output 'y' differs from the graph's by 1"


class Burning(tf.Module):
    """Takes a core for a while; always gives the same."""

    def __init__(self, rounds):
        super().__init__()
        self.rounds = tf.constant(rounds)
        self.matrix = tf.Variable(tf.linalg.qr(tf.random.stateless_normal([128, 128], [1, 2]))[0])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "x")])
    def answer(self, x):
        row = tf.ones([1, 128])
        for _ in tf.range(self.rounds):
            row = tf.matmul(row, self.matrix)  # keeps its length: an orthogonal matrix
        return {"y": tf.repeat(row, tf.size(x), axis=0)}


def burning(milliseconds):
    """(module, milliseconds of processor time that a call takes), about what is asked for or more."""
    rounds = 1000
    while True:
        module = Burning(rounds)
        module.answer(tf.constant([1]))  # is traced
        times = []
        for _ in range(5):  # the least: other threads of this process count too
            started = time.process_time()
            module.answer(tf.constant([1]))
            times.append((time.process_time() - started) * 1000)
        took = min(times)
        if took > milliseconds:
            return module, took
        rounds *= 2


@contextlib.contextmanager
def busy_machine():
    """Three processes on each core that want all of it."""
    command = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(command) for _ in range(3 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@pytest.fixture
def busy_while_it_is_measured(monkeypatch):
    """Not while servers start: that would take minutes of both cores and show nothing."""
    monkeypatch.setattr(executor, "_latencies", busy_machine()(executor._latencies))


@pytest.mark.usefixtures("busy_while_it_is_measured")
def test_a_good_model_passes_on_a_busy_machine_and_a_slow_one_does_not(tmp_path):
    """What a request costs counts, not how long others kept the processor from it."""
    module, milliseconds = burning(60)
    folder = export(tmp_path / "model", module=module)
    passed, found = executor.validate(folder, InfraValidation(max_p99_ms=3 * milliseconds, rounds=8))
    assert passed, found
    passed, reason = executor.validate(folder, InfraValidation(max_p99_ms=milliseconds / 4, rounds=8))
    assert not passed
    wall, cpu = re.match(
        r"signature serving_default: p99 ([\d.]+) ms, ([\d.]+) ms of processor time, over \d+ requests, ",
        reason,
    ).groups()
    assert float(wall) > milliseconds / 4
    assert float(cpu) > milliseconds / 4


def test_measures_again_before_it_refuses():
    """Only what was too slow, and the best measurement counts."""
    requests = [predict_pb2.PredictRequest() for _ in range(2)]
    for request, name in zip(requests, ["fast", "slow"], strict=True):
        request.model_spec.signature_name = name
    measured, took = [], iter([0.0, 0.3, 0.3, 0.05])

    def predict(request, timeout):
        measured.append(request.model_spec.signature_name)
        end = time.process_time() + next(took)
        while time.process_time() < end:
            pass

    settings = InfraValidation(max_p99_ms=150, rounds=1)
    found = executor._latencies(predict, requests, psutil.Process(), settings)
    assert measured == ["fast", "slow", "slow", "slow"]
    assert found["slow"].judged < 150


def test_another_server_by_its_binary_that_is_right_but_slow(tmp_path):
    """Our server under another name: only the flags and the protocol of TensorFlow Serving are used."""
    flags = tmp_path / "flags"
    settings = stand_in(
        tmp_path / "tensorflow_model_server",
        f'echo "$@" > {flags}',
        # no exec: the processor time is that of the program's child
        f'{sys.executable} -m serving.model_server "$@" & server=$!',
        'trap "kill $server" TERM; wait $server',
        max_p99_ms=10,
        rounds=5,
    )
    module, _ = burning(60)
    passed, reason = executor.validate(export(tmp_path / "model", module=module), settings)
    assert not passed
    assert reason.startswith("signature serving_default: p99 ")
    assert " over 5 requests, above infra_validator.max_p99_ms 10; " in reason
    given = [flag.split("=")[0] for flag in flags.read_text().split()]
    assert given == ["--port", "--model_name", "--model_base_path"]


def test_a_binary_that_does_not_run_says_so(tmp_path):
    folder = export(tmp_path / "model", tf.ones([1, 1]))
    settings = InfraValidation(server="tensorflow_serving", binary=str(tmp_path / "none"))
    passed, reason = executor.validate(folder, settings)
    assert not passed
    assert reason.startswith(f"infra_validator.binary: {tmp_path}/none cannot be started (No such file")
    settings = stand_in(
        tmp_path / "broken", "echo libtensorflow.so: cannot open shared object file >&2", "exit 127"
    )
    passed, reason = executor.validate(folder, settings)
    assert not passed
    assert "it ended with status 127: libtensorflow.so: cannot open shared object file" in reason


def test_a_killed_run_leaves_no_folder(tmp_path):
    """Nor a server: the guard that ends it removes what the validator would have removed."""
    found = tmp_path / "flags"
    settings = stand_in(
        tmp_path / "server.sh",
        "until cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q \"guard.py $$ \"",
        "do sleep .02; done",
        f'echo "$@" > {found}.part; mv {found}.part {found}; exec sleep 600',
    )
    code = (
        "import sys\nfrom components.infra_validator import executor\n"
        "from schema.config import InfraValidation\n"
        "settings = InfraValidation.model_validate_json(sys.argv[2])\n"
        "with executor.model_server(sys.argv[1], settings): pass"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model"), settings.model_dump_json()]
    with subprocess.Popen(command, cwd=ROOT) as run:
        try:
            wait_for(found.exists, run)
        finally:
            run.kill()
    (base,) = (flag.partition("=")[2] for flag in found.read_text().split() if "base_path" in flag)
    wait_for(lambda: not os.path.exists(base))


def wait_for(condition, process=None):
    while not condition():  # the test's time limit is what ends this
        assert process is None or process.poll() is None
        time.sleep(0.02)


def test_a_vector_may_differ_by_the_rounding_of_bfloat16_and_no_more():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(2, 384)).astype(np.float32)
    own /= np.linalg.norm(own, axis=-1, keepdims=True)
    rounded = own * (1 + rng.uniform(-(2**-8), 2**-8, own.shape).astype(np.float32))
    assert executor._equal("embed_item", "embedding", rounded, own)
    wrong = own.copy()
    wrong[1] = own[0]  # one row of the batch is another's
    assert not executor._equal("embed_item", "embedding", wrong, own)
    assert not executor._equal("embed_item", "embedding", own * 1.05, own)
    assert not executor._equal("rank", "score", np.float32([0.5, 0.02]), np.float32([0.5, 0.01]))
