"""What each section of the report shows, as values for its template.

A section whose component did not run says why in `missing`.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

from pipeline.formats import format_bytes, format_seconds
from pipeline.record import RunRecord
from pipeline.report import charts, findings, summary

TASKS = {"all": "All items", "novel": "Items new to the user"}
# Accuracy first, then what else lists are measured by (components.common.metrics); others follow by name.
_METRIC_ORDER = (
    *("ndcg@", "recall@", "recall_cap@", "hr@", "mrr@"),
    *("coverage@", "diversity@", "novelty@", "popularity_lift@"),
)


class Missing:
    """Why a section is empty: its component failed, was not reached, is not in the pipeline."""

    def __init__(self, result: dict[str, Any]):
        self._states = {stage["name"]: stage["state"] for stage in result["stages"]}
        self._not_run = set(result["not_run"])
        self._failed = (result.get("error") or {}).get("component")

    def reason(self, what: str, *components: str) -> str:
        """A sentence that says why there is no `what`, which any of the components would have made."""
        for component in components:
            if self._states.get(component) == "failed":
                return f"No {what}: {component} failed."
        for component in components:
            if component in self._not_run:
                stop = f"the run stopped at {self._failed}" if self._failed else "the run stopped"
                return f"No {what}: {stop}, before {component}."
        if not self._states:
            return f"No {what}: the run stopped before its first component."
        if any(component in self._states for component in components):
            return f"No {what}: {' and '.join(c for c in components if c in self._states)} left none."
        return f"No {what}: the pipeline has no {' or '.join(components)}."


def tiles(result: dict[str, Any]) -> list[dict[str, str]]:
    """The figures at the head of the page: label, value, a note, and CSS classes of the two."""
    metric = result.get("primary_metric", "ndcg@10")
    tiles = []

    def add(label: str, value: str, note: str, value_css: str = "", note_css: str = "") -> None:
        tiles.append(
            {"label": label, "value": value, "note": note, "value_css": value_css, "note_css": note_css}
        )

    funnel, baselines = result["metrics"]["funnel"], result["metrics"]["baselines"]
    for task in TASKS:
        value = funnel.get(task, {}).get(metric)
        if value is None:
            continue
        rivals = {name: tasks.get(task, {}).get(metric) for name, tasks in baselines.items()}
        rivals = {name: rival for name, rival in rivals.items() if rival}
        note, css = "", ""
        if rivals:
            best = max(rivals, key=lambda name: rivals[name])
            change = value / rivals[best] - 1
            note = f"{change:+.1%} against {best.replace('_', ' ')}"
            css = "good" if change > 0 else "bad"
        add(f"{metric.upper()}, {task}", f"{value:.4f}", note, note_css=css)
    if result["blessed"] is not None:
        pushed = result["pushed_version"]
        note = f"pushed as version {pushed}" if pushed else "nothing pushed"
        if result["blessed"] and result.get("infra_refusal"):
            add("Model", "refused", f"by InfraValidator; {note}", "bad")
        elif result["blessed"]:
            add("Model", "blessed", note, "good")
        else:
            add("Model", "not blessed", note, "bad")
    cached = sum(stage["cached"] for stage in result["stages"])
    count = len(result["stages"]) + len(result["not_run"])
    add(
        "Time",
        format_seconds(result["total_seconds"]),
        f"{len(result['stages'])} of {count} components, {cached} cached",
    )
    add("Peak memory", format_bytes(result["peak_memory_bytes"]), "whole process tree")
    return tiles


def metric_key(name: str) -> tuple[int, int, str]:
    """Sorts metrics by family (`_METRIC_ORDER`), then by cut-off."""
    order = next((i for i, prefix in enumerate(_METRIC_ORDER) if name.startswith(prefix)), len(_METRIC_ORDER))
    cutoff = re.search(r"@(\d+)", name)
    return order, int(cutoff.group(1)) if cutoff else 0, name


def quality(result: dict[str, Any], record: RunRecord | None, missing: Missing) -> dict[str, Any]:
    """Each task's metrics for the funnel and its baselines, slices, calibration and the verdict."""
    evaluation = summary.funnel_evaluation(record)
    # The artifact may have been deleted since; the summary still has the main figures.
    funnel = evaluation.get("funnel") or result["metrics"]["funnel"]
    baselines = evaluation.get("baselines") or result["metrics"]["baselines"]
    if not funnel:
        return {"missing": missing.reason("quality figures", "FunnelEvaluator")}
    primary = result.get("primary_metric", "ndcg@10")
    tasks = []
    for task in [*(t for t in TASKS if t in funnel), *(t for t in funnel if t not in TASKS)]:
        systems = {
            "funnel": funnel[task],
            **{name: values[task] for name, values in baselines.items() if task in values},
        }
        metrics = sorted(
            {
                metric
                for values in systems.values()
                for metric, value in values.items()
                if not metric.endswith("_se") and isinstance(value, (int, float))
            },
            key=metric_key,
        )
        # more popular than the user's own taste is neither good nor bad
        best = {
            m: max((v[m] for v in systems.values() if v.get(m) is not None), default=None)
            for m in metrics
            if not m.startswith("popularity_lift")
        }
        rows = [
            {
                "name": name.replace("_", " "),
                "funnel": name == "funnel",
                "cells": [
                    {
                        "value": values.get(m),
                        "se": values.get(f"{m}_se"),
                        "best": m in best and values.get(m) is not None and values.get(m) == best[m],
                    }
                    for m in metrics
                ],
            }
            for name, values in systems.items()
        ]
        chart = charts.bars(
            [
                (
                    name.replace("_", " "),
                    float(values[primary]),
                    float(values.get(f"{primary}_se") or 0),
                    f"{values[primary]:.4f}",
                    "own" if name == "funnel" else "",
                )
                for name, values in systems.items()
                if values.get(primary) is not None
            ],
            f"{primary} of task {task}",
        )
        tasks.append(
            {
                "title": TASKS.get(task, task),
                "users": (evaluation.get("n_users") or {}).get(task),
                "metrics": metrics,
                "rows": rows,
                "chart": chart,
            }
        )
    return {
        "missing": None,
        "primary": primary,
        "tasks": tasks,
        "catalogue": evaluation.get("catalogue"),
        "window": _window(evaluation.get("window")),
        "slices": _slices(evaluation.get("slices") or {}, primary),
        "calibration": _calibration(evaluation.get("calibration") or {}),
        "blessed": evaluation.get("blessed"),
        "reasons": evaluation.get("reasons") or [],
    }


