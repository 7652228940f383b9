"""The demo's own half: what it passes on, the server it starts, and what it shows."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import demo
from schema import config as config_lib

ROOT = Path(__file__).resolve().parents[2]


def test_choose_takes_a_middling_a_long_and_a_short_history():
    rows = {f"u{length}": {"history_item_id": ["i"] * length} for length in range(101)}
    assert demo._choose(rows) == ["u50", "u95", "u5"]
    assert demo._choose({"a": {"history_item_id": []}}) == ["a"]
    assert demo._choose({}) == []


def test_arguments_are_passed_on():
    arguments = [
        "--sample",
        "20",
        "--name",
        "x",
        "--set",
        "a.b=1",
        "--set",
        "c=2",
        "--runs-dir",
        "r",
        "--config",
        "f",
    ]
    args = demo._parser().parse_args([*arguments, "--users", "1", "2", "--k", "3"])
    assert sorted(demo._runner_arguments(args)) == sorted(arguments)
    assert (args.users, args.k) == (["1", "2"], 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], ["make", "serve"]),
        (["--runs-dir", "elsewhere"], ["-m", "pipeline.serve", "--config", "C", "--runs-dir", "elsewhere"]),
    ],
)
def test_the_demo_ends_with_the_command_that_serves_its_run(arguments, said, monkeypatch):
    monkeypatch.chdir(demo.child.ROOT)
    config = str(demo.runner.DEFAULT_CONFIG)
    args = demo._parser().parse_args(["--config", config, *arguments])
    assert [part.replace(config, "C") for part in demo._shop(args)][-len(said) :] == said


@pytest.mark.parametrize(
    ("groups", "word"),
    [
        ([["Whole milk", "Skim MILK", "milk milk"], ["goat milk", "blue cheese", "soft cheese"]], "milk"),
        ([["tea 500", "black bread"], ["white bread"]], "bread"),  # short words and numbers are none
        ([["red wine", "dry wine", "dark beer"], ["beer"]], "beer"),
        ([["red wine", "dry wine"], []], "wine"),  # nothing in common
        ([[]], ""),
    ],
)
def test_the_demo_searches_for_a_word_that_both_bought(groups, word):
    assert demo._common_word(groups) == word


def run_demo(*arguments, cwd):
    command = [sys.executable, "-m", "pipeline.demo", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1800)


def test_wrong_configuration_ends_with_one_line(tmp_path):
    result = run_demo("--config", "missing.yaml", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: missing.yaml: cannot be read")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_status_of_a_failed_step_is_handed_on(capfd):
    with pytest.raises(demo.StepFailed, match="the step ended with status 7") as caught:
        demo._run([sys.executable, "-c", "raise SystemExit(7)"], "the step")
    assert caught.value.status == 7
    with pytest.raises(demo.StepFailed) as caught:
        demo._run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "the step")
    assert caught.value.status == 137  # as a shell says it
    assert "$ " in capfd.readouterr().out


def test_interrupt_waits_for_the_step_to_tidy_up(tmp_path):
    """Ctrl-C reaches the whole group: the step ends in its own time, then the demo does."""
    step = "import time\ntry:\n open('begun', 'w'); time.sleep(90)\n"
    step += "except KeyboardInterrupt:\n time.sleep(1); open('tidy', 'w')"
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from pipeline import demo
try:
    demo._run([sys.executable, "-c", {step!r}], "step")
except KeyboardInterrupt:
    sys.exit(130)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert (tmp_path / "tidy").exists()


@pytest.fixture
def run_dir(tmp_path):
    """A run's folder with a served version, histories and a summary; the catalogue beside it."""
    from tests.serving import overlap_model

    overlap_model.export(str(tmp_path / "serving" / "shelfwise" / "3"), boost=0.0)
    history = {
        "user_id": ["7", "8"],
        "history_item_id": [["101", "111", "103"], []],
        "history_age_days": [[30.0, 20.0, 2.4], []],
        "history_event_type": [["purchase"] * 3, []],
        "context_store_id": ["1", "2"],
    }
    pq.write_table(pa.table(history), tmp_path / "histories.parquet")
    items = {"product_id": [101, 103, 111], "name": ["Tea", "Honey", None], "pack": ["1 lb", None, "2 oz"]}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    metrics = {"funnel": {"all": {"ndcg@10": 0.5}, "novel": {"ndcg@10": 0.25}}, "baselines": {}}
    stages = [{"name": "Pusher", "seconds": 1.0, "cached": False}]
    summary = {
        "state": "complete", "total_seconds": 61.0, "stages": stages, "not_run": [], "metrics": metrics,
        "peak_memory_bytes": 2**30, "blessed": True, "pushed_version": "3",
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    return tmp_path


@pytest.fixture
def shop(run_dir):
    return config_lib.Config.model_validate(
        {
            "name": "shop",
            "data": {"root": str(run_dir)},
            "events": {"path": "e", "columns": {"user_id": "u", "item_id": "i", "timestamp": "t"}},
            "items": {"path": "items.parquet", "item_id": "product_id", "text": ["name", "pack"]},
        }
    )


def _servers() -> set[psutil.Process]:
    """The model servers that this process started, those of other tests too."""
    return {child for child in psutil.Process().children() if "serving.model_server" in child.cmdline()}


@pytest.mark.slow
def test_serves_asks_and_stops(run_dir, shop, capfd):
    args = argparse.Namespace(users=["7", "8"], k=4, query="product")
    base_path = run_dir / "serving" / "shelfwise"
    others = _servers()
    with demo._server(base_path, run_dir / "server.log") as port:
        [server] = _servers() - others
        asked = demo._ask(shop, run_dir, port, args)
    assert not server.is_running()
    demo._close(run_dir, base_path, asked, ["make", "serve"], time.monotonic() - 125)
    shown = capfd.readouterr().out
    assert f"serving shelfwise version 3 on port {port}" in shown
    lines = shown.splitlines()
    place = lines.index("user 7: 3 past events, the latest 3:")
    assert [line.split() for line in lines[place + 1 : place + 4]] == [
        ["2", "days", "ago", "103", "Honey"],
        ["20", "days", "ago", "111", "2", "oz"],
        ["30", "days", "ago", "101", "Tea", "1", "lb"],
    ]
    tables = [line for line in lines if line.split()[:2] == ["rank", "item"]]
    assert len(tables) == 5  # two recommendations; a search by both users and by a stranger
    assert sum(bool(re.match(r" *[1-4] +1\d\d +Product ", line)) for line in lines) == 20
    searches = [line for line in lines if line.startswith("$ ") and " search product " in line]
    assert ["--user" in line for line in searches] == [True, True, False]
    assert [line.split("serving.client ")[1] for line in lines[-8:-5]] == [
        "recommend --user 8",
        "search product",
        "suggest pr",
    ]
    assert any(line.split() == ["funnel", "0.5000", "0.2500"] for line in lines)
    assert f"report: {run_dir}/report.html" in lines
    assert lines[-4:-2] == ["Be a shopper (pages and API at http://localhost:8080/):", "  make serve"]
    assert lines[-1] == "demo done in 2 min 05 s"


@pytest.mark.slow
def test_server_is_stopped_when_a_client_fails(run_dir, shop):
    args = argparse.Namespace(users=["nobody"], k=4, query=None)
    others = _servers()
    with (
        pytest.raises(demo.StepFailed, match="--users nobody: is not in .*give one of"),
        demo._server(run_dir / "serving" / "shelfwise", run_dir / "server.log") as port,
    ):
        demo._ask(shop, run_dir, port, args)
    assert _servers() <= others


def test_server_that_cannot_start_says_why(tmp_path):
    program = [sys.executable, "-c", "raise SystemExit('no port')"]
    with (
        pytest.raises(demo.StepFailed, match=r"ended with status 1: no port \(all of it in"),
        demo._server(tmp_path, tmp_path / "server.log", program),
    ):
        pass
