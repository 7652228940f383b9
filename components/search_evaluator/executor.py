"""Asks the servable's search what is known to be right, and compares it with words alone and with nobody."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from components.common import artifacts
from components.common.candidate_lists import strings, tensor
from components.common.metrics import standard_error
from components.common.personal_queries import PersonalQueries
from components.common.queries import Queries
from components.common.search_lists import search_inputs
from components.common.search_metrics import per_query
from components.search_evaluator import verdict
from components.search_evaluator.verdict import (
    FIGURE,
    JUDGED,
    KNOWN,
    LEXICAL,
    NOT_PERSONAL,
    PERSONAL,
    SEARCH,
    TYPOS,
)
from models.data import arrays
from schema import names as F
from schema.config import SearchQuality

K = 50
_BATCH = 16
_SHOWN, _EXAMPLES = 5, 6  # items of an example, examples and failures of the report
_MIN_SLICE = 20  # smaller groups of queries say more about chance
_TITLES = {
    JUDGED: "Judged queries that nothing was learned from",
    KNOWN: "Known items, asked for with words of their text",
    PERSONAL: "Words of what a user then buys, asked in the user's name",
}


@dataclasses.dataclass(frozen=True)
class Personal:
    """What users ask at the cut-off.

    Attributes:
      asked: words of what they buy in the window.
      states: request inputs of who asks, [Q, ...] each.
    """

    asked: PersonalQueries
    states: dict[str, np.ndarray]


def run(
    model_folder: str,
    evaluation_queries: str,
    item_ids: np.ndarray,
    item_texts: np.ndarray,
    personal: Personal | None,
    contexts: tuple[str, ...],
    quality: SearchQuality,
    output: str,
) -> dict[str, Any]:
    """Evaluates, writes and decides.

    Args:
      model_folder: the SavedModel.
      evaluation_queries: SearchTrainer's evaluation.parquet.
      item_ids, item_texts: object (str) [C], the catalogue.
      personal: what users ask; None without events.
      contexts: the shop's context columns.
      quality: thresholds.
      output: folder; gets search_metrics.json.

    Returns:
      The contents of search_metrics.json.
    """
    model = tf.saved_model.load(model_folder)
    asker = _Asker(model.signatures[F.SEARCH], pd.Index(item_ids), contexts)
    table = arrays.load_parquet(evaluation_queries)
    values: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    slices: dict[str, Any] = {}
    shown: list[_Shown] = []
    for name in pa.compute.unique(table["set"]).to_pylist():
        rows = table.filter(pa.compute.equal(table["set"], name))
        queries = _queries(rows, asker.index)
        answer = asker(queries.text)
        words = _listed(rows["lexical"], asker.index)
        values[name] = {SEARCH: per_query(queries, answer.position), LEXICAL: per_query(queries, words)}
        slices |= _sliced(name, queries, values[name])
        if not name.endswith(TYPOS):
            shown.append(_Shown(name, queries, answer, values[name][SEARCH][FIGURE[name]], None))
    if personal is not None and len(personal.asked.queries):
        queries = personal.asked.queries
        words, place = np.unique(queries.text.astype(str), return_inverse=True)
        anybody = asker(words.astype(object)).position[place]
        answer = asker(queries.text, personal.states)
        values[PERSONAL] = {
            SEARCH: per_query(queries, answer.position),
            NOT_PERSONAL: per_query(queries, anybody),
        }
        users = personal.states[F.USER_ID]
        shown.append(_Shown(PERSONAL, queries, answer, values[PERSONAL][SEARCH][FIGURE[PERSONAL]], users))
    checks = verdict.checks(values, quality)
    result = {
        "sets": {name: _figures(name, systems) for name, systems in values.items()},
        "typo_loss": {
            f"{name}.{system}": verdict.typo_loss(values, name, system)
            for name in (JUDGED, KNOWN)
            if name in values
            for system in (SEARCH, LEXICAL)
        },
        "slices": slices,
        "examples": [entry for each in shown for entry in each.entries(item_texts, failed=False)],
        "failures": [entry for each in shown for entry in each.entries(item_texts, failed=True)],
        "blessed": all(check.passed for check in checks),
        "reasons": [check.text for check in checks],
        "checks": [dataclasses.asdict(check) for check in checks],
    }
    tf.io.gfile.makedirs(output)
    with tf.io.gfile.GFile(os.path.join(output, artifacts.SEARCH_METRICS), "w") as file:
        json.dump(result, file, indent=1, ensure_ascii=False)
    return result


@dataclasses.dataclass(frozen=True)
class Answer:
    """What `search` gave to Q queries: positions int32 [Q, K], -1 for none; notices object (str) [Q]."""

    position: np.ndarray
    notice: np.ndarray


class _Asker:
    """Asks the signature `search`, in batches.

    Args:
      signature: of the SavedModel.
      index: ids by position.
      contexts: the shop's context columns.
    """

    def __init__(self, signature: Any, index: pd.Index, contexts: tuple[str, ...]) -> None:
        self.index, self._signature, self._contexts = index, signature, contexts
        self._names = set(signature.structured_input_signature[1])

    def __call__(self, texts: np.ndarray, states: Mapping[str, np.ndarray] | None = None) -> Answer:
        """Asks texts (object [Q]) in the name of users (request inputs [Q, ...]), or of nobody."""
        inputs = search_inputs(texts, self._contexts, K) | dict(states or {})
        ids, notices = [], []
        for start in range(0, len(texts), _BATCH):
            batch = {name: tensor(inputs[name][start : start + _BATCH]) for name in self._names}
            answer = self._signature(**batch)
            ids.append(strings(answer[F.ITEM_ID]))
            notices.append(strings(answer[F.NOTICE]))
        found = np.concatenate(ids) if ids else np.zeros((0, K), object)
        position = self.index.get_indexer(found.ravel()).reshape(found.shape)
        return Answer(position.astype(np.int32), np.concatenate(notices) if notices else np.zeros(0, object))


@dataclasses.dataclass(frozen=True)
class _Shown:
    """A set's answers, of which the report shows some.

    Attributes:
      name: of the set.
      queries: what was asked.
      answer: what was given.
      figure: float [Q], by which the set is judged.
      users: object (str) [Q], who asked; None for nobody.
    """

    name: str
    queries: Queries
    answer: Answer
    figure: np.ndarray
    users: np.ndarray | None

    def entries(self, texts: np.ndarray, failed: bool) -> list[dict[str, Any]]:
        """The first queries, or the first of those whose figure is 0, with what was wanted."""
        chosen = np.flatnonzero(self.figure == 0) if failed else np.flatnonzero(self.figure > 0)
        gains, _ = self.queries.gains_of(np.maximum(self.answer.position, 0))
        entries = []
        for query in chosen[:_EXAMPLES].tolist():
            position = self.answer.position[query]
            entry: dict[str, Any] = {"set": self.name, "query": str(self.queries.text[query])}
            if self.users is not None:
                entry["user_id"] = str(self.users[query])
            if self.answer.notice[query]:
                entry["notice"] = str(self.answer.notice[query])
            entry["results"] = [
                {"item_text": str(texts[item]), "gain": float(gains[query, place])}
                for place, item in enumerate(position[:_SHOWN].tolist())
                if item >= 0
            ]
            if failed:
                right = self.queries.position[self.queries.query == query][:_SHOWN]
                entry["wanted"] = [str(texts[item]) for item in right.tolist()]
            entries.append(entry)
        return entries


def _queries(rows: pa.Table, index: pd.Index) -> Queries:
    """A set's queries; items that the catalogue has lost are nowhere, but still right."""
    ids = rows[F.ITEM_ID].combine_chunks()
    query = np.repeat(np.arange(rows.num_rows), ids.value_lengths().to_numpy())
    position = index.get_indexer(ids.flatten().to_pylist())
    gain = rows[F.GAIN].combine_chunks().flatten().to_numpy()
    lost = position < 0
    position = np.where(lost, len(index) + np.arange(len(position)), position)
    return Queries.of(rows[F.QUERY].to_pylist(), query, position, gain)


