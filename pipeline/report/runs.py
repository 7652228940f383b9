"""`shelfwise runs`: the runs of a folder, one a line, the latest first.

python -m pipeline.report.runs --runs-dir runs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.formats import format_seconds
from pipeline.report import history
from schema.errors import UserError

_COLUMNS = ("run", "state", "time", "figure", "all", "novel", "pushed", "")
_TASKS = ("all", "novel")


def lines(runs: Sequence[history.Run]) -> list[str]:
    """A table: the run, how it ended, how long it took, its figures, and the version that it pushed.

    A run's figures are of its own evaluation window: `shelfwise compare` says what differs.
    """
    rows = [_COLUMNS, *(_row(run) for run in runs)]
    return [line.rstrip() for line in aligned(rows, right=(2, 4, 5))]


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of text as lines with columns of one width; those in `right` stand at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _row(run: history.Run) -> tuple[str, ...]:
    summary = run.summary
    metric = summary.get("primary_metric", "ndcg@10")
    funnel = summary["metrics"]["funnel"]
    values = [funnel.get(task, {}).get(metric) for task in _TASKS]
    note = (summary.get("error") or {}).get("message", "")
    if not note and summary["blessed"] is False:
        note = "not blessed"
    return (
        run.name,
        summary["state"],
        format_seconds(summary["total_seconds"]),
        metric if any(value is not None for value in values) else "",
        *("-" if value is None else f"{value:.4f}" for value in values),
        summary["pushed_version"] or "-",
        note[:100],
    )


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Arguments that commands about kept runs share."""
    found = argparse.ArgumentParser(prog=prog, description=description)
    found.add_argument("--runs-dir", metavar="DIR", default="runs", help="folder of the runs (default: runs)")
    return found


def main(argv: list[str] | None = None, *, prog: str = "python -m pipeline.report.runs") -> int:
    """The command, called `prog` in its help; returns the exit status."""
    args = parser(prog, "Lists the runs, the latest first.").parse_args(argv)
    try:
        found = history.all_runs(Path(args.runs_dir))
        if not found:
            raise UserError(f"{args.runs_dir}: no run has ended here yet; start one with `shelfwise run`")
        print("\n".join(lines(found)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
