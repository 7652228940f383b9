"""The blessing: what a model is checked for, and what each check found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from components.common import metrics, standing
from components.common.protocol import TASKS
from components.common.registry import Reference
from schema.config import Quality


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition of the blessing.

    Attributes:
      name: which condition: `ranking_head`, `calibration`, `<baseline>.<task>` or
        `last_blessed.<task>`.
      passed: whether it holds.
      text: what was found, for a person.
    """

    name: str
    passed: bool
    text: str


def checks(
    values: Mapping[tuple[str, str], dict[str, np.ndarray]],
    counts: Mapping[str, int],
    quality: Quality,
    ranking_blessed: bool,
    last: Reference | None,
    ece: float,
) -> list[Check]:
    """Every condition of the blessing; a model is blessed if all of them hold.

    Args:
      values: (system, task) -> metric -> float [users], of `funnel`, the baselines and, if there is
        one, `last_blessed`.
      counts: task -> users; a task without users has no condition.
      quality: metric and thresholds.
      ranking_blessed: whether the Evaluator blessed the ranking head; a condition only if not.
      last: the pushed version that the model is compared with, None if there is none.
      ece: expected calibration error of purchases.

    Returns:
      The checks. A difference is given with the standard error of the paired one.
    """
    found = []
    if not ranking_blessed:
        found.append(Check("ranking_head", False, "the Evaluator did not bless the ranking head"))
    calibrated = bool(ece <= quality.max_ece)
    text = (
        f"expected calibration error of purchases {ece:.4f} {'within' if calibrated else 'exceeds'} "
        f"{quality.max_ece}"
    )
    found.append(Check("calibration", calibrated, text))
    metric = quality.primary_metric
    for task in TASKS:
        if not counts[task]:
            continue
        ours = values["funnel", task][metric].mean()
        said = f"funnel {metric} of task {task} {ours:.4f}"

        def difference(name: str, task: str = task) -> str:
            apart = values["funnel", task][metric] - values[name, task][metric]
            return f"{apart.mean():+.4f}, s.e. {metrics.standard_error(apart):.4f}"

        for name in quality.must_beat:
            theirs = values[name, task][metric].mean()
            better = bool(ours > theirs)
            text = f"{said} {'>' if better else '<='} {name} {theirs:.4f} ({difference(name)})"
            found.append(Check(f"{name}.{task}", better, text))
        if last:
            theirs = values["last_blessed", task][metric].mean()
            before = standing.before(last.standing, figure(task, metric), quality.max_regression)
            kept = bool(ours >= standing.floor(theirs, before, quality.max_regression))
            best = f" of the best, {1 / before - 1:.1%} above it" if before < standing.START else ""
            text = (
                f"{said} {'keeps up with' if kept else 'falls behind'} the last blessed model's "
                f"{theirs:.4f} ({difference('last_blessed')}, tolerance {quality.max_regression:.0%}{best})"
            )
            found.append(Check(f"last_blessed.{task}", kept, text))
    return found


def figure(task: str, metric: str) -> str:
    """Name of a task's metric among the figures of the pushed line."""
    return f"{task}/{metric}"


def standings(
    values: Mapping[tuple[str, str], dict[str, np.ndarray]],
    counts: Mapping[str, int],
    quality: Quality,
    last: Reference | None,
) -> dict[str, float]:
    """Figure -> how it compares with the best of the pushed line (see `components.common.standing`)."""
    out = {}
    metric = quality.primary_metric
    for task in TASKS:
        name = figure(task, metric)
        before = standing.before(last.standing if last else {}, name, quality.max_regression)
        if last and counts[task]:
            ours, theirs = (values[system, task][metric].mean() for system in ("funnel", "last_blessed"))
            before = standing.after(before, standing.ratio(float(ours), float(theirs)))
        out[name] = before
    return out
