"""One experiment's report: arms, metrics, lifts, checks and a verdict, from its exposures."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

import numpy as np

from schema.config.experiments import Experiment
from schema.errors import DataError
from serving.experiments import inference, sample_ratio, sequential
from serving.experiments.columns import Exposures
from serving.experiments.moments import user_moments

MIN_OUTCOMES = 20.0
"""Effective number of users behind a numerator, in both arms, below which nothing is said of a lift."""
MISMATCH_LEVEL = 0.001
"""p-value below which the arms' sizes are called wrong."""
_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class Metric:
    """A ratio of sums over an arm.

    Attributes:
      name: in configurations.
      title: in reports.
      numerator: column of the exposures.
      denominator: column of the exposures, `lists` or `users`.
      higher_is_better: whether more is good.
    """

    name: str
    title: str
    numerator: str
    denominator: str
    higher_is_better: bool = True


METRICS = {
    metric.name: metric
    for metric in (
        Metric("ctr", "click-through rate", "clicked", "shown"),
        Metric("conversion", "conversion", "converted", "shown"),
        Metric("revenue_per_list", "revenue per list", "revenue", "lists"),
        Metric("revenue_per_user", "revenue per user", "revenue", "users"),
        Metric("lists_per_user", "lists per user", "lists", "users"),
        Metric("fallback_share", "share of fallbacks", "fallback", "lists", higher_is_better=False),
        Metric("latency_ms", "latency, ms", "latency_ms", "lists", higher_is_better=False),
    )
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A metric of an arm against the control.

    Attributes:
      metric: the metric.
      arm: name of the arm.
      control_value, value: of the control and of the arm.
      lift: relative, at the last day; NaN while there are too few outcomes.
      interval: of the lift, at one look: valid if this is the only one.
      sequence: of the lift, low and high at the end of each day, float64 [2, D]; valid at all looks together.
      path: the lift at the end of each day, float64 [D].
      p_value: always valid.
      reduction: share of the variance that the covariate took away; 0 without one.
      guardrail: "held", "breached" or "open" against its margin; None if it is no guardrail.
    """

    metric: Metric
    arm: str
    control_value: float
    value: float
    lift: float
    interval: tuple[float, float]
    sequence: np.ndarray
    path: np.ndarray
    p_value: float
    reduction: float
    guardrail: str | None


@dataclasses.dataclass(frozen=True)
class Report:
    """What an experiment's exposures say.

    Attributes:
      experiment: its configuration.
      days: the days, UTC, from the first exposure to the last.
      users: users by arm.
      lists: lists by arm.
      crossed: users who were seen in more than one arm; their lists are left out.
      mismatch: p-value of the arms' sizes, always valid.
      mismatch_one_look: p-value of the chi-square test.
      comparisons: by metric, then arm; the primary metric first.
      missing: metrics that the log has no column for.
      verdict: "invalid", "breached", "better", "worse" or "open".
      findings: why, a sentence each.
    """

    experiment: Experiment
    days: list[dt.date]
    users: dict[str, int]
    lists: dict[str, int]
    crossed: int
    mismatch: float
    mismatch_one_look: float
    comparisons: list[Comparison]
    missing: list[str]
    verdict: str
    findings: list[str]


def analyse(exposures: Exposures, experiment: Experiment) -> Report:
    """The report of an experiment.

    Args:
      exposures: its lists, with the outcomes that were attributed to them.
      experiment: its configuration: arms and weights, primary metric, guardrails, level.

    Returns:
      The report.

    Raises:
      DataError: there are no exposures, an arm is not of the experiment, or the primary metric or a
        guardrail is unknown or has no column.
    """
    names = [arm.name for arm in experiment.arms]
    _check(exposures, experiment, names)
    unit, arm, kept, crossed = _units(exposures, names)
    time = exposures.time[kept]
    first = int(time.min() // _DAY)
    day = (time // _DAY).astype(np.int64) - first
    days = [dt.date(1970, 1, 1) + dt.timedelta(days=first + offset) for offset in range(int(day.max()) + 1)]
    columns = {"lists": np.ones(len(time)), **{k: np.asarray(v)[kept] for k, v in exposures.values.items()}}
    fixed = _covariates(exposures.covariate, kept)
    moments = user_moments(
        arm,
        unit,
        day,
        np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1),
        fixed,
        (len(names), len(days)),
    )
    place = {"users": 0} | {name: 1 + fixed.shape[1] + index for index, name in enumerate(columns)}
    chosen = [metric for metric in _ordered(experiment) if {metric.numerator, metric.denominator} <= {*place}]
    comparisons = [
        comparison
        for metric in chosen
        for comparison in _compare(moments, metric, place, fixed.shape[1], experiment)
    ]
    counts = moments[:, :, 0, 0].T
    weights = np.array([one.weight for one in experiment.arms])
    mismatch = float(sample_ratio.p_values(counts, weights)[-1])
    verdict, findings = _judge(experiment, comparisons, mismatch, crossed, int(counts[-1].sum()))
    return Report(
        experiment=experiment,
        days=days,
        users={name: int(count) for name, count in zip(names, counts[-1], strict=True)},
        lists={name: int(np.sum(arm == index)) for index, name in enumerate(names)},
        crossed=crossed,
        mismatch=mismatch,
        mismatch_one_look=float(sample_ratio.one_look(counts[-1], weights)),
        comparisons=comparisons,
        missing=[metric.title for metric in METRICS.values() if metric not in chosen],
        verdict=verdict,
        findings=findings,
    )


def _check(exposures: Exposures, experiment: Experiment, names: Sequence[str]) -> None:
    """Whether the log can be of this experiment."""
    if not len(exposures):
        raise DataError(f"experiment '{experiment.name}': no list was shown in the period; give another one")
    unknown = set(np.unique(exposures.arm)) - {*names}
    if unknown:
        raise DataError(
            f"experiment '{experiment.name}': the log has arm '{min(unknown)}', the configuration "
            f"{list(names)}; "
            "give the configuration that the experiment ran with"
        )
    available = {"users", "lists", *exposures.values}
    for name in (experiment.primary_metric, *(rail.metric for rail in experiment.guardrails)):
        metric = METRICS.get(name)
        if metric is None:
            raise DataError(
                f"experiment '{experiment.name}': '{name}' is no metric; known are {', '.join(METRICS)}"
            )
        if not {metric.numerator, metric.denominator} <= available:
            raise DataError(
                f"experiment '{experiment.name}': metric '{name}' needs '{metric.numerator}' and "
                f"'{metric.denominator}', and the log has {sorted(available)}"
            )


def _units(exposures: Exposures, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Numbers of users and arms of the rows that are kept, those rows, and users of several arms."""
    _, unit = np.unique(exposures.unit, return_inverse=True)
    order = np.argsort(names)
    arm = order[np.searchsorted(np.asarray(names)[order], np.asarray(exposures.arm, str))]
    seen = np.zeros((int(unit.max()) + 1, len(names)), bool)
    seen[unit, arm] = True
    several = seen.sum(axis=1) > 1
    kept = ~several[unit]
    if not kept.any():
        raise DataError("exposures: every user was seen in several arms; the assignment is not sticky")
    return unit[kept], arm[kept], kept, int(several.sum())


def _covariates(covariate: np.ndarray | None, kept: np.ndarray) -> np.ndarray:
    """Covariates, float64 [E, X]: the value, 0 where unknown, and whether it is known."""
    if covariate is None:
        return np.zeros((int(kept.sum()), 0))
    values = np.asarray(covariate, np.float64)[kept]
    return np.stack([np.nan_to_num(values), np.isfinite(values)], axis=1).astype(np.float64)


def _ordered(experiment: Experiment) -> list[Metric]:
    """All metrics, the primary one first, then the guardrails."""
    names = [experiment.primary_metric, *(rail.metric for rail in experiment.guardrails), *METRICS]
    return [METRICS[name] for name in dict.fromkeys(names)]


def _compare(
    moments: np.ndarray, metric: Metric, place: dict[str, int], covariates: int, experiment: Experiment
) -> list[Comparison]:
    """A metric of all arms but the control. The level is divided among the arms (Bonferroni)."""
    found = inference.ratios(
        moments, place[metric.numerator], place[metric.denominator], range(1, 1 + covariates)
    )
    tau = sequential.mixture_sd(experiment.expected_lift)
    level = experiment.level / (len(experiment.arms) - 1)
    comparisons = []
    for index, arm in enumerate(experiment.arms[1:], start=1):
        lift = inference.lift(found, index)
        enough = np.minimum(found.outcomes[index], found.outcomes[0]) >= MIN_OUTCOMES
        log = np.where(enough, lift.log, np.nan)
        variance = np.where(enough & (lift.variance > 0), lift.variance, np.nan)
        radius = sequential.radius(variance, tau, level)
        low, high = sequential.running(log - radius, log + radius)
        ratio = sequential.log_likelihood_ratio(log, variance, tau)
        last = inference.Lift(log[-1], variance[-1])
        comparisons.append(
            Comparison(
                metric=metric,
                arm=arm.name,
                control_value=float(found.value[0, -1]),
                value=float(found.value[index, -1]),
                lift=float(last.relative),
                interval=tuple(float(end) for end in last.interval(level)),
                sequence=np.expm1(np.stack([low, high])),
                path=np.expm1(log),
                p_value=float(sequential.p_values(ratio)[-1]),
                reduction=float(np.nan_to_num(found.reduction[index, -1])),
                guardrail=_guardrail(metric, log, variance, tau, experiment),
            )
        )
    return comparisons


def _guardrail(
    metric: Metric, log: np.ndarray, variance: np.ndarray, tau: float, experiment: Experiment
) -> str | None:
    """Whether a loss above the margin is shown, excluded, or neither (one-sided, each at the level)."""
    margin = next((rail.margin for rail in experiment.guardrails if rail.metric == metric.name), None)
    if margin is None:
        return None
    level = experiment.level / (len(experiment.arms) - 1)
    radius = sequential.one_sided_radius(variance, tau, level)
    gain = log if metric.higher_is_better else -log
    least, most = np.fmax.reduce(gain - radius), np.fmin.reduce(gain + radius)
    limit = np.log1p(-margin) if metric.higher_is_better else -np.log1p(margin)
    if most < limit:
        return "breached"
    return "held" if least > limit else "open"


def _judge(
    experiment: Experiment, comparisons: Sequence[Comparison], mismatch: float, crossed: int, users: int
) -> tuple[str, list[str]]:
    """The verdict and why."""
    findings = []
    if mismatch < MISMATCH_LEVEL:
        findings.append(
            f"The arms' sizes are not what their weights say (p = {mismatch:.1g}): users are lost or gained "
            "because of their arm. Find out where before reading a metric."
        )
    if crossed > 0.01 * (crossed + users):
        findings.append(
            f"{crossed} users were seen in more than one arm, over 1 % of them: the weights or the name "
            f"changed "
            "while it ran, or people share an id."
        )
    if findings:
        return "invalid", findings
    for one in comparisons:
        if one.guardrail == "breached":
            findings.append(f"{one.arm}: {one.metric.title} is worse by more than its margin.")
    if findings:
        return "breached", findings
    verdict = "open"
    for one in comparisons:
        if one.metric.name != experiment.primary_metric:
            continue
        low, high = one.sequence[:, -1]
        sign = 1 if one.metric.higher_is_better else -1
        if low > 0 or high < 0:
            better = sign * (low if low > 0 else high) > 0
            found = "better" if better else "worse"
            verdict = found if verdict in ("open", "worse") else verdict
            findings.append(f"{one.arm}: {one.metric.title} is {found} than {experiment.control}'s.")
        elif np.isfinite(low):
            findings.append(
                f"{one.arm}: {one.metric.title} is not told apart from {experiment.control}'s so far."
            )
        else:
            findings.append(f"{one.arm}: too few outcomes of {one.metric.title} so far.")
    return verdict, findings
