"""Scores the whole funnel on the whole catalogue, beside baselines, and decides the blessing.

Protocol: at the cut-off every user asks once; relevant is what the user then buys in the
window. Task `all` counts every item of the catalogue, task `novel` only items that the user
never bought before (those are excluded from the request). The catalogue is every item with
`min_events` past events; users are those with a past catalogue event and a relevant item.

Calibration is measured on every candidate of a sample of users who came back in the window,
whether or not they bought one: CandidateSampler's split `full`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from components.candidate_sampler.executor import tensor
from components.common import metrics, slicing, standing
from components.common.candidate_lists import padded, request_inputs
from components.common.registry import Reference
from components.common.windows import Windows
from models.data import arrays, example_io
from models.data.event_log import EventLog
from models.ranking.calibration import expected_calibration_error, reliability
from schema import names as F
from schema.config import Candidates, Quality, Users
from schema.errors import DataError, UserError

TASKS = ("all", "novel")
METRICS = "metrics.json"
_BATCH = 32
_RECENT_DAYS = 28
# Smaller groups of users say more about chance than about the model.
_MIN_SLICE = 20
_BINS = 20  # of the reliability curve
_PAGE = 20  # diversity, novelty and popularity are those of a page, not of a hundred items

Recommend = Callable[[np.ndarray, str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is asked and what is relevant.

    Attributes:
      log: all events of past and future.
      past: the events before the cut-off.
      windows: the cut-off.
      catalogue: int [M], items (indices of `log.items`) that may be recommended.
      column: int [I], column of each item in the catalogue, M where it is not in it.
      relevant: task -> bool [users of the log, M].
      seen: bool [users of the log, M], bought before the cut-off.
      moments: int64 [users of the log], unix seconds at which each user asks.
    """

    log: EventLog
    past: EventLog
    windows: Windows
    catalogue: np.ndarray
    column: np.ndarray
    relevant: dict[str, np.ndarray]
    seen: np.ndarray
    moments: np.ndarray

    @classmethod
    def of(cls, log: EventLog, windows: Windows, min_events: int) -> Protocol:
        """Sets the protocol up.

        Raises:
          DataError: nobody buys anything from the catalogue in the window.
        """
        past, future = windows.divide(log)
        lines = np.bincount(past.item, minlength=len(log.items))
        catalogue = np.flatnonzero(lines >= min_events)
        column = np.full(len(log.items), len(catalogue))
        column[catalogue] = np.arange(len(catalogue))

        def pairs(events: EventLog) -> np.ndarray:
            out = np.zeros((len(log.users), len(catalogue) + 1), bool)
            out[events.user, column[events.item]] = True
            return out[:, :-1]

        seen, bought = pairs(past), pairs(future)
        bought &= seen.any(1, keepdims=True)
        if not bought.any():
            raise DataError(
                "nobody who bought before buys anything from the catalogue in the evaluation window; "
                "check split.eval_days / split.test_days and candidates.min_events"
            )
        relevant = {"all": bought, "novel": bought & ~seen}
        return cls(log, past, windows, catalogue, column, relevant, seen, windows.moments(future))

    def users(self, task: str) -> np.ndarray:
        """Users (indices of the log) with a relevant item, int [U]."""
        return np.flatnonzero(self.relevant[task].any(1))


