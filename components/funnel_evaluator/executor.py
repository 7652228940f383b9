"""Scores the whole funnel on the whole catalogue, beside baselines, and decides the blessing.

Protocol: at the cut-off every user asks once; relevant is what the user then buys in the
window. Task `all` counts every item of the catalogue, task `novel` only items that the user
never bought before (those are excluded from the request). The catalogue is every item with
`min_events` past events; users are those with a past catalogue event and a relevant item.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from components import slicing
from components.candidate_sampler.executor import tensor
from components.funnel_evaluator import metrics
from components.shop import Windows
from models import arrays
from models import features as F
from models.event_log import EventLog
from pipeline.config import Candidates, Quality, Users
from pipeline.errors import DataError, UserError

TASKS = ("all", "novel")
METRICS = "metrics.json"
_BATCH = 32
_RECENT_DAYS = 28
# Smaller groups of users say more about chance than about the model.
_MIN_SLICE = 20

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


def servable(folder: str, protocol: Protocol, history_length: int, k: int) -> Recommend:
    """Recommendations of a SavedModel through its `recommend` signature.

    Args:
      folder: SavedModel.
      protocol: whose histories are asked with.
      history_length: events a request carries.
      k: items asked for.

    Returns:
      A function of (users int [U], task) that gives int [U, k] catalogue columns, -1 = none.
    """
    signature = tf.saved_model.load(folder).signatures["recommend"]
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
    blessed_folder: str | None,
    ranking_blessed: bool,
    users: Users | None,
    users_uri: str | None,
    candidates: Candidates,
    quality: Quality,
    output: str,
) -> dict[str, object]:
    """Evaluates, writes and decides.

    Args:
      log: all events up to the end of the evaluation window.
      windows: past and future.
      model_folder: the candidate SavedModel.
      blessed_folder: the last blessed SavedModel, None if there is none.
      ranking_blessed: whether the Evaluator blessed the ranking head.
      users, users_uri: for slices.
      candidates: `min_events`, `history_length`.
      quality: metrics and thresholds.
      output: folder; gets metrics.json and recommendations.<task>.parquet (`user_id`, `rank`
        from 1, `item_id`).

    Returns:
      The contents of metrics.json.

    Raises:
      UserError: `quality.primary_metric` or `quality.must_beat` names something unknown.
    """
    protocol = Protocol.of(log, windows, candidates.min_events)
    k = max(quality.ks)
    systems = {"funnel": servable(model_folder, protocol, candidates.history_length, k)}
    others = baselines(protocol, k)
    unknown = set(quality.must_beat) - set(others)
    if unknown:
        raise UserError(f"quality.must_beat: unknown baseline {sorted(unknown)}; known are {sorted(others)}")
    systems |= others
    if blessed_folder:
        systems["last_blessed"] = servable(blessed_folder, protocol, candidates.history_length, k)
    slices = slicing.user_slices(protocol.past, users, users_uri)

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
            scores[name][task] = metrics.summarise(
                values[name, task], top, len(protocol.catalogue), quality.ks
            )
            if name == "funnel":
                _write_lists(protocol, asked, top, os.path.join(output, f"recommendations.{task}.parquet"))
                _slice(sliced, slices, asked, values[name, task], task)
    primary = quality.primary_metric
    if primary not in values["funnel", "all"]:
        raise UserError(
            f"quality.primary_metric: '{primary}' is not measured; "
            f"known are {sorted(values['funnel', 'all'])}"
        )
    reasons, passed = _decide(values, counts, quality, ranking_blessed, bool(blessed_folder))
    result = {
        "n_users": counts,
        "catalogue": len(protocol.catalogue),
        "window": {"start": windows.cutoff, "end": windows.end},
        "funnel": scores["funnel"],
        "baselines": {name: scores[name] for name in others},
        "slices": sliced,
        "paired": _paired(values, counts),
        "blessed": passed,
        "reasons": reasons,
    }
    if blessed_folder:
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
    has_previous: bool,
) -> tuple[list[str], bool]:
    reasons = [] if ranking_blessed else ["the Evaluator did not bless the ranking head"]
    passed = ranking_blessed
    metric = quality.primary_metric
    for task in TASKS:
        if not counts[task]:
            continue
        ours = values["funnel", task][metric].mean()
        for name in quality.must_beat:
            theirs = values[name, task][metric].mean()
            better = bool(ours > theirs)
            passed &= better
            reasons.append(
                f"funnel {metric} of task {task} {ours:.4f} {'>' if better else '<='} {name} {theirs:.4f}"
            )
        if has_previous:
            theirs = values["last_blessed", task][metric].mean()
            kept = bool(ours >= theirs * (1 - quality.max_regression))
            passed &= kept
            reasons.append(
                f"funnel {metric} of task {task} {ours:.4f} {'keeps up with' if kept else 'falls behind'} "
                f"the last blessed model's {theirs:.4f} (tolerance {quality.max_regression:.0%})"
            )
    return reasons, passed


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
    values: Mapping[str, np.ndarray],
    task: str,
) -> None:
    for name, groups in slices.items():
        for group in np.unique(groups[users].astype(str)):
            chosen = groups[users].astype(str) == group
            if chosen.sum() >= _MIN_SLICE:
                entry = out.setdefault(f"{name}={group}", {"n_users": int(chosen.sum())})
                entry["n_users"] = max(int(entry["n_users"]), int(chosen.sum()))
                entry[task] = {metric: float(value[chosen].mean()) for metric, value in values.items()} | {
                    f"{metric}_se": metrics.standard_error(value[chosen]) for metric, value in values.items()
                }


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
