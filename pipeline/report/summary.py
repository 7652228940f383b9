"""`summary.json`: the figures of one run, for people and for machines."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
from pathlib import Path
from typing import Any

from pipeline.formats import format_bytes, format_seconds
from pipeline.record import RunRecord, Stage
from pipeline.report import findings

PACKAGES = (
    "tfx",
    "tensorflow",
    "tensorflow-cpu",
    "tf-keras",
    "keras-hub",
    "tensorflow-recommenders",
    "tensorflow-text",
    "tensorflow-model-analysis",
    "apache-beam",
    "ml-metadata",
)


def build(
    *,
    name: str,
    config_path: str | None,
    run_id: str | None,
    started: str,
    state: str,
    components: list[str],
    stages: list[Stage],
    total_seconds: float,
    peak_memory_bytes: int,
    peak_memory_kind: str,
    record: RunRecord | None,
    error: dict[str, str] | None,
) -> dict[str, Any]:
    """Puts the summary together.

    Args:
      name: pipeline name.
      config_path: the configuration file, if there is one.
      run_id: TFX run id, None if the run stopped before its first component.
      started: UTC time, ISO 8601.
      state: "complete", "failed" or "interrupted".
      components: ids of all components of the pipeline, in order.
      stages: those that ran.
      total_seconds: wall time of the run.
      peak_memory_bytes: of the process tree.
      peak_memory_kind: how it was measured.
      record: the run's executions and artifacts, if any.
      error: ``{"component": ..., "message": ...}`` of a failed run.

    Returns:
      The JSON object, to which the runner adds `primary_metric` and `configuration`. `metrics` has
      what the run reached: ``funnel`` and ``baselines.<name>`` hold ``{"all": {...}, "novel": {...}}``,
      ``ranking`` the overall metrics of the Evaluator.
      `blessed` is None without a verdict of the evaluators; `infra_refusal` is what InfraValidator
      found wrong with the servable, None if nothing; `pushed_version` is None when nothing was pushed.
    """
    evaluation = funnel_evaluation(record)
    searched = search_evaluation(record).get("sets") or {}
    ranking, ranking_slices = ranking_metrics(record)
    reached = {stage.name for stage in stages}
    summary: dict[str, Any] = {
        "pipeline": name,
        "config": config_path,
        "run_id": run_id,
        "started": started,
        "state": state,
        "stages": [_stage(stage) for stage in stages],
        "not_run": [component for component in components if component not in reached],
        "total_seconds": round(total_seconds, 2),
        "peak_memory_bytes": peak_memory_bytes,
        "peak_memory_measured_as": peak_memory_kind,
        "metrics": {
            "funnel": evaluation.get("funnel", {}),
            "baselines": evaluation.get("baselines", {}),
            "ranking": ranking,
            "ranking_slices": ranking_slices,
            "search": {name: values["systems"] for name, values in searched.items()},
        },
        "blessed": blessed(record),
        "infra_refusal": infra_refusal(record),
        "pushed_version": pushed_version(record),
        "versions": _versions(),
    }
    if error is not None:
        summary["error"] = error
    return summary


def write_atomically(path: str | Path, text: str) -> None:
    """Writes a file that is at every moment either the old or the new one."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: str | Path, summary: dict[str, Any]) -> None:
    """Writes the summary as JSON, atomically; NaN becomes null."""
    write_atomically(path, json.dumps(_finite(summary), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def closing_lines(summary: dict[str, Any], report: str | None) -> list[str]:
    """What is said at the end of a run.

    Args:
      summary: the content of summary.json.
      report: path of the report, None if it could not be written.
    """
    stages = summary["stages"]
    cached = sum(stage["cached"] for stage in stages)
    lines = [
        f"{summary['state']} after {format_seconds(summary['total_seconds'])}: "
        f"{len(stages)} of {len(stages) + len(summary['not_run'])} components, {cached} cached; "
        f"peak memory {format_bytes(summary['peak_memory_bytes'])}"
    ]
    metric = summary.get("primary_metric", "ndcg@10")
    rows = {"funnel": summary["metrics"]["funnel"], **summary["metrics"]["baselines"]}
    if summary["metrics"]["funnel"]:
        width = max(len(name) for name in rows)
        lines.append(f"{metric:<{width}}  {'all':>8}  {'novel':>8}")
        for name, tasks in rows.items():
            values = (tasks.get(task, {}).get(metric) for task in ("all", "novel"))
            shown = "  ".join(f"{'-' if value is None else format(value, '.4f'):>8}" for value in values)
            lines.append(f"{name:<{width}}  {shown}")
    for name, systems in (summary["metrics"].get("search") or {}).items():
        figures = {system: values.get("ndcg@10") for system, values in systems.items()}
        shown = [
            f"{system} {value:.4f}" for system, value in figures.items() if isinstance(value, int | float)
        ]
        if shown:
            lines.append(f"ndcg@10 of {name.replace('_', ' ')} queries: {', '.join(shown)}")
    if summary["blessed"] is not None:
        verdict = "blessed" if summary["blessed"] else "not blessed: nothing new is served"
        refusal = summary.get("infra_refusal")
        if refusal and summary["blessed"]:
            verdict = f"refused by InfraValidator ({refusal}): nothing new is served"
        pushed = f"; pushed version {summary['pushed_version']}" if summary["pushed_version"] else ""
        lines.append(f"model {verdict}{pushed}")
    if report is not None:
        lines.append(f"report: {report}")
    return lines


def funnel_evaluation(record: RunRecord | None) -> dict[str, Any]:
    """The metrics.json of the run's FunnelEvaluator, {} if it has not run."""
    for _, path in record.find_file("evaluation", "metrics.json") if record else []:
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def search_evaluation(record: RunRecord | None) -> dict[str, Any]:
    """The search_metrics.json of the run's SearchEvaluator, {} if it has not run."""
    for _, path in record.find_file("evaluation", "search_metrics.json") if record else []:
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def blessed(record: RunRecord | None) -> bool | None:
    """Whether every evaluator of the run blessed the model.

    Returns:
      False as soon as one refused, True if there are verdicts and all bless, else None.
    """
    if record is None:
        return None
    # A Resolver hands on the blessing of an earlier model: that is no verdict on this one.
    verdicts = [
        verdict
        for node in record.nodes.values()
        if node.kind not in ("InfraValidator", "Resolver")
        and (verdict := findings.blessing(node)) is not None
    ]
    evaluation = funnel_evaluation(record)
    if "blessed" in evaluation:
        verdicts.append(bool(evaluation["blessed"]))
    return all(verdicts) if verdicts else None


def infra_refusal(record: RunRecord | None) -> str | None:
    """What the run's InfraValidator found wrong with the servable; None if it refused nothing."""
    for node in record.of_kind("InfraValidator") if record else []:
        if findings.blessing(node) is False:
            return findings.describe(node).removeprefix("NOT blessed: ") or "no reason given"
    return None


def pushed_version(record: RunRecord | None) -> str | None:
    """Version directory that the run's Pusher wrote, None if it pushed nothing."""
    for node in record.of_kind("Pusher") if record else []:
        artifact = findings.pushed(node)
        if artifact is not None:
            return str(artifact.properties.get("pushed_version") or "") or None
    return None


def ranking_metrics(record: RunRecord | None) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Metrics of the run's Evaluator (TFMA).

    Returns:
      ``{metric: value}`` over all examples, and the same by slice ("department: GROCERY").
      Both empty when there is no evaluation or TFMA cannot read it (the log says why).
    """
    for node in record.of_kind("Evaluator") if record else []:
        artifact = node.first("evaluation")
        if artifact is None:
            continue
        try:
            import tensorflow_model_analysis as tfma  # takes seconds, and only the runner has it loaded

            result = tfma.load_eval_result(artifact.uri)
            slices = {
                ", ".join(f"{column}: {_text(value)}" for column, value in key): _flatten(outputs)
                for key, outputs in result.slicing_metrics
            }
        except Exception:  # an unreadable evaluation must not cost the run its summary
            logging.getLogger(__name__).exception("cannot read the evaluation at %s", artifact.uri)
            continue
        return slices.pop("", {}), slices
    return {}, {}


def _flatten(outputs: Any) -> dict[str, float]:
    """``{output: {sub key: {metric: {"doubleValue": x}}}}`` -> ``{metric: x}``."""
    flat = {}
    for output, sub_keys in outputs.items():
        for sub_key, metrics in sub_keys.items():
            for metric, value in metrics.items():
                if isinstance(value, dict) and "doubleValue" in value:
                    flat["/".join(part for part in (output, sub_key, metric) if part)] = float(
                        value["doubleValue"]
                    )
    return flat


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "seconds": round(stage.seconds, 3),
        "processor_seconds": round(stage.processor_seconds, 3),
        "cached": stage.cached,
        "state": stage.state,
        "found": stage.found,
        "peak_memory_bytes": stage.peak_memory_bytes,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _finite(value: Any) -> Any:
    """The same tree with NaN and infinities replaced by None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
