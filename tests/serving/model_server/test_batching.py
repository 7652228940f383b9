"""Dynamic batching: answers are those of unbatched requests, whoever shares the batch."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest

from serving.model_server.core import batching, predictor, servable
from serving.model_server.core.batching import Batching
from serving.model_server.core.errors import Code, StatusError
from serving.model_server.core.metrics import Metrics
from serving.model_server.process import config_files
from tests.serving import overlap_model
from tests.serving.process import Server
from tests.serving.stubs import Stubs


@pytest.fixture(scope="module")
def model(exports: dict[int, Path]) -> servable.Servable:
    return servable.load(str(exports[1]), 1)


class Recorder:
    """Runs signatures, and keeps how many rows each run had."""

    def __init__(self, model: servable.Servable, until: threading.Event | None = None) -> None:
        self.model, self.until = model, until
        self.runs: list[int] = []

    def __call__(self, *arguments: object) -> predictor.Arrays:
        inputs = arguments[2]
        self.runs.append(max((len(value) for value in inputs.values() if value.ndim), default=0))
        if self.until is not None:
            assert self.until.wait(60)
        return predictor.execute(*arguments)


def text(rows: list[list[str]]) -> np.ndarray:
    return np.array([[cell.encode() for cell in row] for row in rows], object)


def request(random_: random.Random, signature: str) -> dict[str, np.ndarray]:
    """A random request of 1 to 3 rows with inner sizes of its own."""
    rows = random_.randint(1, 3)

    def items(size: int) -> np.ndarray:
        return text([[random_.choice([*overlap_model.ITEMS, "unknown", ""]) for _ in range(size)]] * rows)

    def ks(choices: list[int]) -> np.ndarray:
        return np.array(random_.choices(choices, k=rows), np.int32)

    if signature == "similar_scalar":
        return {"item_id": items(1)[:, 0], "k": np.array(random_.choice([2, 7]), np.int32)}
    if signature == "similar":
        return {"item_id": items(1)[:, 0], "k": ks([0, 2, 7, 70])}
    size = random_.randint(1, 6)
    inputs = {
        "user_id": text([["1"]] * rows)[:, 0],
        "history_item_id": items(size),
        "history_age_days": np.array([[random_.random() * 9 for _ in range(size)]] * rows, np.float32),
        "history_event_type": items(size),
        "context_store_id": text([["1"]] * rows)[:, 0],
        "context_timestamp": np.zeros(rows, np.int64),
    }
    if signature == "recommend":
        inputs |= {
            "exclude_item_id": items(random_.randint(1, 4)),
            "k": ks([-1, 3, 60]),
        }
        inputs["category"] = text([["cat3"]] * rows) if random_.random() < 0.3 else text([[""]] * rows)
    if signature == "rank":
        inputs["candidate_item_id"] = items(random_.randint(1, 5))
    return inputs


def same(found: predictor.Arrays, wanted: predictor.Arrays) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("sizes", [(), (2, 8, 32)])
def test_batched_answers_equal_unbatched_ones(
    model: servable.Servable, seed: int, padding: bool, sizes: tuple[int, ...]
) -> None:
    random_ = random.Random(seed)
    signatures = ["recommend", "rank", "similar", "similar_scalar", "embed_user"]
    asked = [(signature, request(random_, signature)) for signature in random_.choices(signatures, k=80)]
    recorder = Recorder(model)
    batcher = batching.Batcher(
        Batching(
            32, 3000, num_batch_threads=2, allowed_batch_sizes=sizes, pad_variable_length_inputs=padding
        ),
        recorder,
        Metrics(),
    )
    with futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda one: batcher(model, one[0], one[1], time.monotonic() + 30), asked))
    for (signature, inputs), answer in zip(asked, answers, strict=True):
        same(answer, predictor.execute(model, signature, inputs))
    if sizes:
        assert set(recorder.runs) <= set(sizes)
    if padding:
        assert len(recorder.runs) < 70  # they did share


def test_padding_waits_until_the_outputs_sizes_are_understood(model: servable.Servable) -> None:
    recorder = Recorder(model)
    # Full with the last of the three, so that a busy machine does not take them apart.
    rows = sum(len(request(random.Random(size), "rank")["user_id"]) for size in (2, 3, 5))
    batcher = batching.Batcher(
        Batching(rows, 20_000_000, num_batch_threads=1, pad_variable_length_inputs=True), recorder, Metrics()
    )

    def ask(sizes: list[int]) -> list[predictor.Arrays]:
        def one(size: int) -> predictor.Arrays:
            inputs = request(random.Random(size), "rank")
            rows = len(inputs["user_id"])
            inputs["candidate_item_id"] = text([overlap_model.ITEMS[:size]] * rows)
            return batcher(model, "rank", inputs)

        with futures.ThreadPoolExecutor(len(sizes)) as pool:
            return list(pool.map(one, sizes))

    for _ in range(3):
        assert [answer["score"].shape[1] for answer in ask([2, 3, 5])] == [2, 3, 5]
    # The first round teaches by running apart; then they run together.
    assert len(recorder.runs) == 3 + 1 + 1


@pytest.mark.parametrize(("signature", "shape"), [("similar_scalar", ()), ("similar", (1,))])
def test_only_equal_scalars_share_and_numbers_as_soon_as_they_are_understood(
    model: servable.Servable, signature: str, shape: tuple[int, ...]
) -> None:
    recorder = Recorder(model)
    batcher = batching.Batcher(Batching(5, 1_000_000, num_batch_threads=1), recorder, Metrics())
    inputs = [{"item_id": text([["100"]])[0], "k": np.full(shape, k, np.int32)} for k in (2, 2, 3, 3, 3)]
    with futures.ThreadPoolExecutor(5) as pool:
        for runs in ([2, 3], [2, 3] if signature == "similar_scalar" else [5]):
            recorder.runs.clear()
            answers = list(pool.map(lambda one: batcher(model, signature, one), inputs))
            assert sorted(recorder.runs) == runs
    assert [answer["item_id"].shape for answer in answers] == [(1, 2), (1, 2), (1, 3), (1, 3), (1, 3)]


@pytest.mark.parametrize(("config", "count"), [(Batching(), 3), (Batching(num_batch_threads=2), 2)])
def test_a_batch_a_core_runs_at_a_time_unless_told(
    config: Batching, count: int, model: servable.Servable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching.os, "cpu_count", lambda: 3)
    before = set(threading.enumerate())
    batching.Batcher(config, Recorder(model), Metrics())
    started = sorted(thread.name for thread in set(threading.enumerate()) - before)
    assert started == [f"batch-{number}" for number in range(count)]


def test_batches_and_the_wait_of_each_of_their_requests_are_counted(model: servable.Servable) -> None:
    metrics = Metrics()
    # Full with the last of the three, so that a busy machine does not take them apart.
    batcher = batching.Batcher(Batching(3, 60_000_000, num_batch_threads=1), Recorder(model), metrics)
    inputs = {"item_id": text([["100"]])[0], "k": np.array([2], np.int32)}
    batcher(model, "similar", {name: value.repeat(3) for name, value in inputs.items()})  # full alone
    with futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: batcher(model, "similar", inputs), range(3)))
    page = metrics.page({}, 0).decode()
    of_batching = ":tensorflow:serving:batching_session:"
    assert f'{of_batching}queuing_latency_count{{thread_pool_name="batch"}} 4.0' in page
    assert f"{of_batching}processed_batch_size_count 2.0" in page
    assert f"{of_batching}processed_batch_size_sum 6.0" in page


def test_one_bad_request_spoils_only_itself(model: servable.Servable) -> None:
    batcher = batching.Batcher(Batching(8, 100_000, num_batch_threads=1), Recorder(model), Metrics())
    good = overlap_model.tf.train.Example()
    good.features.feature["candidate_item_id"].bytes_list.value.extend([b"100", b"149"])
    examples = [good.SerializeToString(), b"\xff\xff", good.SerializeToString()]

    def ask(example: bytes) -> object:
        try:
            return batcher(model, "serving_default", {"examples": np.array([example], object)})
        except StatusError as error:
            return error.code

    with futures.ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(ask, examples))
    assert answers[1] == Code.INVALID_ARGUMENT
    assert answers[0]["p_purchase"].shape == answers[2]["p_purchase"].shape == (1, 2)


def test_padding_does_not_make_a_wrong_request_right(model: servable.Servable) -> None:
    """A history with fewer ages than items is refused, also when a longer one is in the batch."""
    recorder = Recorder(model)
    batcher = batching.Batcher(
        Batching(3, 1_000_000, num_batch_threads=1, pad_variable_length_inputs=True), recorder, Metrics()
    )

    def ask(size: int, ages: int, candidates: int) -> predictor.Arrays:
        return batcher(
            model,
            "rank",
            {
                "user_id": text([["1"]])[0],
                "history_item_id": text([overlap_model.ITEMS[:size]]),
                "history_age_days": np.ones((1, ages), np.float32),
                "history_event_type": text([["view"] * size]),
                "context_store_id": text([["1"]])[0],
                "context_timestamp": np.zeros(1, np.int64),
                "candidate_item_id": text([overlap_model.ITEMS[:candidates]]),
            },
        )

    ask(4, 4, 4)
    ask(4, 4, 2)  # it was chance that there were as many candidates as events
    with futures.ThreadPoolExecutor(3) as pool:
        recorder.runs.clear()
        together = [pool.submit(ask, size, size, 3) for size in (2, 5, 4)]
        assert [future.result()["score"].shape for future in together] == [(1, 3)] * 3
        assert recorder.runs == [3]
        bad, good = pool.submit(ask, 3, 2, 3), pool.submit(ask, 5, 5, 3)
        with pytest.raises(StatusError) as raised:
            bad.result()
        assert raised.value.code == Code.INVALID_ARGUMENT
        assert good.result()["score"].shape == (1, 3)


def test_a_request_of_other_shapes_than_declared_runs_alone(model: servable.Servable) -> None:
    recorder = Recorder(model)
    waits = Batching(batch_timeout_micros=10**9, pad_variable_length_inputs=True)
    batcher = batching.Batcher(waits, recorder, Metrics())
    inputs = request(random.Random(1), "recommend")
    for value in (inputs["context_store_id"][:, None], inputs["context_store_id"][0]):
        # A batch would wait for company for a quarter of an hour.
        changed = {**inputs, "context_store_id": np.array(value, object)}
        batcher(model, "recommend", changed, time.monotonic() + 60)
    assert recorder.runs == [len(inputs["k"])] * 2


def test_signature_without_a_batch_dimension_runs_alone(model: servable.Servable) -> None:
    batcher = batching.Batcher(Batching(8, 0), Recorder(model), Metrics())
    assert batcher(model, "busy", {"seconds": np.array(0.0)})["rounds"].shape == ()


def test_deadline_in_the_queue_and_a_full_queue(model: servable.Servable) -> None:
    go_on = threading.Event()
    recorder = Recorder(model, go_on)
    batcher = batching.Batcher(
        Batching(1, 0, max_enqueued_batches=1, num_batch_threads=1), recorder, Metrics()
    )
    inputs = {"item_id": text([["100"]])[0], "k": np.array([1], np.int32)}
    first = threading.Thread(target=lambda: batcher(model, "similar", inputs))
    first.start()
    while not recorder.runs:  # its worker has taken it: the queue is empty
        time.sleep(0.01)
    with pytest.raises(StatusError) as raised:
        batcher(model, "similar", inputs, time.monotonic() + 0.1)
    assert raised.value.code == Code.DEADLINE_EXCEEDED
    assert first.is_alive()  # it was not waited for
    with pytest.raises(StatusError, match="queue .* is full") as raised:  # the late one still lies there
        batcher(model, "similar", inputs)
    assert raised.value.code == Code.UNAVAILABLE
    go_on.set()
    first.join()
    same(batcher(model, "similar", inputs), predictor.execute(model, "similar", inputs))
    assert len(recorder.runs) == 2  # nobody worked for the one who had left


# ---- the file


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("max_batch_size: 4", "tensorflow.serving.BatchingParameters: 1:17: "),
        ("max_batch_size { value: 0 }", "max_batch_size: 0 is too small"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]", "the last, 4, is not max_batch_size 8"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [4, 2, 8]", "do not increase"),
        ("num_batch_threads { value: 0 }", "num_batch_threads: 0"),
        ("unknown { value: 1 }", "unknown"),
        ("enable_large_batch_splitting { value: true }", "not split"),
    ],
)
def test_wrong_batching_file(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "batching.config"
    path.write_text(content)
    with pytest.raises(StatusError, match="batching.config: ") as raised:
        config_files.read_batching(str(path))
    assert reason in raised.value.message


def test_batching_file_as_tf_serving_s_guide_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "batching.config"
    path.write_text(
        "max_batch_size { value: 128 }\nbatch_timeout_micros { value: 0 }\n"
        "max_enqueued_batches { value: 1000000 }\nnum_batch_threads { value: 8 }\n"
        "pad_variable_length_inputs: true\nallowed_batch_sizes: 32\nallowed_batch_sizes: 128\n"
    )
    assert config_files.read_batching(str(path)) == Batching(128, 0, 1_000_000, 8, (32, 128), True)


# ---- the server


@pytest.mark.slow
def test_concurrent_clients_of_a_batching_server(
    start: Callable[..., Server], exports: dict[int, Path], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "1").symlink_to(exports[1])
    (tmp_path / "batching.config").write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 2000 } pad_variable_length_inputs: true"
    )
    server = start(
        tmp_path / "models",
        "--enable_batching",
        f"--batching_parameters_file={tmp_path}/batching.config",
        "--grpc_max_threads=16",
    ).wait_serving(1)
    stubs = Stubs(server.port)

    def ask(number: int) -> list[str]:
        response = stubs.predict("similar", {"item_id": [overlap_model.ITEMS[number]], "k": [2 + number % 2]})
        return [item.decode() for item in response.outputs["item_id"].string_val]

    with futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, list(range(10)) * 10))
    for number, answer in zip(list(range(10)) * 10, answers, strict=True):
        assert answer == [str(140 + number), str(130 + number), str(120 + number)][: 2 + number % 2]


def test_a_size_that_was_always_the_same_may_be_another_where_the_model_chooses(
    model: servable.Servable,
) -> None:
    """A `k` of 0 leaves the number to the model: 65 items in each run before do not make it 65."""
    recorder = Recorder(model)
    batcher = batching.Batcher(
        Batching(8, 100_000, num_batch_threads=1, pad_variable_length_inputs=True), recorder, Metrics()
    )
    asked = [
        {"item_id": text([["100"]] * len(ks))[:, 0], "k": np.array(ks, np.int32)} for ks in ([70], [7, 0])
    ]
    for inputs in (asked[0], asked[0]):
        batcher(model, "similar", inputs)
    with futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda inputs: batcher(model, "similar", inputs), asked))
    assert [answer["item_id"].shape[1] for answer in answers] == [65, 7]
