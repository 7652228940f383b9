"""Reads ExampleValidator's findings; anomalies become reasons a person can act on.

ExampleValidator itself never fails a run: it only writes `Split-<name>/SchemaDiff.pb`.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from apache_beam.io.filesystems import FileSystems
from tensorflow_metadata.proto.v0 import anomalies_pb2

from schema.errors import DataError, GateError

FILE = "quality.json"
_SHOWN = 10  # reasons in the error line; the file has all


@dataclasses.dataclass(frozen=True)
class Reason:
    """One anomaly.

    Attributes:
      table: items, users or events.
      split: the split it was found in.
      feature: the feature, or "" for the data set as a whole.
      kinds: TFDV's names of what is wrong.
      text: what is wrong, with the values seen.
    """

    table: str
    split: str
    feature: str
    kinds: tuple[str, ...]
    text: str

    def line(self, schema_dir: str) -> str:
        """The reason and what to do about it, in one line."""
        what = f"feature {self.feature}: " if self.feature else ""
        advice = f"correct the data or review {schema_dir}/{self.table}.pbtxt"
        return f"{self.table}, split {self.split}, {what}{self.text}; {advice}"


def read_anomalies(table: str, uri: str) -> dict[str, list[Reason]]:
    """The anomalies of each split of one table.

    Args:
      table: the table's name, for the reasons.
      uri: folder or URL of an ExampleAnomalies artifact.

    Returns:
      split -> reasons, ordered by split and feature.

    Raises:
      DataError: the folder holds no findings: the validator did not see any split.
    """
    files = FileSystems.match([f"{uri}/Split-*/SchemaDiff.pb"])[0].metadata_list
    if not files:
        raise DataError(f"{uri}: no Split-*/SchemaDiff.pb of table '{table}'; run its ExampleValidator again")
    found = {}
    for path in sorted(file.path for file in files):
        split = path.split("/Split-")[-1].split("/")[0]
        with FileSystems.open(path, compression_type="uncompressed") as file:
            found[split] = reasons(table, split, anomalies_pb2.Anomalies.FromString(file.read()))
    return found


def reasons(table: str, split: str, anomalies: anomalies_pb2.Anomalies) -> list[Reason]:
    """An Anomalies message as reasons, ordered by feature, the data set's own last."""
    found = [
        Reason(table, split, name, *_describe(info)) for name, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        found.append(Reason(table, split, "", *_describe(anomalies.dataset_anomaly_info)))
    if anomalies.data_missing:
        found.append(Reason(table, split, "", ("DATA_MISSING",), "the split has no examples"))
    return found


def run(anomalies: Mapping[str, str], schema_dir: str, output_dir: str) -> dict[str, Any]:
    """Writes quality.json, and raises when any table has an anomaly.

    Args:
      anomalies: table -> folder or URL of its ExampleAnomalies artifact.
      schema_dir: folder of the reviewed schemas, for the advice.
      output_dir: folder or URL of the output artifact.

    Returns:
      {"passed": bool, "tables": {table: {split: [reason, ...]}}, "reasons": [line, ...]}, as
      in the file.

    Raises:
      GateError: every reason in one line (at most ten).
    """
    found = {table: read_anomalies(table, uri) for table, uri in anomalies.items()}
    every = [reason for splits in found.values() for items in splits.values() for reason in items]
    lines = [reason.line(schema_dir) for reason in every]
    result = {
        "passed": not every,
        "tables": {
            table: {
                split: [dataclasses.asdict(reason) for reason in items] for split, items in splits.items()
            }
            for table, splits in found.items()
        },
        "reasons": lines,
    }
    with FileSystems.create(f"{output_dir}/{FILE}") as file:
        file.write(json.dumps(result, indent=1).encode())
    if lines:
        more = f" | and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise GateError("data quality: " + " | ".join(lines[:_SHOWN]) + more)
    return result


def _describe(info: anomalies_pb2.AnomalyInfo) -> tuple[tuple[str, ...], str]:
    kinds = tuple(anomalies_pb2.AnomalyInfo.Type.Name(reason.type) for reason in info.reason)
    parts = [f"{reason.short_description}: {reason.description}" for reason in info.reason]
    text = " ".join(" ".join(parts or [info.short_description, info.description]).split())
    return kinds, text.rstrip(". ")
