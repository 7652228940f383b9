"""Kept runs: listed, found by a person's words, compared; curves for TensorBoard."""

import json

import pytest
import tensorflow as tf

import shelfwise
from components.common import artifacts, curves
from pipeline.record import ArtifactRecord, NodeRecord, RunRecord
from pipeline.report import board, compare, history, runs, summary
from schema.errors import UserError


def result(started, state="complete", ndcg=0.4, **changes):
    """A summary as a run writes it."""
    found = summary.build(
        name="shop",
        config_path="shop.yaml",
        run_id=None,
        started=f"2026-11-{started}+00:00",
        state=state,
        components=["EventExampleGen", "Pusher"],
        stages=[summary.Stage("EventExampleGen", 9.0, False, "complete", processor_seconds=12.34)],
        total_seconds=61.0,
        peak_memory_bytes=2_000_000_000,
        peak_memory_kind="RSS",
        record=None,
        error=None,
    )
    found["metrics"]["funnel"] = {"all": {"ndcg@10": ndcg, "recall@5": 0.25}, "novel": {"ndcg@10": 0.05}}
    return found | {"primary_metric": "ndcg@10", "versions": {"tfx": "1.21.0"}} | changes


def settings(**changes):
    return {"name": "shop", "retrieval": {"epochs": 2, "seed": 17} | changes, "users": None}


@pytest.fixture
def runs_dir(tmp_path):
    """Two pipelines: one with three runs, one of a release that kept no history."""
    shop, old = tmp_path / "runs" / "shop", tmp_path / "runs" / "old"
    for one in (
        result("27T20:00:00", configuration=settings(), pushed_version="17"),
        result("27T21:30:05", ndcg=0.5, configuration=settings(epochs=3), blessed=False),
        result("28T01:00:00", "failed", configuration=settings(), error={"message": "no space left"}),
    ):
        shop.mkdir(parents=True, exist_ok=True)
        summary.write(shop / "summary.json", one)
        history.keep(shop, one)
    old.mkdir()
    summary.write(old / "summary.json", result("01T00:00:00"))
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "a file").write_text("")
    return tmp_path / "runs"


def test_runs_are_listed_the_latest_first_with_what_they_reached(runs_dir, capsys):
    assert shelfwise.main(["runs", "--runs-dir", str(runs_dir)]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["run", "state", "time", "figure", "all", "novel", "pushed"],
        *(
            [*line.split(), *rest]
            for line, rest in (
                ("shop/20261128-010000 failed 1 min 01 s ndcg@10 0.4000 0.0500 -", ["no", "space", "left"]),
                ("shop/20261127-213005 complete 1 min 01 s ndcg@10 0.5000 0.0500 -", ["not", "blessed"]),
                ("shop/20261127-200000 complete 1 min 01 s ndcg@10 0.4000 0.0500 17", []),
                ("old/20261101-000000 complete 1 min 01 s ndcg@10 0.4000 0.0500 -", []),
            )
        ),
    ]


def test_a_run_without_figures_is_listed(runs_dir):
    bare = result("27T20:00:00", "failed")
    bare["metrics"]["funnel"] = {}
    line = runs.lines([history.Run("shop/1", runs_dir, bare)])[1]
    assert line.split() == ["shop/1", "failed", "1", "min", "01", "s", "-", "-", "-"]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("shop/20261127-213005", "shop/20261127-213005"),
        ("shop/20261127", "shop/20261127-213005"),
        ("shop", "shop/20261128-010000"),
        ("old", "old/20261101-000000"),
    ],
)
def test_a_run_is_found_by_its_name_or_the_beginning_of_it(runs_dir, said, found):
    assert history.find(said, runs_dir).name == found


def test_a_run_is_found_by_its_folder(runs_dir, tmp_path):
    assert history.find(str(runs_dir / "shop"), tmp_path).name == "shop/20261128-010000"


def test_a_name_that_no_run_or_several_pipelines_have_is_an_error(runs_dir):
    with pytest.raises(UserError, match="lamp: no such run.*the latest are shop/20261128-010000, shop"):
        history.find("lamp", runs_dir)
    (runs_dir / "shoes").mkdir()
    summary.write(runs_dir / "shoes" / "summary.json", result("02T00:00:00"))
    with pytest.raises(UserError, match="sho: means shop/.*name one of them"):
        history.find("sho", runs_dir)
    assert history.find("shop", runs_dir).name == "shop/20261128-010000"


