"""`shelfwise compare A B`: what two runs were told, and what they reached, side by side.

python -m pipeline.report.compare complete_journey/20261127-203005 complete_journey
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.formats import format_bytes, format_seconds
from pipeline.report import history, sections
from pipeline.report.runs import aligned, parser
from schema.errors import UserError

_UNKNOWN = "?"  # the configuration of a run of a release that did not keep it
_ABSENT = "-"


def lines(one: history.Run, other: history.Run) -> list[str]:
    """The comparison of two runs: settings and software that differ, figures, seconds of components."""
    tables = {
        "": _ends(one, other),
        "settings that differ": _differing(_settings(one), _settings(other)),
        "software that differs": _differing(one.summary["versions"], other.summary["versions"]),
        "figures": _figures(_metrics(one), _metrics(other)),
        "processor seconds": _costs(one, other),
    }
    out: list[str] = []
    for title, rows in tables.items():
        if title:
            out += ["", title if rows else f"{title}: none"]
        out += [f"  {line}".rstrip() for line in aligned(rows, right=(1, 2, 3))] if rows else []
    return out


def _ends(one: history.Run, other: history.Run) -> list[list[str]]:
    both = (one, other)
    return [
        ["", *(run.name for run in both)],
        ["state", *(run.summary["state"] for run in both)],
        ["time", *(format_seconds(run.summary["total_seconds"]) for run in both)],
        ["peak memory", *(format_bytes(run.summary["peak_memory_bytes"]) for run in both)],
        ["pushed", *(run.summary["pushed_version"] or _ABSENT for run in both)],
    ]


def _settings(run: history.Run) -> dict[str, Any] | None:
    tree = run.summary.get("configuration")
    return None if tree is None else dict(_leaves(tree))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of all values below sections."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _differing(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[list[str]]:
    if one is None and other is None:
        return []
    rows = []
    for name in sorted({*(one or {}), *(other or {})}):
        pair = [_UNKNOWN if values is None else _shown(values, name) for values in (one, other)]
        if pair[0] != pair[1]:
            rows.append([name, *pair])
    return rows


def _shown(values: Mapping[str, Any], name: str) -> str:
    return str(values[name]) if name in values else _ABSENT


def _metrics(run: history.Run) -> dict[tuple[str, str], float]:
    """(system and task, metric) -> value of everything that was measured."""
    metrics = run.summary["metrics"]
    found = {}
    for system, tasks in {"funnel": metrics["funnel"], **metrics["baselines"]}.items():
        for task, values in tasks.items():
            for name, value in values.items():
                found[f"{system}, {task}", name] = value
    return found | {("ranking head", name): value for name, value in metrics["ranking"].items()}


def _figures(one: Mapping[tuple[str, str], Any], other: Mapping[tuple[str, str], Any]) -> list[list[str]]:
    rows = []
    order = {whose: place for place, (whose, _) in enumerate([*one, *other])}
    keys = sorted({*one, *other}, key=lambda key: (order[key[0]], sections.metric_key(key[1])))
    for whose, name in keys:
        left, right = (values.get((whose, name)) for values in (one, other))
        if left is not None or right is not None:
            change = "" if left is None or right is None else f"{right - left:+.4f}"
            rows.append([f"{whose} {name}", _figure(left), _figure(right), change])
    return rows


def _figure(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.4f}"


def _costs(one: history.Run, other: history.Run) -> list[list[str]]:
    """Of each component that worked in one of the runs: a cached one costs nothing."""
    stages = [{stage["name"]: stage for stage in run.summary["stages"]} for run in (one, other)]
    rows = []
    for name in dict.fromkeys([*stages[0], *stages[1]]):
        cells = [_cost(found.get(name)) for found in stages]
        if any(cell[0].isdigit() for cell in cells):
            rows.append([name, *cells])
    return rows


def _cost(stage: Mapping[str, Any] | None) -> str:
    if stage is None or stage.get("processor_seconds") is None:
        return _ABSENT
    return "cached" if stage["cached"] else f"{stage['processor_seconds']:.1f}"


def main(argv: list[str] | None = None, *, prog: str = "python -m pipeline.report.compare") -> int:
    """The command, called `prog` in its help; returns the exit status."""
    arguments = parser(prog, "Shows settings and figures of two runs side by side.")
    for name in ("one", "other"):
        arguments.add_argument(
            name, metavar=name.upper(), help="as `shelfwise runs` prints it; a pipeline alone: its latest run"
        )
    args = arguments.parse_args(argv)
    try:
        print("\n".join(lines(*(history.find(name, Path(args.runs_dir)) for name in (args.one, args.other)))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
