"""What the operations page shows: model versions, events, requests, runs."""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import Request

from serving.gateway.errors import Refused
from serving.gateway.metrics import Metrics
from serving.gateway.models import ModelAway
from serving.gateway.page import runs
from serving.gateway.page.texts import Texts
from serving.gateway.page.visit import Visit, days
from serving.gateway.services import Services

_MINUTES = 60
_RECORD = Path("assets.extra", "push_record.json")
_RUNS = 6
_GOOD = ("complete", "AVAILABLE", "running", "cached")
_BAD = ("failed", "interrupted")


def check(request: Request, services: Services) -> None:
    """Lets operators in. Without `api_keys` that is everybody who reaches the port: this machine.

    A browser asks for a name and a password: the password is a key with the role operator.

    Raises:
      Refused: 401 without such a key, 403 with one of another role, 429 if it came too often.
    """
    kind, _, rest = request.headers.get("authorization", "").partition(" ")
    given = None
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            given = None
    try:
        services.keys.check(given, "operator")
    except Refused as refused:
        if refused.status == 401:
            raise Refused(401, str(refused), {"WWW-Authenticate": 'Basic realm="operations"'}) from refused
        raise


async def page(visit: Visit) -> dict[str, Any]:
    """What templates/operations.html shows."""
    now = dt.datetime.fromtimestamp(visit.services.clock.now(), dt.UTC)
    folder = visit.settings.runs_dir
    (versions, problem), minutes, found = await asyncio.gather(
        _versions(visit),
        _minutes(visit.services, now),
        visit.services.read(runs.latest, Path(folder), _RUNS, now) if folder else _nothing(),
    )
    t = visit.texts
    routes = _routes(visit.services.metrics)
    return {
        "stats": _stats(visit, versions, minutes, routes, now),
        "versions": [each.row for each in versions],
        "model_problem": problem,
        "minutes": _heights(minutes),
        "minutes_summary": t(
            "operations.minutes_summary", total=f"{sum(minutes):,}", most=f"{max(minutes, default=0):,}"
        ),
        "routes": [each.row() for each in routes],
        "runs": [_run(t, run) for run in found],
        "runs_note": t("operations.no_runs", folder=folder) if folder else t("operations.runs_off"),
    }


async def _nothing() -> list[runs.Run]:
    return []


# ---- model versions


@dataclasses.dataclass(frozen=True)
class _Version:
    """A version of the model server, with what its push record says, in unix seconds."""

    row: dict[str, Any]
    serving: bool
    version: int
    learned_until: float | None


async def _versions(visit: Visit) -> tuple[list[_Version], str]:
    """The versions, the newest first, and why there are none."""
    services, t = visit.services, visit.texts
    try:
        states, labels = await services.models.states()
    except ModelAway as away:
        return [], away.reason
    found = []
    for state in sorted(states, key=lambda each: -each.version):
        learned = await services.read(_learned_until, services.pushed, state.version)
        text = t.get(f"state.{state.state}") or state.state
        row = {
            "version": state.version,
            "state": text if not state.error_message else f"{text}: {state.error_message[:200]}",
            "kind": _kind(state.state),
            "label": ", ".join(label for label, version in labels.items() if version == state.version),
            "pushed": _minute(state.version) if state.version > 1_000_000_000 else "",
            "learned_until": _minute(learned),
        }
        found.append(_Version(row, state.state == "AVAILABLE", state.version, learned))
    return found, ""


