"""serving.client and its command line against the real server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schema.events import Event, UserState
from serving import client as cli
from serving.client import (
    AsyncClient,
    Client,
    FoundItem,
    Recommendation,
    RequestError,
    ServerError,
    ServerUnavailable,
    Suggestion,
)
from serving.client.command import main
from tests.serving import overlap_model
from tests.serving.process import ROOT, Server

HISTORY = [("103", 4.0), ("113", 1.0), ("107", 0.5)]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, timeout=20) as made:
        yield made


def best(history: list[tuple[str, float]], k: int) -> list[str]:
    return [
        overlap_model.ITEMS[place] for place in np.argsort(-overlap_model.expected_scores(history, 0))[:k]
    ]


def test_recommend_fills_in_what_is_not_given(client: Client) -> None:
    results = client.recommend(UserState("1", [Event(*one) for one in HISTORY]), k=4)
    assert [row.item_id for row in results] == best(HISTORY, 4)
    assert [row.rank for row in results] == [1, 2, 3, 4]
    place = overlap_model.ITEMS.index(results[0].item_id)
    assert results[0] == Recommendation(
        1,
        overlap_model.ITEMS[place],
        overlap_model.TEXTS[place],
        pytest.approx(float(overlap_model.expected_scores(HISTORY, 0)[place])),
        "overlap",
        f"Group {overlap_model.GROUPS[place]} is yours",
    )
    assert [row.item_id for row in client.recommend(k=2)] == ["149", "148"]


def test_filters_exclusions_and_fewer_results_than_asked(client: Client) -> None:
    results = client.recommend("1", category=["cat3"], exclude_item_id=["103", "143"], k=10)
    assert [row.item_id for row in results] == ["133", "123", "113"]
    assert len(client.recommend("1", k=80)) == 50


def test_search_gives_what_was_found_and_what_was_made_of_the_query(client: Client) -> None:
    user = UserState("1", [Event(*one) for one in HISTORY])
    result = client.search("café 3", user, k=3)
    ranked = [item for item in best(HISTORY, 50) if item[-1] == "3"]
    assert [item.item_id for item in result.items] == ranked[:3]
    assert result.total == len(ranked)
    place = overlap_model.ITEMS.index(ranked[0])
    assert result.items[0] == FoundItem(
        1,
        ranked[0],
        overlap_model.TEXTS[place],
        pytest.approx(float(overlap_model.expected_scores(HISTORY, 0)[place])),
        "words",
        "Group 3 is yours",
        pytest.approx(place / 100),
    )
    assert (result.notice, result.relaxed, result.relaxed_query) == ("", False, "café 3")
    assert result.facets == {"category": {"cat0": 5, "cat1": 2}}
    assert (result.categories, result.brands) == ({"cat0": 0.75}, {})
    assert result.price_range == (None, None)


def test_search_passes_filters_and_sort_on(client: Client) -> None:
    dearest = client.search("product", category=["cat0", "cat3"], max_price=0.3, sort="price_desc", k=50)
    assert [item.item_id for item in dearest.items] == ["130", "123", "120", "113", "110", "103"]
    assert dearest.price_range == (None, pytest.approx(0.3))
    unknown = client.search("product 100")
    assert [(item.item_id, item.price) for item in unknown.items] == [("100", None)]
    with pytest.raises(RequestError, match="brand: signature 'search' of the model has no such input"):
        client.search("product", brand=["acme"])


def test_an_empty_page_says_why(client: Client) -> None:
    result = client.search("bicycle")
    assert (list(result.items), result.total, result.relaxed) == ([], 0, True)
    assert result.notice == "Nothing has bicycle"


def test_suggest_gives_as_many_as_are_asked_for(client: Client) -> None:
    assert client.suggest("tea", "1") == [
        Suggestion("tea", 3),
        Suggestion("teas", 2),
        Suggestion("tea set", 1),
    ]
    assert client.suggest("tea", k=1) == [Suggestion("tea", 3)]


def test_context_names_come_with_or_without_prefix(client: Client) -> None:
    for context in ({"store_id": "4", "timestamp": 1}, {"context_store_id": "4"}):
        assert len(client.recommend(UserState("1", context=context), k=1)) == 1
    with pytest.raises(
        RequestError, match="context 'device' is unknown to the model; it knows store_id, timestamp"
    ):
        client.recommend(UserState("1", context={"device": "phone"}))


def test_the_other_signatures(client: Client) -> None:
    similar = client.similar("103", k=4)
    assert [row.item_id for row in similar] == ["143", "133", "123", "113"]
    ranked = client.rank("1", ["149", "100", "nothing"])
    assert [row.item_id for row in ranked] == ["149", "100", "nothing"]
    assert ranked[0].score == pytest.approx(0.049)
    assert ranked[0].p_purchase == pytest.approx(1 / (1 + np.exp(-0.049)))
    explained = client.explain(UserState("1", [Event("103", 1.0)]), ["149", "103"])
    assert [row.item_id for row in explained] == ["149", "103"]
    assert explained[0].attribution == {"history": 0, "popularity": pytest.approx(0.049)}
    for row in explained:
        assert sum(row.attribution.values()) == pytest.approx(row.log_odds - row.baseline, abs=1e-6)
    assert explained[1].attribution["history"] == pytest.approx(0.5)
    assert explained[1].features == {"popularity": pytest.approx(0.003)}
    assert len(client.embed_text("organic milk")) == 384
    assert np.linalg.norm(client.embed_text("organic milk")) == pytest.approx(1, abs=1e-5)
    assert client.embed_item("107").index(1.0) == 7
    assert len(client.embed_user("1")) == 64


def test_metadata_and_status(client: Client) -> None:
    found = client.metadata()
    assert (found.name, found.version) == ("shelfwise", 1)
    assert found.signatures["recommend"].inputs["k"] == cli.TensorInfo("DT_INT32", (None,))
    assert found.signatures["recommend"].inputs["history_age_days"] == cli.TensorInfo(
        "DT_FLOAT", (None, None)
    )
    assert "__saved_model_init_op" not in found.signatures
    assert client.status() == [cli.VersionStatus(1, "AVAILABLE", "OK", "")]


def test_server_s_refusal_keeps_its_code(server: Server) -> None:
    with (
        Client(server.address, "other") as other,
        pytest.raises(ServerError, match="Latest\\(other\\)") as raised,
    ):
        other.recommend("1")
    assert raised.value.code == "NOT_FOUND"
    with Client(server.address, version=9) as other, pytest.raises(ServerError, match="Specific") as raised:
        other.metadata()
    assert raised.value.code == "NOT_FOUND"


def test_nobody_listens_on_the_port() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("localhost", 0))
        address = f"localhost:{placeholder.getsockname()[1]}"
        with (
            Client(address, initial_backoff=0.05, max_attempts=3) as client,
            pytest.raises(ServerUnavailable) as raised,
        ):
            client.recommend("1")
    assert address in str(raised.value)
    assert "python -m serving.model_server" in str(raised.value)


def test_time_that_went_by_between_failed_connections_is_no_late_answer() -> None:
    with (
        Client("localhost:1", timeout=0.5, initial_backoff=20, max_backoff=20) as client,
        pytest.raises(ServerUnavailable),
    ):
        client.recommend("1")

    async def ask() -> None:
        async with AsyncClient("localhost:1", timeout=0.5, wait_for_ready=True) as client:
            await client.recommend("1")

    with pytest.raises(ServerUnavailable, match="no model server answers at localhost:1"):
        asyncio.run(ask())


def test_deadline_names_the_time() -> None:
    with socket.socket() as silent:  # takes connections, never says a word
        silent.bind(("localhost", 0))
        silent.listen()
        address = f"localhost:{silent.getsockname()[1]}"
        with Client(address, timeout=0.5) as client, pytest.raises(ServerError) as raised:
            client.status()
    assert raised.value.code == "DEADLINE_EXCEEDED"
    assert f"{address} did not answer within 0.5 s" in str(raised.value)


@pytest.mark.slow
def test_retries_until_a_late_server_is_up_and_follows_a_new_version(
    start: Callable[..., Server], exports: dict[int, Path], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # The pauses between the 5 attempts, a minute in all, are for the time in which the model is loaded.
    with Client(
        f"localhost:{port}", timeout=300, wait_for_ready=True, initial_backoff=4, max_backoff=32
    ) as patient:
        with futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(patient.recommend, "1", k=1)
            time.sleep(0.5)
            assert not waiting.done()
            shutil.copytree(exports[1], tmp_path / "1")
            server = start(tmp_path, f"--port={port}")
            assert waiting.result(timeout=300)[0].score == pytest.approx(0.049)
        shutil.copytree(exports[2], tmp_path / "2")
        server.wait_serving(2)
        assert patient.recommend("1", k=1)[0].score == pytest.approx(1.049)
        assert server.terminate() == 0


def test_tls(exports: dict[int, Path], tmp_path: Path) -> None:
    """The client's TLS against the service's own classes behind a secure port."""
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    from serving.model_server.core import servable
    from serving.model_server.core.metrics import Metrics
    from serving.model_server.core.version_manager import VersionManager
    from serving.model_server.grpc_api.prediction_service import PredictionService

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    shutil.copytree(exports[1], tmp_path / "models" / "1")
    manager = VersionManager("shelfwise", str(tmp_path / "models"), servable.load)
    manager.poll()
    with futures.ThreadPoolExecutor(2) as pool:
        secure = grpc.server(pool)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(manager, Metrics()), secure
        )
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
        address = f"localhost:{secure.add_secure_port('localhost:0', credentials)}"
        secure.start()
        try:
            with Client(address, tls=True, root_certificates=certificate.read_bytes()) as trusting:
                assert trusting.similar("100", k=1)[0].item_id == "140"
            with Client(address, tls=True, max_attempts=1) as wary, pytest.raises(ServerUnavailable):
                wary.similar("100", k=1)
        finally:
            secure.stop(None).wait()


# ---- command line


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two runs; the newer one knows user 7."""
    for place, (run, user) in enumerate((("old", "8"), ("new", "7"))):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True)
        table = pa.table(
            {
                "user_id": [user],
                "history_item_id": [[item for item, _ in HISTORY]],
                "history_age_days": [[age for _, age in HISTORY]],
                "history_event_type": [["purchase"] * len(HISTORY)],
                "context_store_id": ["4"],
            }
        )
        pq.write_table(table, folder / "histories.parquet")
        os.utime(folder / "histories.parquet", (1000 + place, 1000 + place))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(server: Server, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main([*arguments, "--address", server.address])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.mark.slow
def test_command_line_prints_a_table_from_the_user_s_history(server: Server, shop: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "serving.client",
            "recommend",
            "--user",
            "7",
            "--k",
            "3",
            "--address",
            server.address,
        ],
        cwd=shop,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["rank", "item", "product", "score", "source", "reason"]
    assert [row.split()[1] for row in rows] == best(HISTORY, 3)
    assert rows[0].split()[0] == "1"
    assert "of café" in rows[0]
    assert "overlap" in rows[0]
    assert rows[0].endswith("is yours")


def test_json_and_explicit_events_in_any_order(
    server: Server, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(
        server, capsys, "recommend", "--user", "7", "--event", "105:2", "--event", "106:9:view",
        "--event", "105", "--context", "store_id=3", "--exclude", "145", "--k", "2", "--json",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert [row["item_id"] for row in json.loads(out)] == ["135", "125"]
    assert set(json.loads(out)[0]) == {"rank", "item_id", "item_text", "score", "source", "reason"}


def test_user_without_history_is_said_on_stderr(
    server: Server, shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = run(server, capsys, "recommend", "--user", "8", "--k", "1", "--json")
    assert status == 0
    assert json.loads(out)[0]["item_id"] == "149"
    assert err == "note: user 8 is not in runs/new/histories.parquet; the request goes without history\n"
    status, out, err = run(
        server,
        capsys,
        "recommend",
        "--user",
        "8",
        "--histories",
        "runs/old/histories.parquet",
        "--k",
        "1",
        "--json",
    )
    assert (status, err) == (0, "")
    assert json.loads(out)[0]["item_id"] == best(HISTORY, 1)[0]
    monkeypatch.chdir(shop / "runs")
    status, _, err = run(server, capsys, "recommend", "--user", "7", "--k", "1")
    assert status == 0
    assert err == "note: no runs/*/histories.parquet here; the request goes without history\n"


def test_command_line_searches(server: Server, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = (
        "search",
        "product 11",
        "--category",
        "cat5",
        "--max_price",
        "0.3",
        "--sort",
        "price",
        "--k",
        "2",
    )
    status, out, err = run(server, capsys, *asked)
    assert (status, err) == (0, "")
    head, row, total, facets = (line.split() for line in out.splitlines())
    assert head == ["rank", "item", "product", "price", "score", "source", "reason"]
    assert row[:2] == ["1", "115"]
    assert "0.15" in row
    assert total == ["1", "items", "match"]
    assert facets == ["category:", "cat0", "(1),", "cat1", "(0)"]
    status, out, _ = run(server, capsys, *asked, "--json")
    assert json.loads(out)["items"][0]["price"] == pytest.approx(0.15)
    status, out, err = run(server, capsys, "search", "bicycle")
    assert out.splitlines()[0] == "Nothing has bicycle"
    assert "no results" in err
    status, out, _ = run(server, capsys, "suggest", "tea", "--user", "7", "--k", "2")
    assert [line.split() for line in out.splitlines()[1:]] == [["tea", "3.0000"], ["teas", "2.0000"]]


def test_the_other_commands(server: Server, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(server, capsys, "similar", "--item", "103", "--k", "2")
    assert (status, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["143", "133"]
    status, out, err = run(server, capsys, "rank", "--user", "7", "--candidates", "101,103", "117")
    assert (status, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()[1:]] == [
        "103",
        "117",
        "101",
    ]
    status, out, err = run(server, capsys, "explain", "--event", "103:1", "--candidates", "103,149")
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["item", "log_odds", "baseline", "history", "popularity"],
        ["103", "0.503", "0.000", "+0.500", "+0.003"],
        ["149", "0.049", "0.000", "+0.000", "+0.049"],
    ]
    status, out, _ = run(server, capsys, "embed-text", "oat milk", "--json")
    assert status == 0
    assert len(json.loads(out)) == 384
    status, out, _ = run(server, capsys, "status")
    assert status == 0
    assert out.splitlines()[1].split() == ["1", "AVAILABLE", "OK"]
    status, out, _ = run(server, capsys, "metadata", "--json")
    assert status == 0
    assert json.loads(out)["signatures"]["similar"]["inputs"]["k"] == {
        "dtype": "DT_INT32",
        "shape": [None],
    }
    status, out, _ = run(server, capsys, "metadata")
    assert status == 0
    assert out.startswith("shelfwise version 1\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "--model", "other"], "NOT_FOUND: Could not find any versions of model other"),
        (["recommend", "--context", "device=phone"], "context 'device' is unknown to the model"),
        (["similar", "--item", "1", "--version", "4"], "Specific(shelfwise, 4)"),
    ],
)
def test_error_is_one_line_and_status_1(
    server: Server, shop: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, out, err = run(server, capsys, *arguments)
    assert status == 1
    assert out == ""
    assert err.startswith("serving.client: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_server_not_reachable_is_one_line_that_says_how_to_start_it(shop: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving.client", "status", "--address", "localhost:1", "--timeout", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "localhost:1" in done.stderr
    assert "python -m serving.model_server" in done.stderr
    assert done.stderr.count("\n") == 1
