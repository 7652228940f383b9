"""The runner's arguments, its one-line errors and its lock; no TFX."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.report import summary as run_summary
from pipeline.run import command as runner
from pipeline.run import execution
from pipeline.run.lock import lock
from schema.errors import ConfigError, DataError, UserError

ROOT = Path(__file__).resolve().parents[2]


def _load(*argv):
    return runner.load_config(runner.parser().parse_args([*argv]))


def test_defaults_come_from_the_environment(monkeypatch, tmp_path):
    for name in ("SHELFWISE_CONFIG", "SHELFWISE_SAMPLE", "SHELFWISE_RUNS_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert _load().name == "complete_journey"
    assert _load().data.sample_users is None
    own = tmp_path / "own.yaml"
    own.write_text(runner.DEFAULT_CONFIG.read_text().replace("name: complete_journey", "name: own_shop"))
    monkeypatch.setenv("SHELFWISE_CONFIG", str(own))
    monkeypatch.setenv("SHELFWISE_SAMPLE", "77")
    monkeypatch.setenv("SHELFWISE_RUNS_DIR", "elsewhere")
    assert (_load().name, _load().data.sample_users) == ("own_shop", 77)
    assert runner.parser().parse_args([]).runs_dir == "elsewhere"
    assert _load("--sample", "5").data.sample_users == 5


def test_settings_replace_values_of_the_configuration():
    config = _load(
        "--set",
        "retrieval.epochs=2",
        "--set",
        "ranking.hidden=[32, 16]",
        "--set",
        "split.end=null",
        "--name",
        "small",
    )
    assert (config.retrieval.epochs, config.ranking.hidden, config.split.end) == (2, [32, 16], None)
    assert config.name == "small"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--set", "retrieval.epochs"], r"--set retrieval\.epochs: expected key\.path=value"),
        (["--set", "=3"], r"--set =3: expected key\.path=value"),
        (["--set", "a..b=3"], r"--set a\.\.b=3: expected key\.path=value"),
        (["--set", "retrieval.epochs=[1"], r"--set .*'\[1' is not a valid YAML value"),
        (["--set", "candidates={trending: 1, trending: 2}"], r"--set .*'trending' is given twice"),
        (["--set", "retrieval.epoch=3"], r"unknown key 'retrieval\.epoch'"),
        (["--set", "retrieval.epochs=many"], r"retrieval\.epochs"),
        (["--set", "name.x=1"], r"name\.x"),
        (["--sample", "some"], r"--sample some: expected a number of users"),
        (["--sample", "0"], r"data\.sample_users"),
        (["--name", "Not A Name"], r"name"),
        (["--config", "/nowhere/shop.yaml"], r"/nowhere/shop\.yaml: cannot be read"),
    ],
)
def test_wrong_arguments_are_one_line(argv, message, capsys):
    with pytest.raises(ConfigError, match=message):
        _load(*argv)
    assert runner.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: .*\n", err)


def test_unknown_option_is_one_line_and_status_1(capsys):
    with pytest.raises(SystemExit) as stop:
        runner.main(["--no-such-option"])
    assert stop.value.code == 1
    assert re.fullmatch(r"error: .*--no-such-option.*\n", capsys.readouterr().err)


def test_runs_dir_that_cannot_be_created(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert runner.main(["--runs-dir", str(tmp_path / "file")]) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(r"error: .*/file/complete_journey: cannot be created .*--runs-dir\n", err)


def test_help_is_fast():
    """It imports neither TensorFlow nor TFX, which takes 15 seconds."""
    command = [sys.executable, "-X", "importtime", "-m", "pipeline.local_runner", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--sample" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pipeline.run.command" in imported
    assert not imported & {"tensorflow", "tfx", "apache_beam", "ml_metadata", "numpy"}


def test_second_run_of_a_folder_is_refused(tmp_path):
    run_dir = tmp_path / "complete_journey"
    run_dir.mkdir()
    run_dir.chmod(0o755)  # as an earlier release left it
    holder = (
        "import sys, pathlib; from pipeline.run.lock import lock\n"
        "with lock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(run_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            command = [sys.executable, "-m", "pipeline.local_runner", "--runs-dir", str(tmp_path)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 1
            assert re.fullmatch(rf"error: .*another run .*\(pid {process.pid}\).*\n", done.stderr)
            assert done.stdout == ""
            # Nothing of the run that holds the folder was touched.
            assert sorted(os.listdir(run_dir)) == [".lock"]
            assert stat.S_IMODE(run_dir.stat().st_mode) == 0o750  # but for who may read it
        finally:
            process.kill()
    with lock(run_dir):  # the kernel dropped the killed holder's lock
        assert (run_dir / ".lock").read_text() == f"{os.getpid()}\n"


class ComponentError(Exception):
    """As dag_runner.ComponentError, without importing TFX."""

    component = "RetrievalTrainer"


def _caused(cause):
    error = ComponentError(str(cause))
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (_caused(DataError("row 7 has no item_id; drop it")), "row 7 has no item_id; drop it"),
        (
            _caused(ValueError("bad\nsecond")),
            "component RetrievalTrainer failed: ValueError: bad; see runs/x/run.log",
        ),
        (
            _caused(RuntimeError("Traceback (most recent call last):\n  File\nKeyError: 'user_id'\n")),
            "component RetrievalTrainer failed: RuntimeError: KeyError: 'user_id'; see runs/x/run.log",
        ),
        (
            _caused(RuntimeError("x\npipeline.errors.UserError: t.csv: no column a [while running 'Read']")),
            "t.csv: no column a",
        ),
        (
            ComponentError("its inputs cannot be resolved"),
            "component RetrievalTrainer failed: its inputs cannot be resolved; see runs/x/run.log",
        ),
        (MemoryError(), "MemoryError; see runs/x/run.log"),
        (UserError("top level"), "top level"),
    ],
)
def test_error_message_is_one_line(error, line):
    assert execution.error_message(error, "runs/x/run.log") == line


def test_closing_lines():
    summary = {
        "state": "complete",
        "total_seconds": 842.0,
        "peak_memory_bytes": 6_310_000_000,
        "stages": [{"cached": True}, {"cached": False}],
        "not_run": ["Pusher"],
        "metrics": {
            "funnel": {"all": {"ndcg@10": 0.25}, "novel": {"ndcg@10": 0.0512}},
            "baselines": {"popularity": {"all": {"ndcg@10": 0.2}, "novel": {}}},
        },
        "blessed": True,
        "pushed_version": "17",
    }
    assert run_summary.closing_lines(summary, "runs/x/report.html") == [
        "complete after 14 min 02 s: 2 of 3 components, 1 cached; peak memory 6.31 GB",
        "ndcg@10          all     novel",
        "funnel        0.2500    0.0512",
        "popularity    0.2000         -",
        "model blessed; pushed version 17",
        "report: runs/x/report.html",
    ]


def test_a_shop_without_events_has_nothing_to_refresh(tmp_path, capsys):
    arguments = ["--config", str(ROOT / "pipeline/configs/esci_us.yaml"), "--runs-dir", str(tmp_path)]
    assert runner.main([*arguments, "--refresh-index"]) == 1
    assert "--refresh-index: a shop without events has no towers to keep" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
