"""What the standard artifacts of a run say: statistics, anomalies, schemas, blessings.

Reads the protocol buffers of TensorFlow Metadata directly, so it needs neither TFX nor
TensorFlow Data Validation.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from google.protobuf import message, text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from pipeline.record import ArtifactRecord, NodeRecord


@dataclasses.dataclass(frozen=True)
class FeatureSummary:
    """One feature of one split.

    Attributes:
      name: the feature's name.
      type: "int", "float", "string", ...
      missing: share of the examples without it, 0 to 1.
      values_per_example: mean number of values in the examples that have it.
      detail: its range or its most frequent value, as text.
    """

    name: str
    type: str
    missing: float
    values_per_example: float
    detail: str


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
    """Number of examples of a split and its features, the most often missing first."""

    split: str
    num_examples: int
    features: list[FeatureSummary]


def splits(artifact: ArtifactRecord) -> list[str]:
    """Split names of an artifact by its folders ``Split-<name>``, training data first."""
    order = {"train": 0, "eval": 1, "test": 2}
    names = [p.name.removeprefix("Split-") for p in artifact.path.glob("Split-*") if p.is_dir()]
    return sorted(names, key=lambda name: (order.get(name, 3), name))


def read_statistics(artifact: ArtifactRecord) -> list[SplitStatistics]:
    """Statistics of every split of an ExampleStatistics artifact."""
    found = []
    for split in splits(artifact):
        path = artifact.path / f"Split-{split}" / "FeatureStats.pb"
        if path.is_file():
            statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
            for dataset in statistics.datasets[:1]:  # further ones are slices of the first
                features = sorted((_feature(f, dataset.num_examples) for f in dataset.features), key=_order)
                found.append(SplitStatistics(split, int(dataset.num_examples), features))
    return found


def read_anomalies(artifact: ArtifactRecord) -> dict[str, dict[str, str]]:
    """Anomalies by split, then by feature ("" = the data set): a short description."""
    found = {}
    for split in splits(artifact):
        path = artifact.path / f"Split-{split}" / "SchemaDiff.pb"
        if path.is_file():
            anomalies = anomalies_pb2.Anomalies.FromString(path.read_bytes())
            found[split] = {
                name: info.description or info.short_description
                for name, info in sorted(anomalies.anomaly_info.items())
            }
            if anomalies.HasField("dataset_anomaly_info"):
                found[split][""] = anomalies.dataset_anomaly_info.description
    return found


def count_features(schema_path: Path) -> int:
    """Number of features of a text schema."""
    schema = text_format.Parse(schema_path.read_text(encoding="utf-8"), schema_pb2.Schema())
    return len(schema.feature)


def describe(node: NodeRecord) -> str:
    """One line of what a component found: its own `summary`, or one derived for standard ones.

    Returns:
      "" when there is nothing to say; never raises for artifacts that are damaged or missing.
    """
    # what a resolver hands on was another component's finding
    for artifact in node.artifacts() if node.kind != "Resolver" else ():
        if artifact.properties.get("summary"):
            return " ".join(str(artifact.properties["summary"]).split())
    derive = _DERIVED.get(node.kind)
    try:
        return derive(node) if derive else ""
    except (OSError, ValueError, message.DecodeError, text_format.ParseError) as error:
        return f"(its output cannot be read: {error})"


def blessing(node: NodeRecord) -> bool | None:
    """Whether a node's `blessing` output blesses the model; None if it gives no verdict."""
    artifact = node.first("blessing")
    if artifact is None:
        return None
    if "blessed" in artifact.properties:
        return bool(artifact.properties["blessed"])
    for prefix in ("", "INFRA_"):
        if (artifact.path / f"{prefix}BLESSED").exists():
            return True
        if (artifact.path / f"{prefix}NOT_BLESSED").exists():
            return False
    return None