def _calibration(calibration: dict[str, Any]) -> dict[str, Any] | None:
    """What the heads predicted and what happened; None for a run that did not measure it."""
    keys = ("predicted", "observed", "ece", "ece_of_chance", "log_loss", "log_loss_of_rate")
    heads = [
        {"name": name, **{key: calibration[name].get(key) for key in keys}}
        for name in ("purchase", "repeat", "value")
        if name in calibration
    ]
    if not heads:
        return None
    curve = calibration["purchase"].get("curve") or []
    points = [(row["predicted"], row["observed"]) for row in curve]
    ends = [min(points)[0], max(points)[0]] if points else []
    chart = charts.line_chart(
        "share of candidates that were bought, by predicted probability",
        {"observed": points, "perfect": [(x, x) for x in ends]},
        "predicted",
    )
    return {
        "heads": heads,
        "chart": chart,
        "users": calibration.get("users"),
        "candidates": calibration.get("candidates"),
    }


def _slices(slices: dict[str, Any], primary: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "users": values.get("n_users"),
            "values": [
                ((values.get(task) or {}).get(primary), (values.get(task) or {}).get(f"{primary}_se"))
                for task in TASKS
            ],
        }
        for name, values in slices.items()
    ]


def ranking(result: dict[str, Any], missing: Missing) -> dict[str, Any]:
    """What Evaluator measured on the ranking head: overall and by slice, six columns at most."""
    overall = result["metrics"].get("ranking") or {}
    if not overall:
        return {"missing": missing.reason("ranking metrics", "Evaluator")}
    slices = result["metrics"].get("ranking_slices") or {}
    columns = [m for m in overall if any(m in values for values in slices.values())]
    columns = sorted(columns, key=lambda m: (m not in ("auc", "example_count"), m))[:6]
    return {
        "missing": None,
        "overall": sorted(overall.items()),
        "columns": columns,
        "slices": [(name, [values.get(m) for m in columns]) for name, values in sorted(slices.items())],
    }


def index(record: RunRecord | None, missing: Missing) -> dict[str, Any]:
    """The index's finding and its recalls."""
    node = record.nodes.get("CandidateIndex") if record else None
    if node is None or not node.outputs:
        return {"missing": missing.reason("index", "CandidateIndex")}
    recalls = [
        (name.replace("_", " "), value)
        for artifact in node.artifacts()
        for name, value in sorted(artifact.properties.items())
        if "recall" in name and isinstance(value, (int, float))
    ]
    return {"missing": None, "found": findings.describe(node), "recalls": recalls}