def servable(model: Any, protocol: Protocol, history_length: int, k: int) -> Recommend:
    """Recommendations of a SavedModel through its `recommend` signature.

    Args:
      model: a loaded SavedModel.
      protocol: whose histories are asked with.
      history_length: events a request carries.
      k: items asked for.

    Returns:
      A function of (users int [U], task) that gives int [U, k] catalogue columns, -1 = none.
    """
    signature = model.signatures["recommend"]
    log, names = protocol.log, pd.Index(protocol.log.items)
    catalogue_ids = log.items[protocol.catalogue]

    def recommend(users: np.ndarray, task: str) -> np.ndarray:
        out = np.full((len(users), k), -1)
        for start in range(0, len(users), _BATCH):
            batch = users[start : start + _BATCH]
            inputs = protocol.past.histories(batch, protocol.moments, history_length)
            inputs[F.CONTEXT_TIMESTAMP] = protocol.moments[batch]
            excluded = [
                catalogue_ids[row].tolist() if task == "novel" else [] for row in protocol.seen[batch]
            ]
            longest = max(1, *(len(row) for row in excluded))
            inputs[F.EXCLUDE_ITEM_ID] = np.asarray(
                [row + [""] * (longest - len(row)) for row in excluded], object
            )
            inputs[F.CATEGORY] = np.full((len(batch), 1), "", object)
            inputs[F.K] = np.full(len(batch), k, np.int32)
            # as the shop shows them
            inputs |= {
                name: np.full(len(batch), -1, np.float32) for name in (F.DIVERSITY, F.DROP_BOUGHT_DAYS)
            }
            answer = signature(**{name: tensor(value) for name, value in inputs.items()})
            ids = answer[F.ITEM_ID].numpy().astype(str).astype(object)
            known = names.get_indexer(ids.ravel()).reshape(ids.shape)
            column = np.where(known >= 0, np.append(protocol.column, -1)[known], -1)
            # an item outside the catalogue wastes its place
            out[start : start + len(batch)] = np.where(column < len(protocol.catalogue), column, -1)
        return out

    return recommend


def item_vectors(model: Any, protocol: Protocol) -> np.ndarray:
    """The servable's vectors of the catalogue, float32 [M, D]: unit vectors, zeros where unknown."""
    ids = protocol.log.items[protocol.catalogue]
    parts = [
        model.signatures["embed_item"](item_id=tensor(ids[start : start + 4096]))[F.EMBEDDING].numpy()
        for start in range(0, len(ids), 4096)
    ]
    vectors = np.concatenate(parts)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def calibration(model: Any, folder: str, contexts: tuple[str, ...]) -> dict[str, object]:
    """What the heads said of every candidate of some users, and what happened.

    Args:
      model: a loaded SavedModel, asked through its signature `rank`.
      folder: CandidateSampler's split `full`.
      contexts: context names.

    Returns:
      `users`, `candidates`; of the heads `purchase` and `repeat` the `ece`, the means `predicted`
      and `observed` and the reliability `curve` in bins of equal mass; of `value` the means.
    """
    table = example_io.read_table(folder)
    rows: dict[str, list[np.ndarray]] = {}
    for start in range(0, table.num_rows, _BATCH):
        part = table.slice(start, _BATCH)
        inputs = request_inputs(part, contexts) | {F.CANDIDATE_ITEM_ID: padded(part, F.CANDIDATE_ITEM_ID, "")}
        answer = model.signatures["rank"](**{name: tensor(value) for name, value in inputs.items()})
        weight = padded(part, F.CANDIDATE_WEIGHT, 0.0)
        found = {name: answer[name].numpy() for name in (F.P_PURCHASE, F.P_REPEAT, F.EXPECTED_VALUE)}
        found |= {name: padded(part, name, 0.0) for name in (F.LABEL, F.LABEL_REPEAT, F.LABEL_VALUE)}
        for name, values in (found | {"weight": weight}).items():
            rows.setdefault(name, []).append(values[weight > 0].astype(np.float64))
    column = {name: np.concatenate(values) for name, values in rows.items()}
    out: dict[str, object] = {"users": table.num_rows, "candidates": len(column["weight"])}
    heads = {
        "purchase": (F.P_PURCHASE, F.LABEL),
        "repeat": (F.P_REPEAT, F.LABEL_REPEAT),
        "value": (F.EXPECTED_VALUE, F.LABEL_VALUE),
    }
    for head, (said, happened) in heads.items():
        predicted, observed, weight = column[said], column[happened], column["weight"]
        measured: dict[str, object] = {
            "predicted": float(np.average(predicted, weights=weight)),
            "observed": float(np.average(observed, weights=weight)),
        }
        if head != "value":
            curve = reliability(predicted, observed, weight, _BINS)
            measured |= {"ece": expected_calibration_error(curve), "curve": curve}
        out[head] = measured
    return out


