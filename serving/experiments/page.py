"""The report as text for a terminal and as one self-contained HTML page."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import jinja2

from schema.errors import UserError
from serving.experiments import charts
from serving.experiments.report import Comparison, Report

_TEMPLATES = Path(__file__).parent / "templates"
VERDICTS = {
    "invalid": "The comparison is not valid",
    "breached": "A guardrail is breached: stop",
    "better": "Better: can be rolled out",
    "worse": "Worse: stop",
    "open": "No decision yet",
}


def number(value: float) -> str:
    """A metric's value in four significant digits; a dash for NaN."""
    return "–" if value != value else f"{value:.4g}"


def as_text(report: Report) -> str:
    """The report as lines of a terminal."""
    experiment = report.experiment
    arms = ", ".join(
        f"{name} {users:,} users, {report.lists[name]:,} lists" for name, users in report.users.items()
    )
    rows = [("metric", "arm", "control", "value", "lift", "at all looks", "p", "guardrail")]
    for one in report.comparisons:
        rows.append(
            (
                one.metric.title,
                one.arm,
                number(one.control_value),
                number(one.value),
                charts.percent(one.lift),
                span(one),
                number(one.p_value),
                one.guardrail or "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(
        [
            f"{experiment.name}: {VERDICTS[report.verdict]}",
            f"{report.days[0]} to {report.days[-1]}; {arms}",
            f"arms' sizes: p = {report.mismatch:.3g} at all looks, {report.mismatch_one_look:.3g} at this "
            f"one; "
            f"{report.crossed} users in several arms",
            "",
            *(line.rstrip() for line in table),
            "",
            *report.findings,
            *([f"not in the log: {', '.join(report.missing)}"] if report.missing else []),
        ]
    )


def span(one: Comparison) -> str:
    """The last interval of the confidence sequence, `-1.2 % to +4.0 %`."""
    low, high = one.sequence[:, -1]
    return "–" if low != low else f"{charts.percent(low)} to {charts.percent(high)}"


def render(report: Report) -> str:
    """The page as HTML, without any reference to another file or the network."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"num": number, "percent": charts.percent, "span": span}
    days = [day.isoformat() for day in report.days]
    arms = [arm.name for arm in report.experiment.arms[1:]]
    return environment.get_template("report.html.j2").render(
        report=report,
        title=VERDICTS[report.verdict],
        mood={"better": "good", "open": ""}.get(report.verdict, "bad"),
        forests=[_forest(report, arm) for arm in arms],
        curves=[
            charts.sequence(f"{one.metric.title}, {one.arm}: lift by day", days, list(one.path), one.sequence)
            for one in report.comparisons
            if one.metric.name == report.experiment.primary_metric or one.guardrail
        ],
    )


def write(report: Report, path: str | Path) -> Path:
    """Writes the page, whole or not at all.

    Returns:
      The path.

    Raises:
      UserError: it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".report-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(render(report))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise UserError(
            f"--output {path}: cannot be written ({error.strerror}); give another file"
        ) from error
    return path


def _forest(report: Report, arm: str) -> str:
    rows = []
    for one in report.comparisons:
        if one.arm == arm:
            low, high = (float(end) for end in one.sequence[:, -1])
            worse = (low > 0) != one.metric.higher_is_better
            rows.append((one.metric.title, one.lift, low, high, worse))
    return charts.intervals(f"{arm} against {report.experiment.control}: lift, valid at all looks", rows)
