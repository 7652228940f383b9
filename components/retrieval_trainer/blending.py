"""How learned and collaborative scores are added up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.retrieval_trainer.examples import Examples
from models.retrieval import collaborative
from schema import names as F
from schema.config import Collaborative

RECALL_AT = 100
WEIGHTS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0)  # in units of the scores' spread
_SESSIONS = 2048  # at most, by which the scores are weighed
_BATCH = 256


def blend(
    examples: Examples,
    queries: np.ndarray,
    vectors: np.ndarray,
    config: Collaborative,
    top: int = RECALL_AT,
    weights: Sequence[float] = WEIGHTS,
) -> float:
    """How much a learned score counts compared with a collaborative one.

    Of a grid of weights, the one whose sums find most of the weighed sessions' targets in the
    first `top` items that their user had not bought; the collaborative vectors are fitted here on the
    events before those sessions. A likelihood would choose worse: collaborative scores are
    regressions, not logits.

    Args:
      examples: the scores are weighed by its sessions `weighed` (H of them): all earlier targets make
        the histories, the targets `measured` are to be found, among the rows `known`.
      queries: float32 [H, D], learned vectors of those sessions.
      vectors: float32 [V, D], learned vectors of all rows.
      config: of the collaborative vectors.
      top: length of the lists that are compared.
      weights: the grid, in units of the scores' spread, ascending; 0 is tried too but never returned.

    Returns:
      The weight; 1 where there is nothing to weigh (no collaborative vectors, no history).
    """
    sessions, wanted, held = examples.sessions, examples.measured, examples.weighed
    rows, known = examples.rows, examples.known
    position = np.full(len(vectors), len(known))
    position[known] = np.arange(len(known))
    count = sessions["target_count"]
    user = np.repeat(sessions["user"], count)
    moment = np.repeat(sessions[F.TIMESTAMP], count)
    item = position[rows[sessions["target_item"]]]
    kind = sessions[F.TARGET_EVENT_TYPE]
    weight_of = np.ones(len(kind), np.float32) if examples.types.alike else examples.types.weight[kind]
    is_bought = examples.types.bought[kind] if examples.types.others else np.ones(len(kind), bool)
    start = sessions[F.TIMESTAMP][held].min()
    real = (item < len(known)) & (user > 0)
    order = np.lexsort((moment, user))
    order = order[real[order]]
    user, moment, item = user[order], moment[order], item[order].astype(np.int32)
    weight_of, is_bought = weight_of[order], is_bought[order]
    past = moment < start
    places = np.flatnonzero((sessions["user"][held] > 0) & (wanted["target_count"][held] > 0))
    places = places[np.linspace(0, len(places) - 1, min(_SESSIONS, len(places))).astype(int)]
    if not config.rank or not past.any() or not len(places):
        return 1.0
    age = ((start - moment) / F.SECONDS_PER_DAY).astype(np.float32)
    events = collaborative.Events(user[past], item[past], age[past], weight_of[past])
    inputs, outputs = collaborative.fit(events, len(known), config)

    found = np.zeros(len(weights) + 1)
    unit = 0.0  # the learned scores' spread becomes that of the collaborative ones
    for first in range(0, len(places), _BATCH):
        some = places[first : first + _BATCH]
        of, when = sessions["user"][held[some]], sessions[F.TIMESTAMP][held[some]]
        # each session's past, as if each were a user
        owner, event = _ranges(np.searchsorted(user, of), np.searchsorted(user, of, "right"))
        earlier = moment[event] < when[owner]
        owner, event = owner[earlier], event[earlier]
        age = ((when[owner] - moment[event]) / F.SECONDS_PER_DAY).astype(np.float32)
        events = collaborative.Events(owner, item[event], age, weight_of[event])
        history = collaborative.histories(events, len(some), len(known), config)
        closed = ((history @ inputs) @ outputs.T).astype(np.float32)
        learned = queries[some] @ vectors[known].T
        unit = unit or float(closed.std() / max(learned.std(), 1e-9))
        begin = wanted["target_start"][held[some]]
        asked, target = _ranges(begin, begin + wanted["target_count"][held[some]])
        target = position[rows[wanted["target_item"][target]]]
        relevant = np.zeros((len(some), len(known) + 1), bool)
        relevant[asked, target] = True
        relevant = relevant[:, :-1]
        had = is_bought[event]
        closed[owner[had], item[event[had]]] = -np.inf
        for place, weight in enumerate((0.0, *weights)):
            score = closed + np.float32(weight * unit) * learned
            first_items = np.argpartition(-score, min(top, len(known) - 1), 1)[:, :top]
            share = np.take_along_axis(relevant, first_items, 1).sum(1) / np.maximum(relevant.sum(1), 1)
            found[place] += share.sum()
    return float(max((0.0, *weights)[int(np.argmax(found))], weights[0]) * unit)


def _ranges(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which range, place) of every place in the ranges [start, end)."""
    size = end - start
    owner = np.repeat(np.arange(len(size)), size)
    return owner, np.arange(len(owner)) + np.repeat(start - (np.cumsum(size) - size), size)