def data(record: RunRecord | None, missing: Missing) -> dict[str, Any]:
    """Statistics of the tables by split, and the anomalies found in them."""
    nodes = record.of_kind("StatisticsGen") if record else []
    tables = []
    for node in nodes:
        artifact = node.first("statistics")
        statistics = findings.read_statistics(artifact) if artifact else []
        if not statistics:
            continue
        by_split = [{feature.name: feature for feature in split.features} for split in statistics]
        features = []
        for feature in statistics[0].features:
            features.append(
                {
                    "feature": feature,
                    "missing": [
                        found[feature.name].missing if feature.name in found else 1.0 for found in by_split
                    ],
                }
            )
        tables.append({"id": node.id, "splits": statistics, "features": features})
    anomalies = []
    for node in record.of_kind("ExampleValidator") if record else []:
        artifact = node.first("anomalies")
        for split, infos in (findings.read_anomalies(artifact) if artifact else {}).items():
            anomalies += [(node.id, split, name or "(data set)", text) for name, text in infos.items()]
    validated = bool(record and any(node.outputs for node in record.of_kind("ExampleValidator")))
    return {
        "missing": None
        if tables
        else missing.reason("data statistics", "ItemStatistics", "UserStatistics", "EventStatistics"),
        "tables": tables,
        "anomalies": anomalies,
        "validated": validated,
        "anomalies_missing": missing.reason(
            "anomaly check", "ItemValidator", "UserValidator", "EventValidator"
        ),
    }


def training(record: RunRecord | None, missing: Missing) -> dict[str, Any]:
    """The curves of each trainer that wrote a history.json."""
    trainers = []
    for node, path in record.find_file("model_run", "history.json") if record else []:
        try:
            epochs = json.loads(path.read_text(encoding="utf-8")).get("epochs") or []
        except (OSError, ValueError):
            epochs = []
        trainers.append({"id": node.id, "found": findings.describe(node), "charts": _curves(epochs)})
    reason = missing.reason("training curves", "RetrievalTrainer", "RankingTrainer")
    return {"missing": None if trainers else reason, "trainers": trainers}


def _curves(epochs: list[dict[str, Any]]) -> list[Any]:
    """A chart for each metric; `val_x` and `x` are two lines of one chart."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for position, epoch in enumerate(epochs, start=1):
        x = float(epoch.get("epoch", position))
        for name, value in epoch.items():
            if name == "epoch" or not isinstance(value, (int, float)) or isinstance(value, bool):
                continue
            base = name.removeprefix("val_")
            line = "held out" if name != base else "training"
            panels.setdefault(base, {}).setdefault(line, []).append((x, float(value)))
    order = sorted(panels, key=lambda name: (name != "loss", name))
    titles = {
        name: name.replace("_", " ") + (", held out" if "training" not in panels[name] else "")
        for name in panels
    }
    return [charts.line_chart(titles[name], {**panels[name]}) for name in order]


def stages(result: dict[str, Any]) -> dict[str, Any]:
    """The components that ran, with each one's share of the longest time, and those that did not."""
    longest = max((stage["seconds"] for stage in result["stages"]), default=0) or 1
    rows = [{**stage, "share": stage["seconds"] / longest} for stage in result["stages"]]
    return {"rows": rows, "not_run": result["not_run"]}


def push(record: RunRecord | None, missing: Missing) -> dict[str, Any]:
    """Which version was pushed, and where to."""
    for node in record.of_kind("Pusher") if record else []:
        artifact = findings.pushed(node)
        if artifact is not None:
            destination = str(artifact.properties.get("pushed_destination", ""))
            return {
                "missing": None,
                "version": artifact.properties.get("pushed_version"),
                "destination": destination,
                "base": str(Path(destination).parent),
            }
        if node.outputs:
            refusal = summary.infra_refusal(record)
            why = f"InfraValidator refused the model: {refusal}" if refusal else "the model is not blessed"
            return {"missing": f"Nothing was pushed: {why}."}
    return {"missing": missing.reason("pushed model", "Pusher")}


def _window(window: dict[str, Any] | None) -> dict[str, str] | None:
    """Limits of the evaluation window, unix seconds, as dates."""
    if not window:
        return None
    return {
        name: dt.datetime.fromtimestamp(value, dt.UTC).strftime("%Y-%m-%d %H:%M")
        for name, value in window.items()
    }
