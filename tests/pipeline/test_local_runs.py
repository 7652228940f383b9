"""Real TFX pipelines through the runner: first, cached, failed, killed and resumed runs."""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import record as run_record
from pipeline.report import history

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "pipeline" / "tiny_pipeline.py"
LINE = re.compile(r"(\d+)/9  (\w+) +([\d.]+ s|\d+ min \d\d s)(?:  (cached|failed)\b)? *(.*)")
INTERRUPTED = "error: interrupted; run the same command again to continue from here\n"
COMPONENTS = {"Rows", "CsvExampleGen", "StatisticsGen", "ImportSchemaGen", "ExampleValidator"} | {
    *("LatestSchema", "Fragile", "FunnelEvaluator", "Pusher")
}


class Shop:
    """A folder with data and a configuration, in which the tiny pipeline is run."""

    def __init__(self, folder):
        self.folder = folder
        self.run_dir = folder / "runs" / "tiny"
        (folder / "csv").mkdir()
        rows = [f"{i * 0.5},{('red', 'blue', '')[i % 3]}" for i in range(90)]
        (folder / "csv" / "items.csv").write_text("\n".join(["price,colour", *rows]) + "\n")
        (folder / "schema.pbtxt").write_text(
            'feature { name: "price" type: FLOAT presence { min_count: 1 } shape { dim { size: 1 } } }\n'
            'feature { name: "colour" type: BYTES presence { min_count: 1 } value_count { max: 1 } }\n'
        )
        (folder / "tiny.yaml").write_text(
            "name: tiny\n"
            "data: {root: .}\n"
            "events: {path: e.csv, columns: {user_id: u, item_id: i, timestamp: t}}\n"
            "items: {path: i.csv, item_id: i, text: [t]}\n"
        )

    def environment(self, **variables):
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TINY_CSV": str(self.folder / "csv"),
            "SHELFWISE_CONFIG": str(self.folder / "tiny.yaml"),
            "SHELFWISE_RUNS_DIR": str(self.folder / "runs"),
            "HOME": str(self.folder),
            "TF_NUM_INTRAOP_THREADS": "1",
            **variables,
        }

    def run(self, *argv, **variables):
        return subprocess.run(
            [sys.executable, str(SCRIPT), *argv],
            cwd=self.folder,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=1800,
        )

    def terminate(self, fault, with_a_second_run=False):
        """SIGTERM to a run inside Fragile: (a second run of the folder meanwhile, exit status, stderr)."""
        ready = self.folder / "ready"
        environment = self.environment(TINY_FAULT=fault, TINY_READY=str(ready))
        with subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                deadline = time.monotonic() + 300
                while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.2)
                second = self.run() if with_a_second_run else None
                assert second is None or f"(pid {process.pid})" in second.stderr
                process.send_signal(signal.SIGTERM)
                _, err = process.communicate(timeout=1800)
            finally:
                process.kill()
        return second, process.returncode, err

    def summary(self):
        return json.loads((self.run_dir / "summary.json").read_text())

    def executions(self):
        """(component, state) -> count, over all runs in the metadata store."""
        store = run_record.open_store(self.run_dir / "metadata.sqlite")
        nodes = (run_record.read_node(store, execution) for execution in store.get_executions())
        return collections.Counter((node.id, node.state) for node in nodes)

    def artifacts(self):
        store = run_record.open_store(self.run_dir / "metadata.sqlite")
        return collections.Counter(artifact.type for artifact in store.get_artifacts())


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def _lines(text):
    """component -> (state, what it found); asserts that nothing but the runner's lines was printed."""
    lines = text.splitlines()
    assert lines[0].startswith("pipeline tiny: loading TensorFlow and TFX; the full log is runs/tiny/run.log")
    found = {}
    for line in lines[1:]:
        match = LINE.fullmatch(line)
        if match:
            assert int(match[1]) == len(found) + 1
            found[match[2]] = (match[4] or "", match[5])
        else:
            assert re.match(
                r"(complete|failed|interrupted) after |ndcg@10 |funnel |popularity |model |report: ", line
            )
    return found


