"""The gate turns SchemaDiff.pb into one-line reasons and stops."""

import json

import pytest

pytest.importorskip("apache_beam")

from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.data_quality_gate import executor
from schema.errors import DataError, GateError


def write(folder, split, anomalies):
    target = folder / f"Split-{split}"
    target.mkdir(parents=True)
    (target / "SchemaDiff.pb").write_bytes(anomalies.SerializeToString())


def nan_anomaly(feature="target_value"):
    anomalies = anomalies_pb2.Anomalies()
    reason = anomalies.anomaly_info[feature].reason.add()
    reason.type = anomalies_pb2.AnomalyInfo.FLOAT_TYPE_HAS_NAN
    reason.short_description = "Invalid values"
    reason.description = "Float feature has\nNaN values."
    return anomalies


def test_passes_and_writes_result(tmp_path):
    for split in ("train", "eval"):
        write(tmp_path / "events", split, anomalies_pb2.Anomalies())
    (tmp_path / "out").mkdir()
    found = executor.run({"events": str(tmp_path / "events")}, "schema/shop", str(tmp_path / "out"))
    assert found == {"passed": True, "tables": {"events": {"eval": [], "train": []}}, "reasons": []}
    assert json.loads((tmp_path / "out" / "quality.json").read_text()) == found


def test_stops_with_one_line_and_the_mend(tmp_path):
    write(tmp_path / "items", "items", anomalies_pb2.Anomalies())
    write(tmp_path / "events", "train", anomalies_pb2.Anomalies())
    write(tmp_path / "events", "eval", nan_anomaly())
    (tmp_path / "out").mkdir()
    uris = {table: str(tmp_path / table) for table in ("items", "events")}
    with pytest.raises(GateError) as caught:
        executor.run(uris, "schema/shop", str(tmp_path / "out"))
    assert str(caught.value) == (
        "data quality: events, split eval, feature target_value: Invalid values: Float feature has NaN "
        "values; correct the data or review schema/shop/events.pbtxt"
    )
    result = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert not result["passed"]
    assert result["tables"]["events"]["eval"][0]["kinds"] == ["FLOAT_TYPE_HAS_NAN"]


def test_many_reasons_are_cut_in_the_line_only(tmp_path):
    anomalies = anomalies_pb2.Anomalies()
    for number in range(14):
        anomalies.MergeFrom(nan_anomaly(f"f{number:02d}"))
    write(tmp_path / "events", "train", anomalies)
    (tmp_path / "out").mkdir()
    with pytest.raises(GateError, match=r"f09: .* \| and 4 more$"):
        executor.run({"events": str(tmp_path / "events")}, "schema/shop", str(tmp_path / "out"))
    assert len(json.loads((tmp_path / "out" / "quality.json").read_text())["reasons"]) == 14


def test_anomaly_of_the_whole_data_set():
    anomalies = anomalies_pb2.Anomalies()
    anomalies.dataset_anomaly_info.short_description = "Low num examples in dataset"
    (reason,) = executor.reasons("users", "users", anomalies)
    assert reason.line("s") == (
        "users, split users, Low num examples in dataset; correct the data or review s/users.pbtxt"
    )


def test_no_findings_is_no_pass(tmp_path):
    with pytest.raises(DataError, match="no Split-.*SchemaDiff.pb of table 'items'"):
        executor.run({"items": str(tmp_path)}, "schema/shop", str(tmp_path))
