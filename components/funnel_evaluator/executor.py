"""Scores the whole funnel on the whole catalogue, compares it with baselines, and decides the blessing.

See `components.common.protocol` for what is asked, `systems` for who answers and `verdict` for the
conditions of the blessing.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import tensorflow as tf

from components.common import artifacts, metrics, slicing
from components.common.protocol import TASKS, Protocol
from components.common.registry import Reference
from components.common.windows import Windows
from components.funnel_evaluator import calibration, systems, verdict
from models.data import arrays
from models.data.event_log import EventLog
from schema.config import Candidates, Quality, Users
from schema.errors import UserError

# Smaller groups of users say more about chance than about the model.
_MIN_SLICE = 20
_PAGE = 20  # diversity, novelty and popularity are those of a page, not of a hundred items


def run(
    log: EventLog,
    windows: Windows,
    model_folder: str,
    last: Reference | None,
    ranking_blessed: bool,
    users: Users | None,
    users_uri: str | None,
    candidates: Candidates,
    quality: Quality,
    lists: str,
    output: str,
) -> dict[str, object]:
    """Evaluates, writes and decides.

    Args:
      log: all events up to the end of the evaluation window.
      windows: past and future.
      model_folder: the candidate SavedModel.
      last: the pushed version that the model is compared with, None if there is none.
      ranking_blessed: whether the Evaluator blessed the ranking head.
      users, users_uri: for slices.
      candidates: `min_events`, `history_length`.
      quality: metrics and thresholds.
      lists: CandidateSampler's split `full`.
      output: folder; gets metrics.json and recommendations.<task>.parquet (`user_id`, `rank`
        from 1, `item_id`).

    Returns:
      The contents of metrics.json.

    Raises:
      UserError: `quality.primary_metric` or `quality.must_beat` names something unknown.
    """
    protocol = Protocol.of(log, windows, candidates.min_events)
    k = max(quality.ks)
    model = tf.saved_model.load(model_folder)
    compared = {"funnel": systems.servable(model, protocol, candidates.history_length, k)}
    others = systems.baselines(protocol, k)
    unknown = set(quality.must_beat) - set(others)
    if unknown:
        raise UserError(f"quality.must_beat: unknown baseline {sorted(unknown)}; known are {sorted(others)}")
    compared |= others
    if last:
        blessed = tf.saved_model.load(last.folder)
        compared["last_blessed"] = systems.servable(blessed, protocol, candidates.history_length, k)
    # every system's lists are compared by the same vectors
    vectors = systems.item_vectors(model, protocol)
    share, own_share = _popularity(protocol.seen)
    pages = [k for k in quality.ks if k <= _PAGE]

    scores: dict[str, dict[str, dict[str, float]]] = {name: {} for name in compared}
    values: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    asked_users = {}
    for task in TASKS:
        asked = protocol.users(task)
        if quality.max_users is not None:
            asked = asked[np.random.default_rng(0).permutation(len(asked))[: quality.max_users]]
        asked_users[task] = asked
        if not len(asked):
            continue
        relevant = protocol.relevant[task][asked]
        for name, recommend in compared.items():
            top = recommend(asked, task)
            values[name, task] = metrics.per_user(top, relevant, quality.ks)
            values[name, task] |= metrics.of_lists(top, vectors, share, own_share[asked], pages)
            scores[name][task] = metrics.summarise(
                values[name, task], top, len(protocol.catalogue), quality.ks
            )
            if name == "funnel":
                _write_lists(protocol, asked, top, artifacts.recommendations_path(output, task))
    _check_measured(quality.primary_metric, values["funnel", "all"])
    counts = {task: len(asked) for task, asked in asked_users.items()}
    slices = slicing.user_slices(protocol.past, users, users_uri)
    calibrated = calibration.measure(model, lists, tuple(log.contexts))
    checks = verdict.checks(
        values, counts, quality, ranking_blessed, last, calibrated["purchase"], windows.by_time
    )
    result = {
        "n_users": counts,
        "catalogue": len(protocol.catalogue),
        "window": {"start": windows.cutoff, "end": windows.end},
        "funnel": scores["funnel"],
        "baselines": {name: scores[name] for name in others},
        "slices": _sliced(values, asked_users, slices, quality.primary_metric),
        "paired": _paired(values, counts),
        "calibration": calibrated,
        "standing": verdict.standings(values, counts, quality, last),
        "blessed": all(check.passed for check in checks),
        "reasons": [check.text for check in checks],
        "checks": [dataclasses.asdict(check) for check in checks],
    }
    if last:
        result["last_blessed"] = scores["last_blessed"]
    tf.io.gfile.makedirs(output)
    with tf.io.gfile.GFile(os.path.join(output, artifacts.METRICS), "w") as file:
        json.dump(result, file, indent=1)
    return result


def _check_measured(primary: str, measured: Mapping[str, np.ndarray]) -> None:
    if primary not in measured:
        raise UserError(f"quality.primary_metric: '{primary}' is not measured; known are {sorted(measured)}")


def _popularity(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of users who had each item, and its mean over each user's own items.

    Args:
      seen: bool [users, M], what each user had.

    Returns:
      (float64 [M], float32 [users]).
    """
    share = seen.sum(0) / max(seen.any(1).sum(), 1)
    own = seen.astype(np.float32) @ share.astype(np.float32)
    own /= np.maximum(seen.sum(1), 1)
    return share, own


