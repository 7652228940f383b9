"""The blessing: what a model is checked for, and what each check found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from components.common import metrics
from components.common.protocol import TASKS
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
    has_previous: bool,
    ece: float,
) -> list[Check]:
    """Every condition of the blessing; a model is blessed if all of them hold.

    Args:
      values: (system, task) -> metric -> float [users], of `funnel`, the baselines and, if there is
        one, `last_blessed`.
      counts: task -> users; a task without users has no condition.
      quality: metric and thresholds.
      ranking_blessed: whether the Evaluator blessed the ranking head; a condition only if not.
      has_previous: whether there is a last blessed model.
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
        if has_previous:
            theirs = values["last_blessed", task][metric].mean()
            kept = bool(ours >= theirs * (1 - quality.max_regression))
            text = (
                f"{said} {'keeps up with' if kept else 'falls behind'} the last blessed model's "
                f"{theirs:.4f} ({difference('last_blessed')}, tolerance {quality.max_regression:.0%})"
            )
            found.append(Check(f"last_blessed.{task}", kept, text))
    return found
