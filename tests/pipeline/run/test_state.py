"""The run's folder: who may read it, and what an interrupted run left in it."""

import stat

import pytest

from pipeline.record import ArtifactRecord, NodeRecord, RunRecord
from pipeline.run import execution
from pipeline.run.state import clear_interrupted


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_half_pushed_versions_are_removed(tmp_path, capsys):
    serving = tmp_path / "serving" / "shelfwise"
    for name, files in (
        ("16", ["saved_model.pb"]),
        ("17", ["keras_metadata.pb"]),
        (".18.part", ["keras_metadata.pb"]),
        (".19.part", ["saved_model.pb"]),  # whole, and not yet renamed
        ("notes", []),
    ):
        (serving / name / "variables").mkdir(parents=True)
        for file in files:
            (serving / name / file).touch()
    clear_interrupted(tmp_path)
    assert sorted(path.name for path in serving.iterdir()) == ["16", "notes"]
    assert capsys.readouterr().out.count("incomplete version removed:") == 3


@pytest.mark.parametrize(
    ("before", "after"), [(0o755, 0o750), (0o777, 0o770), (0o700, 0o700), (0o2775, 0o2770)]
)
def test_only_owner_and_group_come_past_a_runs_folder(tmp_path, before, after):
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(before)
    execution.keep_private(folder)
    assert mode(folder) == after


def test_the_copy_of_the_histories_is_private(tmp_path):
    """Its permissions are its own: neither those of the artifact nor those of what it replaces."""
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "histories.parquet").write_bytes(b"new")
    (artifact / "histories.parquet").chmod(0o644)
    for name in ("histories.parquet", ".histories.parquet.part"):
        (tmp_path / name).write_bytes(b"old")
        (tmp_path / name).chmod(0o666)
    outputs = {
        "pushed_model": [ArtifactRecord(1, "PushedModel", str(tmp_path), {"pushed": 1})],
        "histories": [ArtifactRecord(2, "Histories", str(artifact), {})],
    }
    record = RunRecord("r", {"Pusher": NodeRecord("Pusher", "components.Pusher", "COMPLETE", 1, outputs)})
    execution.publish_histories(record, tmp_path)
    published = tmp_path / "histories.parquet"
    assert published.read_bytes() == b"new"
    assert not mode(published) & stat.S_IRWXO
    assert not (tmp_path / ".histories.parquet.part").exists()