def _listed(lists: pa.ChunkedArray, index: pd.Index) -> np.ndarray:
    """int32 [Q, K], positions of lists of ids, -1 for padding."""
    lists = lists.combine_chunks()
    size = lists.value_lengths().to_numpy()
    out = np.full((len(size), max(int(size.max(initial=0)), 1)), -1, np.int32)
    out[np.arange(out.shape[1]) < size[:, None]] = index.get_indexer(lists.flatten().to_pylist())
    return out


def _figures(name: str, systems: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """A set's figures by system: means and their standard errors."""
    figures = {
        system: {
            key: value
            for metric, each in metrics.items()
            for key, value in ((metric, float(each.mean())), (f"{metric}_se", standard_error(each)))
        }
        for system, metrics in systems.items()
    }
    first = next(iter(systems.values()))
    clean = name.removesuffix(TYPOS)
    title = _TITLES[clean] + ("; with one typing error in every query" if name != clean else "")
    return {"title": title, "queries": len(next(iter(first.values()))), "systems": figures}


def _sliced(name: str, queries: Queries, systems: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """The set's figure by the number of words of a query."""
    words = np.asarray([len(text.split()) for text in queries.text])
    groups = {"1": words == 1, "2": words == 2, "3": words == 3, "4 or more": words >= 4}
    metric = FIGURE[name.removesuffix(TYPOS)]
    return {
        f"{name}, words={group}": {
            "queries": int(chosen.sum()),
            **{system: {metric: float(of[metric][chosen].mean())} for system, of in systems.items()},
        }
        for group, chosen in groups.items()
        if chosen.sum() >= _MIN_SLICE
    }
