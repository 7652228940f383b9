"""What the report shows of the search: figures by set of queries, examples, failures, the verdict."""

from __future__ import annotations

from typing import Any

from pipeline.record import RunRecord
from pipeline.report import charts, summary
from pipeline.report.sections import Missing, metric_key

OWN = "search"  # the system that is served; the others are what it is compared with
_PRIMARY = "ndcg@10"
_SHOWN = 8  # examples and failures at most, each


def section(record: RunRecord | None, missing: Missing) -> dict[str, Any]:
    """Each set of queries with the metrics of all systems, examples, failures and the verdict."""
    found = summary.search_evaluation(record)
    if not found.get("sets"):
        return {"missing": missing.reason("figures of the search", "SearchEvaluator")}
    return {
        "missing": None,
        "primary": _PRIMARY,
        "sets": [_set(name, values) for name, values in found["sets"].items()],
        "typo_loss": sorted((found.get("typo_loss") or {}).items()),
        "examples": [_example(each) for each in (found.get("examples") or [])[:_SHOWN]],
        "failures": [_example(each) for each in (found.get("failures") or [])[:_SHOWN]],
        "blessed": found.get("blessed"),
        "reasons": found.get("reasons") or [],
    }


def _set(name: str, values: dict[str, Any]) -> dict[str, Any]:
    systems = values["systems"]
    metrics = sorted(
        {
            metric
            for each in systems.values()
            for metric, value in each.items()
            if not metric.endswith("_se") and isinstance(value, int | float)
        },
        key=metric_key,
    )
    chart = charts.bars(
        [
            (
                system.replace("_", " "),
                float(each[_PRIMARY]),
                float(each.get(f"{_PRIMARY}_se") or 0),
                f"{each[_PRIMARY]:.4f}",
                "own" if system == OWN else "",
            )
            for system, each in systems.items()
            if each.get(_PRIMARY) is not None
        ],
        f"{_PRIMARY} of {name}",
    )
    rows = [
        {
            "name": system.replace("_", " "),
            "own": system == OWN,
            "cells": [{"value": each.get(metric), "se": each.get(f"{metric}_se")} for metric in metrics],
        }
        for system, each in systems.items()
    ]
    return {
        "title": values.get("title") or name.replace("_", " "),
        "queries": values.get("queries"),
        "metrics": metrics,
        "rows": rows,
        "chart": chart,
    }


def _example(example: dict[str, Any]) -> dict[str, Any]:
    return {
        "query": example["query"],
        "user": example.get("user_id") or "",
        "set": str(example.get("set") or "").replace("_", " "),
        "notice": example.get("notice") or "",
        "results": [(row.get("item_text") or row["item_id"], row.get("gain")) for row in example["results"]],
        "wanted": example.get("wanted") or [],
    }
