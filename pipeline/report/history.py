"""The runs of a folder of runs: each one's summary stays when the next run replaces summary.json."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pipeline.report import summary as run_summary
from schema.errors import UserError

FOLDER = "history"  # in a run's folder: one summary a run, named by when it started


@dataclasses.dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
      name: "<pipeline>/<start>", such as "complete_journey/20261127-203005".
      folder: the pipeline's folder, in which later runs may have taken place.
      summary: what `pipeline.report.summary.build` gave.
    """

    name: str
    folder: Path
    summary: dict[str, Any]


def stamp(summary: dict[str, Any]) -> str:
    """When a run started, UTC, as part of a file's name: "20261127-203005"."""
    return str(summary["started"])[:19].replace("-", "").replace(":", "").replace("T", "-")


def keep(run_dir: Path, summary: dict[str, Any]) -> None:
    """Writes the summary as the run's own, which no later run replaces."""
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    run_summary.write(folder / f"{stamp(summary)}.json", summary)


def runs(folder: Path) -> list[Run]:
    """The runs of a pipeline's folder, the latest first.

    Of releases that kept no history the last run alone is known, by summary.json.

    Raises:
      UserError: a summary cannot be read.
    """
    paths = sorted((folder / FOLDER).glob("*.json"), reverse=True) or [folder / "summary.json"]
    found = [(path, _read(path)) for path in paths if path.exists()]
    return [Run(f"{folder.name}/{stamp(summary)}", folder, summary) for _, summary in found]


def all_runs(runs_dir: Path) -> list[Run]:
    """The runs of all pipelines below a folder, the latest first.

    Raises:
      UserError: there is no such folder, or a summary cannot be read.
    """
    if not runs_dir.is_dir():
        raise UserError(f"{runs_dir}: no such folder; name that of the runs with --runs-dir")
    folders = [path for path in sorted(runs_dir.iterdir()) if path.is_dir()]
    found = [run for folder in folders for run in runs(folder)]
    return sorted(found, key=lambda run: (stamp(run.summary), run.name), reverse=True)


def find(name: str, runs_dir: Path) -> Run:
    """The run that a person means.

    Args:
      name: as `shelfwise runs` prints it, or the beginning of it; a pipeline's name alone, or its folder,
        is its latest run.
      runs_dir: folder of the runs.

    Raises:
      UserError: there is none, or several of different moments begin alike and are not of one pipeline.
    """
    if (Path(name) / "summary.json").is_file():
        return runs(Path(name))[0]
    known = all_runs(runs_dir)
    matching = [run for run in known if run.name == name or run.name.startswith(f"{name}/")]
    matching = matching or [run for run in known if run.name.startswith(name)]
    if not matching:
        shown = ", ".join(run.name for run in known[:5]) or "none"
        raise UserError(f"{name}: no such run in {runs_dir}; the latest are {shown}")
    if len({run.folder for run in matching}) > 1:
        raise UserError(f"{name}: means {', '.join(run.name for run in matching[:5])}; name one of them")
    return matching[0]


def _read(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        stamp(summary)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no summary of a run ({error}); remove the file") from error
    return summary
