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
    purchase: Mapping[str, float],
    same_window: bool,
) -> list[Check]:
    """Every condition of the blessing; a model is blessed if all of them hold.

    Args:
      values: (system, task) -> metric -> float [users], of `funnel`, the baselines and, if there is
        one, `last_blessed`.
      counts: task -> users; a task without users has no condition.
      quality: metric and thresholds.
      ranking_blessed: whether the Evaluator blessed the ranking head; a condition only if not.
      last: the pushed version that the model is compared with, None if there is none.
      purchase: what `calibration.measure` found of the head `purchase`.
      same_window: see :func:`calibrated`.

    Returns:
      The checks. A difference is given with the standard error of the paired one.
    """
    found = []
    if not ranking_blessed:
        found.append(Check("ranking_head", False, "the Evaluator did not bless the ranking head"))
    found.append(calibrated(purchase, quality, same_window))
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


def calibrated(purchase: Mapping[str, float], quality: Quality, same_window: bool) -> Check:
    """Whether probabilities mean what they say.

    An absolute bound alone refuses nothing where purchases are rare: a model that always says 0 has an
    expected calibration error of the base rate. So the error is also compared with that rate, less what
    chance gives on these candidates, and the log loss with that of the rate alone, which an order of
    the candidates that means nothing does not reach.

    Args:
      purchase: `observed` (the base rate), `ece`, `ece_of_chance`, `log_loss` and `log_loss_of_rate`.
      quality: `max_ece` and `max_relative_ece`.
      same_window: whether the labels span the time that the probabilities speak of. Those of
        leave-one-out do not: they are one session, so that only `max_ece` is a condition.
    """
    ece, rate = purchase["ece"], purchase["observed"]

    def bound(value: float, limit: float, form: str) -> tuple[bool, str]:
        within = bool(value <= limit)
        return within, f"{'within' if within else 'exceeds'} {limit:{form}}"

    absolute, text = bound(ece, quality.max_ece, "")
    text = f"expected calibration error of purchases {ece:.4f} {text}"
    if not same_window:
        text += "; its labels are one session, so that it is not compared with the rate of purchases"
        return Check("calibration", absolute, text)
    above = max(ece - purchase["ece_of_chance"], 0.0)
    share = above / rate if rate > 0 else float("inf" if above else 0)
    relative, said = bound(share, quality.max_relative_ece, ".0%")
    text += f"; above chance it is {share:.1%} of their rate {rate:.4f}, {said}"
    better = bool(purchase["log_loss"] < purchase["log_loss_of_rate"])
    text += (
        f"; log loss {purchase['log_loss']:.4f} {'below' if better else 'not below'} the "
        f"{purchase['log_loss_of_rate']:.4f} of that rate alone"
    )
    return Check("calibration", absolute and relative and better, text)


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