def baselines(protocol: Protocol, k: int) -> dict[str, Recommend]:
    """Popularity (lines), recent popularity (users of the last 28 days) and personal frequency."""
    past, size = protocol.past, len(protocol.catalogue)
    column = protocol.column[past.item]
    age = (protocol.windows.cutoff - past.timestamp) / F.SECONDS_PER_DAY
    popularity = np.bincount(column, minlength=size + 1)[:size].astype(np.float64)
    recent = np.unique(
        past.user[age <= _RECENT_DAYS].astype(np.int64) * (size + 1) + column[age <= _RECENT_DAYS]
    )
    recent = np.bincount(recent % (size + 1), minlength=size + 1)[:size].astype(np.float64)
    order = np.argsort(past.user, kind="stable")
    start = np.searchsorted(past.user[order], np.arange(len(protocol.log.users) + 1))

    def frequency(user: int) -> np.ndarray:
        mine = column[order[start[user] : start[user + 1]]]
        # counts are whole numbers: popularity only breaks their ties
        return np.bincount(mine, minlength=size + 1)[:size] + popularity / (popularity.max() + 1)

    def by(score_of: Callable[[int], np.ndarray]) -> Recommend:
        def recommend(users: np.ndarray, task: str) -> np.ndarray:
            out = np.full((len(users), k), -1)
            for place, user in enumerate(users):
                score = score_of(int(user)).copy()
                if task == "novel":
                    score[protocol.seen[user]] = -np.inf
                last = np.partition(score, size - min(k, size))[size - min(k, size)]
                better = np.flatnonzero(score > last)
                # counts tie often: without an order among equals the cut at k would be a coin's
                top = np.append(better, np.flatnonzero(score == last)[: min(k, size) - len(better)])
                top = top[np.lexsort((top, -score[top]))]
                out[place, : len(top)] = np.where(np.isfinite(score[top]), top, -1)
            return out

        return recommend

    return {
        "popularity": by(lambda user: popularity),
        "popularity_recent": by(lambda user: recent),
        "personal_frequency": by(frequency),
    }


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
    systems = {"funnel": servable(model, protocol, candidates.history_length, k)}
    others = baselines(protocol, k)
    unknown = set(quality.must_beat) - set(others)
    if unknown:
        raise UserError(f"quality.must_beat: unknown baseline {sorted(unknown)}; known are {sorted(others)}")
    systems |= others
    if last:
        blessed = tf.saved_model.load(last.folder)
        systems["last_blessed"] = servable(blessed, protocol, candidates.history_length, k)
    slices = slicing.user_slices(protocol.past, users, users_uri)
    # every system's lists are compared by the same vectors
    vectors = item_vectors(model, protocol)
    share = protocol.seen.sum(0) / max(protocol.seen.any(1).sum(), 1)
    own_share = protocol.seen.astype(np.float32) @ share.astype(np.float32)
    own_share /= np.maximum(protocol.seen.sum(1), 1)
    pages = [k for k in quality.ks if k <= _PAGE]

    scores: dict[str, dict[str, dict[str, float]]] = {name: {} for name in systems}
    values: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    sliced: dict[str, dict[str, object]] = {}
    counts = {}
    for task in TASKS:
        asked = protocol.users(task)
        if quality.max_users is not None:
            asked = asked[np.random.default_rng(0).permutation(len(asked))[: quality.max_users]]
        counts[task] = len(asked)
        if not len(asked):
            continue
        relevant = protocol.relevant[task][asked]
        for name, recommend in systems.items():
            top = recommend(asked, task)
            values[name, task] = metrics.per_user(top, relevant, quality.ks)
            values[name, task] |= metrics.of_lists(top, vectors, share, own_share[asked], pages)
            scores[name][task] = metrics.summarise(
                values[name, task], top, len(protocol.catalogue), quality.ks
            )
            if name == "funnel":
                _write_lists(protocol, asked, top, os.path.join(output, f"recommendations.{task}.parquet"))
        of_task = {name: values[name, task] for name in systems}
        _slice(sliced, slices, asked, of_task, task, quality.primary_metric)
    primary = quality.primary_metric
    if primary not in values["funnel", "all"]:
        raise UserError(
            f"quality.primary_metric: '{primary}' is not measured; "
            f"known are {sorted(values['funnel', 'all'])}"
        )
    calibrated = calibration(model, lists, tuple(log.contexts))
    reasons, passed = _decide(values, counts, quality, ranking_blessed, last, calibrated["purchase"]["ece"])
    result = {
        "n_users": counts,
        "catalogue": len(protocol.catalogue),
        "window": {"start": windows.cutoff, "end": windows.end},
        "funnel": scores["funnel"],
        "baselines": {name: scores[name] for name in others},
        "slices": sliced,
        "paired": _paired(values, counts),
        "calibration": calibrated,
        "standing": _standing(values, counts, quality, last),
        "blessed": passed,
        "reasons": reasons,
    }
    if last:
        result["last_blessed"] = scores["last_blessed"]
    tf.io.gfile.makedirs(output)
    with tf.io.gfile.GFile(os.path.join(output, METRICS), "w") as file:
        json.dump(result, file, indent=1)
    return result