def _paired(
    values: Mapping[tuple[str, str], dict[str, np.ndarray]], counts: Mapping[str, int]
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """other -> task -> metric -> [mean difference funnel - other, its standard error]."""
    out: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (name, task), theirs in values.items():
        if name == "funnel" or not counts[task]:
            continue
        ours = values["funnel", task]
        out.setdefault(name, {})[task] = {
            metric: [float((ours[metric] - value).mean()), metrics.standard_error(ours[metric] - value)]
            for metric, value in theirs.items()
        }
    return out


def _sliced(
    values: Mapping[tuple[str, str], Mapping[str, np.ndarray]],
    users: Mapping[str, np.ndarray],
    slices: Mapping[str, np.ndarray],
    primary: str,
) -> dict[str, dict[str, object]]:
    """Every task's figures of every group of users, with the paired difference to each system.

    Args:
      values: (system, task) -> metric -> float [users of the task].
      users: task -> int [users], indices of the log.
      slices: name -> object (str) [users of the log], the group of each.
      primary: the metric whose differences are given.

    Returns:
      "name=group" -> `n_users`, and task -> figures.
    """
    out: dict[str, dict[str, object]] = {}
    for task, asked in users.items():
        if not len(asked):
            continue
        ours = values["funnel", task]
        others = {name: theirs for (name, of), theirs in values.items() if of == task and name != "funnel"}
        for name, groups in slices.items():
            for group in np.unique(groups[asked].astype(str)):
                chosen = groups[asked].astype(str) == group
                if chosen.sum() < _MIN_SLICE:
                    continue
                entry = out.setdefault(f"{name}={group}", {"n_users": int(chosen.sum())})
                entry["n_users"] = max(int(entry["n_users"]), int(chosen.sum()))
                of_group = {metric: float(value[chosen].mean()) for metric, value in ours.items()}
                of_group |= {
                    f"{metric}_se": metrics.standard_error(value[chosen]) for metric, value in ours.items()
                }
                paired = {}
                for other, theirs in others.items():
                    apart = (ours[primary] - theirs[primary])[chosen]
                    paired[other] = [float(apart.mean()), metrics.standard_error(apart)]
                entry[task] = of_group | {"paired": {primary: paired}}
    return out


def _write_lists(protocol: Protocol, users: np.ndarray, top: np.ndarray, path: str) -> None:
    place, rank = np.nonzero(top >= 0)
    table = pa.table(
        {
            "user_id": protocol.log.users[users[place]],
            "rank": rank + 1,
            "item_id": protocol.log.items[protocol.catalogue[top[place, rank]]],
        }
    )
    arrays.save_parquet(path, table)