def test_first_cached_failed_killed_and_resumed_runs(shop):
    killed = shop.run(TINY_FAULT="kill")
    assert killed.returncode == -signal.SIGKILL
    assert "Fragile" not in _lines(killed.stdout)
    before = shop.executions()
    assert before["Fragile", "RUNNING"] == 1
    assert list(shop.run_dir.glob("artifacts/Fragile/model/*/half"))
    half_pushed = shop.run_dir / "serving" / "shelfwise" / "17"
    half_pushed.mkdir(parents=True)
    (half_pushed / "variables").write_text("half")
    staged = half_pushed.with_name(".18.part")  # copied, and not yet renamed
    staged.mkdir()
    (staged / "saved_model.pb").write_bytes(b"weights")

    failed = shop.run(TINY_FAULT="user_error")
    assert failed.returncode == 1
    assert failed.stderr == "error: rows.txt: row 7 has no item_id; fill it in or drop the row\n"
    lines = _lines(failed.stdout)
    assert lines["Rows"] == ("cached", "1,000 rows")
    assert lines["Fragile"][0] == "failed"
    states = shop.executions()
    assert states["Fragile", "RUNNING"] == 0
    assert states["Fragile", "CANCELED"] == 1
    assert states["Fragile", "FAILED"] == 1
    assert states["Rows", "CACHED"] == states["Rows", "COMPLETE"] == 1
    assert not list(shop.run_dir.glob("artifacts/Fragile/model/*/half"))
    assert list(half_pushed.parent.iterdir()) == []
    summary = shop.summary()
    assert (summary["state"], summary["error"]["component"]) == ("failed", "Fragile")
    assert summary["error"]["message"].startswith("rows.txt: row 7")
    assert {stage["name"] for stage in summary["stages"]} | set(summary["not_run"]) == COMPONENTS
    assert (summary["blessed"], summary["pushed_version"]) == (None, None)
    page = (shop.run_dir / "report.html").read_text()
    assert "Fragile stopped the run" in page
    assert "the run stopped at Fragile, before FunnelEvaluator" in page
    log = (shop.run_dir / "run.log").read_text()
    assert "Traceback (most recent call last)" in log
    for noise in ("print", "file descriptor 2", "a warning", "a logger"):
        assert f"noise from {noise}" in log

    resumed = shop.run()
    assert (resumed.returncode, resumed.stderr) == (0, "")
    lines = _lines(resumed.stdout)
    assert set(lines) == COMPONENTS
    assert lines["Rows"][0] == lines["CsvExampleGen"][0] == lines["LatestSchema"][0] == "cached"
    assert lines["Fragile"][0] == lines["Pusher"][0] == ""
    assert re.fullmatch(r"train \d+, eval \d+ examples; 2 features", lines["StatisticsGen"][1])
    assert lines["ExampleValidator"][1] == "no anomalies"
    assert lines["ImportSchemaGen"][1] == "2 features in the schema"
    assert lines["FunnelEvaluator"][1] == "blessed: ndcg@10 0.3000 against 0.2000"
    summary = shop.summary()
    assert (summary["state"], summary["blessed"]) == ("complete", True)
    version = shop.run_dir / "serving" / "shelfwise" / summary["pushed_version"]
    assert (version / "saved_model.pb").read_bytes() == b"weights"
    assert summary["metrics"]["funnel"]["novel"]["ndcg@10"] == 0.1
    assert summary["metrics"]["baselines"]["popularity"]["all"]["ndcg@10"] == 0.2
    assert 2e8 < summary["peak_memory_bytes"] < 8e9
    assert sum(stage["seconds"] for stage in summary["stages"]) < summary["total_seconds"]
    used = {stage["name"]: stage["processor_seconds"] for stage in summary["stages"]}
    assert max(used, key=used.get) == "StatisticsGen"  # the only one that works
    assert 0 < used["StatisticsGen"] < 600
    assert "error" not in summary
    states, artifacts = shop.executions(), shop.artifacts()
    assert states["Fragile", "COMPLETE"] == states["Pusher", "COMPLETE"] == 1

    cached = shop.run()
    assert (cached.returncode, cached.stderr) == (0, "")
    assert {state for state, _ in _lines(cached.stdout).values()} == {"cached"}
    after = shop.executions()
    new = after - states
    expected = {(name, "CACHED"): 1 for name in COMPONENTS - {"LatestSchema"}}
    assert new == {**expected, ("LatestSchema", "COMPLETE"): 1}  # a resolver is never CACHED in MLMD
    assert shop.artifacts() == artifacts
    assert [run.summary["state"] for run in history.runs(shop.run_dir)] == ["complete", "complete", "failed"]
    kept = {path.relative_to(shop.run_dir).parts[2:4] for path in shop.run_dir.glob("tensorboard/*/*/*/*")}
    assert kept == {("Fragile", "training"), ("Fragile", "held_out")}
    assert history.runs(shop.run_dir)[0].summary["configuration"]["items"]["text"] == ["t"]
    again = shop.summary()
    assert all(stage["cached"] for stage in again["stages"])
    for key in ("metrics", "blessed", "pushed_version", "versions"):
        assert again[key] == summary[key]
    assert [path.name for path in (shop.run_dir / "serving" / "shelfwise").iterdir()] == [
        summary["pushed_version"]
    ]
    page = (shop.run_dir / "report.html").read_text()
    (shop.run_dir / "report.html").unlink()
    command = [sys.executable, "-m", "pipeline.report.page", "--run", str(shop.run_dir)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (shop.run_dir / "report.html").read_text() == page


def test_crash_and_termination_leave_a_readable_record(shop):
    crashed = shop.run(TINY_FAULT="crash")
    assert crashed.returncode == 1
    message = "component Fragile failed: ValueError: first line of many; see runs/tiny/run.log"
    assert crashed.stderr == f"error: {message}\n"
    assert shop.summary()["error"] == {"message": message, "component": "Fragile"}

    second, returncode, err = shop.terminate("wait", with_a_second_run=True)
    assert second.returncode == 1
    assert re.fullmatch(r"error: .*another run .*\(pid \d+\).*\n", second.stderr)
    assert (returncode, err) == (143, INTERRUPTED)
    assert shop.summary()["state"] == "interrupted"
    assert shop.executions()["Fragile", "CANCELED"] == 1
    assert (shop.run_dir / "report.html").exists()


def test_a_termination_that_beam_wraps_is_an_interruption(shop):
    """Beam turns the signal's exception into a RuntimeError "... [while running ...]"."""
    _, returncode, err = shop.terminate("terminated_in_beam")
    assert "[while running" in (shop.run_dir / "run.log").read_text()
    assert (returncode, err) == (143, INTERRUPTED)
    summary = shop.summary()
    assert (summary["state"], summary["error"]["component"]) == ("interrupted", "Fragile")
    assert not list(shop.run_dir.glob("artifacts/Fragile/model/*/half"))


def test_tfx_command_line_names_what_is_wrong(shop):
    """What it does with a right pipeline is part of `tests/e2e`."""
    (shop.folder / "tiny.yaml").write_text("name: tiny\nunknown: 1\n")
    wrong = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("tfx")), "pipeline", "create", "--engine=local"),
            f"--pipeline_path={SCRIPT}",
        ],
        cwd=shop.folder,
        env=shop.environment(),
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert wrong.returncode != 0
    assert "unknown key 'unknown'" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert not shop.run_dir.exists()