def _feature(feature: statistics_pb2.FeatureNameStatistics, num_examples: int) -> FeatureSummary:
    name = feature.name or ".".join(feature.path.step)
    kind = feature.WhichOneof("stats") or ""
    stats: Any = getattr(feature, kind) if kind else None
    common = stats.common_stats if stats is not None else statistics_pb2.CommonStatistics()
    # A single-valued feature may be there and empty: an example without a value lacks it.
    present = int(common.tot_num_values if common.max_num_values <= 1 else common.num_non_missing)
    missing = 1 - present / num_examples if num_examples else 0.0
    if kind == "num_stats":
        detail = f"{_number(stats.min)} to {_number(stats.max)}, mean {_number(stats.mean)}"
    elif kind == "string_stats":
        detail = f"{stats.unique:,} distinct"
        if stats.top_values:
            detail += f", most often “{stats.top_values[0].value[:40]}”"
    else:
        detail = ""
    if not present:
        detail = ""
    type_name = statistics_pb2.FeatureNameStatistics.Type.Name(feature.type).lower()
    return FeatureSummary(name, type_name, max(missing, 0.0), common.avg_num_values, detail)


def _order(feature: FeatureSummary) -> tuple[float, str]:
    return (-feature.missing, feature.name)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < 1e15 and value == int(value) else f"{value:,.4g}"


def _statistics(node: NodeRecord) -> str:
    artifact = node.first("statistics")
    found = read_statistics(artifact) if artifact else []
    if not found:
        return ""
    counts = ", ".join(f"{s.split} {s.num_examples:,}" for s in found)
    return f"{counts} examples; {len(found[0].features)} features"


def _anomalies(node: NodeRecord) -> str:
    artifact = node.first("anomalies")
    if artifact is None:
        return ""
    found = [
        (split, name, text)
        for split, infos in read_anomalies(artifact).items()
        for name, text in infos.items()
    ]
    if not found:
        return "no anomalies"
    split, name, text = found[0]
    where = f"{split}.{name}" if name else split
    return f"{len(found)} anomal{'y' if len(found) == 1 else 'ies'}: {where}: {text}"


def _schema(node: NodeRecord) -> str:
    artifact = node.first("schema")
    return f"{count_features(artifact.path / 'schema.pbtxt')} features in the schema" if artifact else ""


def _transform(node: NodeRecord) -> str:
    graph = node.first("transform_graph")
    path = graph.path / "transformed_metadata" / "schema.pbtxt" if graph else None
    return f"{count_features(path)} transformed features" if path and path.is_file() else ""


def _resolver(node: NodeRecord) -> str:
    if "model" in node.outputs:
        return f"model artifact {node.outputs['model'][0].id}"
    found = [f"{artifact.type} artifact {artifact.id}" for artifact in node.artifacts()]
    return ", ".join(found) if found else "found nothing: no earlier model"


def _blessing(node: NodeRecord) -> str:
    verdict = blessing(node)
    return "" if verdict is None else "blessed" if verdict else "not blessed"


def _infra(node: NodeRecord) -> str:
    verdict = blessing(node)
    return "" if verdict is None else "loads and answers" if verdict else "does not load or answer"


def pushed(node: NodeRecord) -> ArtifactRecord | None:
    """The pushed model's record of a Pusher, or None if it pushed nothing."""
    artifact = node.first("pushed_model")
    return artifact if artifact and artifact.properties.get("pushed") else None


def _pusher(node: NodeRecord) -> str:
    artifact = pushed(node)
    if artifact is None:
        return "nothing pushed: the model is not blessed"
    where = artifact.properties.get("pushed_destination", "")
    return f"pushed version {artifact.properties.get('pushed_version', '?')} to {where}"


_DERIVED = {
    "StatisticsGen": _statistics,
    "ExampleValidator": _anomalies,
    "ImportSchemaGen": _schema,
    "SchemaGen": _schema,
    "Transform": _transform,
    "Resolver": _resolver,
    "Evaluator": _blessing,
    "InfraValidator": _infra,
    "Pusher": _pusher,
}
