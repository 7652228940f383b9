"""Runs of the pipeline for the operations page, as plain files: the gateway imports nothing of `pipeline`.

A run that ended has left its summary in `<runs>/<pipeline>/history/<start>.json`; one that goes on holds
`<runs>/<pipeline>/.lock`, where its process id stands, and says in `run.log` which component starts.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import re
from pathlib import Path
from typing import Any

_LOG_BYTES = 4 << 20  # of a log's end: a run writes about 1 MB
_LINE = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ I root component (\S+?)(?: starts|: (\w+), (.*))$", re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One component of a run: state is complete, cached, failed, skipped, running or not_run."""

    name: str
    state: str
    seconds: float
    found: str


@dataclasses.dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
      name: "<pipeline>/<start>", as `shelfwise runs` prints it.
      state: complete, failed, interrupted or running.
      started: in UTC.
      seconds: how long it took, or has taken so far.
      stages: those that ran, in order, and those that did not.
      pushed_version: what it pushed, "" for nothing.
      error: why it failed, "" if it did not.
    """

    name: str
    state: str
    started: dt.datetime
    seconds: float
    stages: tuple[Stage, ...]
    pushed_version: str = ""
    error: str = ""


def latest(runs_dir: Path, count: int, now: dt.datetime) -> list[Run]:
    """The last runs below a folder, the newest first; one that goes on counts as the newest.

    Args:
      runs_dir: folder of the runs; need not exist.
      count: runs at most.
      now: with a time zone.

    Returns:
      What can be read: a summary that is half written or of another format is left out.
    """
    if not runs_dir.is_dir():
        return []
    found: list[Run] = []
    for folder in sorted(path for path in runs_dir.iterdir() if path.is_dir()):
        ended = _ended(folder, count)
        live = _live(folder, ended, now)
        found += [live, *ended] if live else ended
    return sorted(found, key=lambda run: (run.state == "running", run.started), reverse=True)[:count]


def _ended(folder: Path, count: int) -> list[Run]:
    paths = sorted((folder / "history").glob("*.json"), reverse=True)[:count]
    found = [_summary(folder.name, path) for path in paths or [folder / "summary.json"]]
    return [run for run in found if run is not None]


def _summary(pipeline: str, path: Path) -> Run | None:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        started = _utc(dt.datetime.fromisoformat(summary["started"]))
        stages = [_stage(stage) for stage in summary["stages"]]
        stages += [Stage(str(name), "not_run", 0.0, "") for name in summary.get("not_run", [])]
        return Run(
            name=f"{pipeline}/{started:%Y%m%d-%H%M%S}",
            state=str(summary["state"]),
            started=started,
            seconds=float(summary["total_seconds"]),
            stages=tuple(stages),
            pushed_version=str(summary.get("pushed_version") or ""),
            error=str((summary.get("error") or {}).get("message", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _stage(stage: dict[str, Any]) -> Stage:
    state = "cached" if stage.get("cached") else str(stage["state"])
    return Stage(str(stage["name"]), state, float(stage["seconds"]), str(stage.get("found") or ""))


def _live(folder: Path, ended: list[Run], now: dt.datetime) -> Run | None:
    """The run that holds the folder's lock, from the end of its log; None if none does."""
    if not _held(folder / ".lock"):
        return None
    since = ended[0].started + dt.timedelta(seconds=ended[0].seconds) if ended else None
    lines = [line for line in _lines(folder / "run.log") if since is None or line[0] > since]
    if not lines:
        return None
    known = [stage.name for stage in ended[0].stages] if ended else []
    stages: dict[str, Stage] = {}
    begun: dict[str, dt.datetime] = {}
    for at, name, state, what in lines:
        begun.setdefault(name, at)
        end = at if state else now
        stages[name] = Stage(name, state or "running", max((end - begun[name]).total_seconds(), 0.0), what)
    rest = [Stage(name, "not_run", 0.0, "") for name in known if name not in stages]
    started = lines[0][0]
    return Run(
        name=f"{folder.name}/{started:%Y%m%d-%H%M%S}",
        state="running",
        started=started,
        seconds=max((now - started).total_seconds(), 0.0),
        stages=(*stages.values(), *rest),
    )


def _held(lock: Path) -> bool:
    """Whether the process lives that wrote its id there: to try the lock could stop a run's start."""
    try:
        os.kill(int(lock.read_text(encoding="ascii").strip()), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _lines(log: Path) -> list[tuple[dt.datetime, str, str, str]]:
    """Time, component, state ("" for a start) and what it found, of the lines that a run writes of itself."""
    try:
        with open(log, "rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _LOG_BYTES, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [
        (_utc(dt.datetime.fromisoformat(at)), name, state or "", found or "")
        for at, name, state, found in _LINE.findall(text)
    ]


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC)  # a log's times are of this machine's zone