def test_a_damaged_summary_is_named(runs_dir):
    (runs_dir / "shop" / history.FOLDER / "20270101-000000.json").write_text("{")
    with pytest.raises(UserError, match="20270101-000000.json: no summary of a run"):
        history.all_runs(runs_dir)


def test_compare_shows_the_settings_that_differ_and_figures_side_by_side(runs_dir, capsys):
    arguments = ["compare", "shop/20261127-200000", "shop/20261127-213005", "--runs-dir", str(runs_dir)]
    assert shelfwise.main(arguments) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[1]: line.split()[1:] for line in out.splitlines() if line.startswith("  ")}
    assert rows["retrieval.epochs"] == ["2", "3"]
    assert not any("seed" in name or "users" in name for name in rows)
    assert rows["funnel, all ndcg@10"][2:] == ["0.4000", "0.5000", "+0.1000"]
    assert rows["funnel, all recall@5"][2:] == ["0.2500", "0.2500", "+0.0000"]
    assert rows["EventExampleGen"] == ["12.3", "12.3"]
    assert rows["pushed"] == ["17", "-"]
    assert "software that differs: none" in out


def test_compare_with_a_run_that_kept_no_configuration_says_so(runs_dir):
    rows = compare.lines(history.find("shop/20261127-200000", runs_dir), history.find("old", runs_dir))
    assert [line.split() for line in rows if "retrieval.epochs" in line] == [["retrieval.epochs", "2", "?"]]


def test_curves_become_events_that_tensorflow_reads(tmp_path):
    epochs = [
        {"epoch": 1, "loss": 3.0, "val_loss": 4.0, "holdout_recall@100": 0.5},
        {"epoch": 3, "loss": 2.0, "val_loss": 3.5, "holdout_recall@100": 0.75},
    ]
    curves.write(str(tmp_path / "run"), epochs, features=["a"])
    kept = json.loads((tmp_path / "run" / artifacts.TRAINING_CURVES).read_text())
    assert kept == {"epochs": epochs, "features": ["a"]}
    assert read_events(tmp_path / "run") == {
        ("training", "loss"): [(1, 3.0), (3, 2.0)],
        ("held_out", "loss"): [(1, 4.0), (3, 3.5)],
        ("held_out", "recall@100"): [(1, 0.5), (3, 0.75)],
    }


def read_events(folder):
    """(folder, tag) -> (step, value) of every scalar."""
    found = {}
    for path in sorted(folder.glob("*/*.tfevents.*")):
        events = [
            tf.compat.v1.Event.FromString(record)
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        ]
        assert events[0].file_version == "brain.Event:2"
        for event in events[1:]:
            for value in event.summary.value:
                points = found.setdefault((path.parent.name, value.tag), [])
                points.append((event.step, value.simple_value))
    return found


def test_the_curves_of_a_run_are_published_under_the_trainer_s_name(tmp_path):
    curves.write(str(tmp_path / "artifact"), [{"epoch": 1, "loss": 3.0, "val_loss": 4.0}])
    outputs = {"model_run": [ArtifactRecord(1, "ModelRun", str(tmp_path / "artifact"), {})]}
    nodes = {
        "RankingTrainer": NodeRecord("RankingTrainer", "x.RankingTrainer", "COMPLETE", 1, outputs),
        "Pusher": NodeRecord("Pusher", "x.Pusher", "COMPLETE", 2, {}),
    }
    board.publish(RunRecord("run", nodes), tmp_path / "shop", "20261127-200000")
    folder = tmp_path / "shop" / board.FOLDER / "20261127-200000"
    assert [path.name for path in folder.iterdir()] == ["RankingTrainer"]
    assert read_events(folder / "RankingTrainer") == {
        ("training", "loss"): [(1, 3.0)],
        ("held_out", "loss"): [(1, 4.0)],
    }


def test_board_starts_tensorboard_on_the_folder_of_curves(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="tensorboard: no training curves"):
        board.command(tmp_path, [])
    (tmp_path / board.FOLDER).mkdir()
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="not installed.*pip install tensorboard"):
        board.command(tmp_path, [])
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda name: object())
    command = board.command(tmp_path, ["--port", "7000"])
    assert command[1:] == [
        *("-m", "tensorboard.main", "--logdir", str(tmp_path / board.FOLDER)),
        *("--port", "7000"),
    ]