def _decide(
    values: Mapping[tuple[str, str], dict[str, np.ndarray]],
    counts: Mapping[str, int],
    quality: Quality,
    ranking_blessed: bool,
    last: Reference | None,
    ece: float,
) -> tuple[list[str], bool]:
    """(reasons, verdict). A difference is given with the standard error of the paired one."""
    reasons = [] if ranking_blessed else ["the Evaluator did not bless the ranking head"]
    calibrated = bool(ece <= quality.max_ece)
    reasons.append(
        f"expected calibration error of purchases {ece:.4f} {'within' if calibrated else 'exceeds'} "
        f"{quality.max_ece}"
    )
    passed = ranking_blessed and calibrated
    metric = quality.primary_metric
    for task in TASKS:
        if not counts[task]:
            continue
        ours = values["funnel", task][metric].mean()

        def difference(name: str, task: str = task) -> str:
            apart = values["funnel", task][metric] - values[name, task][metric]
            return f"{apart.mean():+.4f}, s.e. {metrics.standard_error(apart):.4f}"

        for name in quality.must_beat:
            theirs = values[name, task][metric].mean()
            better = bool(ours > theirs)
            passed &= better
            reasons.append(
                f"funnel {metric} of task {task} {ours:.4f} {'>' if better else '<='} {name} {theirs:.4f} "
                f"({difference(name)})"
            )
        if last:
            theirs = values["last_blessed", task][metric].mean()
            before = standing.before(last.standing, figure(task, metric), quality.max_regression)
            kept = bool(ours >= standing.floor(theirs, before, quality.max_regression))
            passed &= kept
            best = f" of the best, {1 / before - 1:.1%} above it" if before < standing.START else ""
            reasons.append(
                f"funnel {metric} of task {task} {ours:.4f} {'keeps up with' if kept else 'falls behind'} "
                f"the last blessed model's {theirs:.4f} ({difference('last_blessed')}, "
                f"tolerance {quality.max_regression:.0%}{best})"
            )
    return reasons, passed


def figure(task: str, metric: str) -> str:
    """Name of a task's metric among the figures of a push."""
    return f"{task}/{metric}"


def _standing(
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


def _slice(
    out: dict[str, dict[str, object]],
    slices: Mapping[str, np.ndarray],
    users: np.ndarray,
    values: Mapping[str, Mapping[str, np.ndarray]],
    task: str,
    primary: str,
) -> None:
    """Adds a task's figures of every group of users, with the paired difference to each system."""
    ours = values["funnel"]
    for name, groups in slices.items():
        for group in np.unique(groups[users].astype(str)):
            chosen = groups[users].astype(str) == group
            if chosen.sum() >= _MIN_SLICE:
                entry = out.setdefault(f"{name}={group}", {"n_users": int(chosen.sum())})
                entry["n_users"] = max(int(entry["n_users"]), int(chosen.sum()))
                of_group = {metric: float(value[chosen].mean()) for metric, value in ours.items()}
                of_group |= {
                    f"{metric}_se": metrics.standard_error(value[chosen]) for metric, value in ours.items()
                }
                paired = {}
                for other, theirs in values.items():
                    if other != "funnel" and primary in ours:
                        apart = (ours[primary] - theirs[primary])[chosen]
                        paired[other] = [float(apart.mean()), metrics.standard_error(apart)]
                entry[task] = of_group | {"paired": {primary: paired}}


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