def _learned_until(pushed: Path | None, version: int) -> float | None:
    """Unix seconds at which the data of a pushed version end; None where nobody says."""
    if pushed is None:
        return None
    try:
        record = json.loads((pushed / str(version) / _RECORD).read_text(encoding="utf-8"))
        return float(record["window"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _minute(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M} UTC"


# ---- events


async def _minutes(services: Services, now: dt.datetime) -> list[int]:
    """Events received in each of the last 60 minutes, the oldest first; [] while the store is away."""
    end = math.floor(now.timestamp() / 60) + 1
    try:
        counts = await services.read(services.store.events_per_minute, (end - _MINUTES) * 60, end * 60)
    except sa.exc.SQLAlchemyError:
        return []
    by_minute = dict(counts)
    return [by_minute.get(minute, 0) for minute in range(end - _MINUTES, end)]


def _heights(minutes: Sequence[int]) -> list[dict[str, float]]:
    """Bars of 60 units at most; what is not nothing can be seen."""
    most = max(minutes, default=0) or 1
    return [{"height": round(max(58 * count / most, 2.0), 1) if count else 0.5} for count in minutes]


# ---- requests


@dataclasses.dataclass(frozen=True)
class _Route:
    """Answers of one route since the process started.

    Attributes:
      route: its path.
      count: answers.
      errors: of these, with a status of 500 or more.
      buckets: (upper bound in seconds, answers up to it), as Prometheus counts them.
    """

    route: str
    count: int
    errors: int
    buckets: Sequence[tuple[float, float]]

    def milliseconds(self, share: float) -> str:
        """A quantile, from the histogram: linear inside its bucket, as Prometheus reckons."""
        wanted, before, low = share * self.count, 0.0, 0.0
        for bound, upto in self.buckets:
            if upto >= wanted and upto > before:
                if math.isinf(bound):
                    return f"> {low * 1000:,.0f}"
                return f"{1000 * (low + (bound - low) * (wanted - before) / (upto - before)):,.0f}"
            before, low = upto, bound
        return ""

    def row(self) -> dict[str, str]:
        """As the table shows it."""
        shown = {f"p{round(100 * share)}": self.milliseconds(share) for share in (0.5, 0.95, 0.99)}
        return {"route": self.route, "count": f"{self.count:,}", "errors": f"{self.errors:,}", **shown}


def _routes(metrics: Metrics) -> list[_Route]:
    """The routes that answered, the busiest first; static files are left out."""
    counts: dict[str, int] = {}
    errors: dict[str, int] = {}
    buckets: dict[str, list[tuple[float, float]]] = {}
    for labels, value in _samples(metrics, "shelfwise_gateway_requests", "_total"):
        counts[labels["route"]] = counts.get(labels["route"], 0) + int(value)
        if labels["status"] >= "500":
            errors[labels["route"]] = errors.get(labels["route"], 0) + int(value)
    for labels, value in _samples(metrics, "shelfwise_gateway_request_seconds", "_bucket"):
        buckets.setdefault(labels["route"], []).append((float(labels["le"]), value))
    found = [
        _Route(route, count, errors.get(route, 0), sorted(buckets.get(route, [])))
        for route, count in counts.items()
        if not route.startswith("/page/static")
    ]
    return sorted(found, key=lambda each: -each.count)


def _samples(metrics: Metrics, name: str, suffix: str) -> list[tuple[Mapping[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for family in metrics.registry.collect()
        if family.name == name
        for sample in family.samples
        if sample.name == f"{name}{suffix}"
    ]


# ---- the tiles above


def _stats(
    visit: Visit,
    versions: Sequence[_Version],
    minutes: Sequence[int],
    routes: Sequence[_Route],
    now: dt.datetime,
) -> list[dict[str, str]]:
    t, metrics = visit.texts, visit.services.metrics
    serving = next((each for each in versions if each.serving), None)
    learned = serving.learned_until if serving else None
    count, errors = sum(each.count for each in routes), sum(each.errors for each in routes)
    merged: dict[float, float] = {}
    for bound, upto in (bucket for each in routes for bucket in each.buckets):
        merged[bound] = merged.get(bound, 0) + upto
    whole = _Route("", count, errors, sorted(merged.items()))
    shown = _samples(metrics, "shelfwise_gateway_lists", "_total")
    lists = sum(value for _, value in shown)
    fallbacks = sum(value for labels, value in shown if labels["fallback"] == "true")
    last = minutes[-6:-1]  # the running minute is not over
    found = [
        (
            "model",
            str(serving.version) if serving else t("engine.none"),
            t("operations.stat.model_note", date=_minute(learned)) if learned else "",
            serving is None,
        ),
        ("model_age", *_age(t, learned, serving, now), False),
        ("events", f"{sum(last) / max(len(last), 1):.1f}", t("operations.stat.events_note"), False),
        ("errors", f"{errors:,}", t("operations.stat.errors_note", count=f"{count:,}"), errors > 0),
        (
            "fallbacks",
            f"{fallbacks:,.0f}",
            t("operations.stat.fallbacks_note", count=f"{lists:,.0f}"),
            fallbacks > 0,
        ),
        (
            "p99",
            f"{whole.milliseconds(0.99) or '–'} ms",
            t("operations.stat.p99_note", median=f"{whole.milliseconds(0.5) or '–'} ms"),
            False,
        ),
    ]  # fmt: skip
    return [
        {"name": t(f"operations.stat.{key}"), "value": value, "note": note, "kind": "bad" if bad else ""}
        for key, value, note, bad in found
    ]


def _age(t: Texts, learned: float | None, serving: _Version | None, now: dt.datetime) -> tuple[str, str]:
    """How old the data are, and how old they were at the push."""
    if learned is None or serving is None:
        return "–", ""
    value = t("operations.stat.days", count=f"{days(now.timestamp() - learned):,.0f}")
    if serving.version < learned:
        return value, ""
    return value, t("operations.stat.age_note", count=f"{days(serving.version - learned):,.0f}")


# ---- runs


def _run(t: Texts, run: runs.Run) -> dict[str, Any]:
    time = _time(run.seconds)
    done = [stage for stage in run.stages if stage.state in ("complete", "cached", "skipped")]
    now = next((stage for stage in run.stages if stage.state == "running"), None)
    facts = [t("operations.run_facts", started=f"{run.started:%Y-%m-%d %H:%M} UTC", time=time)]
    if now:
        facts.append(t("operations.run_now", stage=now.name, time=_time(now.seconds)))
    facts.append(t("operations.run_summary", done=len(done), count=len(run.stages), time=time))
    if run.pushed_version:
        facts.append(f"{t('operations.version')} {run.pushed_version}")
    return {
        "name": run.name,
        "state": t.get(f"state.{run.state}") or run.state,
        "kind": _kind(run.state),
        "facts": " · ".join(facts[:1] + facts[1:]),
        "summary": facts[-1] if not run.pushed_version else facts[-2],
        "error": run.error[:500],
        "bars": _stage_bars(run),
        "stages": [
            {
                "name": stage.name,
                "state": t.get(f"state.{stage.state}") or stage.state,
                "kind": _kind(stage.state),
                "seconds": f"{stage.seconds:,.1f}" if stage.state != "not_run" else "",
                "found": stage.found,
            }
            for stage in run.stages
        ],
    }


def _stage_bars(run: runs.Run) -> list[dict[str, Any]]:
    """Stages side by side, each as long as it took."""
    whole = sum(stage.seconds for stage in run.stages) or 1.0
    found, x = [], 0.0
    for stage in run.stages:
        width = 100 * stage.seconds / whole
        if width >= 0.05:
            title = f"{stage.name}: {_time(stage.seconds)}"
            found.append({"x": round(x, 2), "width": round(width, 2), "state": stage.state, "title": title})
        x += width
    return found


def _kind(state: str) -> str:
    return "good" if state in _GOOD else "bad" if state in _BAD else ""


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
