"""The systems that are compared: servables and baselines, each a function from users to lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from components.common.candidate_lists import strings, tensor
from components.common.protocol import Protocol
from schema import names as F
from schema.config.serving import EVALUATED_ROWS

_RECENT_DAYS = 28

# (users int [U], task) -> int [U, k], columns of the protocol's catalogue, -1 = none
Recommend = Callable[[np.ndarray, str], np.ndarray]


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
    signature = model.signatures[F.RECOMMEND]
    log, names = protocol.log, pd.Index(protocol.log.items)
    catalogue_ids = log.items[protocol.catalogue]

    def recommend(users: np.ndarray, task: str) -> np.ndarray:
        out = np.full((len(users), k), -1)
        for start in range(0, len(users), EVALUATED_ROWS):
            batch = users[start : start + EVALUATED_ROWS]
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
            ids = strings(answer[F.ITEM_ID])
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
        model.signatures[F.EMBED_ITEM](item_id=tensor(ids[start : start + EVALUATED_ROWS]))[F.EMBEDDING]
        for start in range(0, len(ids), EVALUATED_ROWS)
    ]
    vectors = np.concatenate(parts)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def baselines(protocol: Protocol, k: int) -> dict[str, Recommend]:
    """Popularity (lines), recent popularity (users of the last 28 days) and personal frequency, of what was
    bought.
    """
    past, size = protocol.past.purchases, len(protocol.catalogue)
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
