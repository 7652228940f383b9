"""Learns the order of what a search finds, and writes down what it is measured with."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from components.common import artifacts
from components.common.personal_queries import PersonalQueries
from components.common.queries import Queries, divided, known_items, place_of, with_typo
from components.common.search_lists import Describer
from components.search_trainer import fitting
from components.search_trainer.fitting import MEASURE, Lists
from models.data import arrays
from models.search.catalogue import QueryLog, SearchCatalogue
from schema import names as F
from schema.config import SearchTraining
from schema.errors import DataError

_LISTED = 50  # items of BM25F's own answer that are kept
_KNOWN_SEED = 1_000  # so that the measured known items are other draws than those learned from

# (user int [n]) -> request inputs of who asks
States = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Material:
    """What is learned from and measured with.

    Attributes:
      judged: by split (`components.common.queries.SETS`); empty in a shop without judgements.
      logged: queries of the log with what people chose; empty without one.
      personal: asked in users' names; None without events.
      states: of the users of `personal`.
    """

    judged: dict[str, Queries]
    logged: Queries
    personal: PersonalQueries | None = None
    states: States | None = None


def run(
    catalogue: SearchCatalogue,
    describer: Describer,
    feature_names: Sequence[str],
    personal_names: Sequence[str],
    material: Material,
    log: QueryLog | None,
    config: SearchTraining,
    measured_items: int,
    output: str,
    run_folder: str,
) -> str:
    """Writes the ranker and the queries that SearchEvaluator asks.

    Args:
      catalogue: the searched items.
      describer: finds and describes candidates.
      feature_names, personal_names: of what it gives.
      material: queries with what is right.
      log: what people chose who searched, for the servable.
      config: how the ranker learns.
      measured_items: how many known items are asked for.
      output: SearchModel artifact.
      run_folder: ModelRun artifact; gets `history.json`.

    Returns:
      A line for a person.
    """
    train, valid, learned = lessons(catalogue, describer, material, config)
    ranker, history, best = fitting.fitted(feature_names, personal_names, train, valid, config)
    ranker.save(os.path.join(output, artifacts.SEARCH_RANKER))
    if log is not None:
        ids = catalogue.item_id[log.position]
        table = pa.table({F.QUERY: log.query, F.ITEM_ID: ids, "weight": log.weight})
        arrays.save_parquet(os.path.join(output, artifacts.SEARCH_LOG), table)
    asked = evaluation_sets(catalogue, material, config, measured_items)
    lexical = list(feature_names).index("lexical")
    tables = [_answered(name, queries, describer, lexical, catalogue) for name, queries in asked.items()]
    arrays.save_parquet(os.path.join(output, artifacts.EVALUATION_QUERIES), pa.concat_tables(tables))
    facts = {
        "learned_from": learned,
        "measured_with": {name: len(queries) for name, queries in asked.items()},
        "features": list(feature_names),
        "personal": list(personal_names),
        "before": history[0][MEASURE],
        "best": best,
    }
    _write(os.path.join(output, artifacts.SEARCH_FACTS), facts)
    _write(os.path.join(run_folder, artifacts.TRAINING_CURVES), {"epochs": history})
    counts = ", ".join(f"{count:,} {name}" for name, count in learned.items() if count)
    return (
        f"{counts} queries; {MEASURE} on {len(valid):,} validation lists "
        f"{history[0][MEASURE]:.3f} by reciprocal ranks -> {best[MEASURE]:.3f}"
    )


def lessons(
    catalogue: SearchCatalogue, describer: Describer, material: Material, config: SearchTraining
) -> tuple[Lists, Lists, dict[str, int]]:
    """Lists to learn from and to stop by, and how many queries of each kind they come from."""
    shared = {name: [material.judged[name], part] for name, part in _logged(material, config).items()}
    known = 0
    if not any(len(part) for parts in shared.values() for part in parts):
        drawn = known_items(catalogue, config.pseudo_queries, config.seed)
        split, known = divided(drawn.text, config.valid_share, 0.0), len(drawn)
        for name in shared:
            shared[name].append(drawn.where(split == name))
    lists: dict[str, list[Lists]] = {"train": [], "eval": []}
    for name in lists:
        queries = Queries.joined(shared[name])
        share = 1.0 if name == "eval" else config.typos
        mistyped = np.flatnonzero(place_of(queries.text) < share)
        again = queries.where(mistyped)
        queries = Queries.joined([queries, again.asked(with_typo(again.text, config.seed))])
        if len(queries):
            lists[name].append(described(describer, queries))
    asked = 0
    if material.personal is not None and len(material.personal.user):
        personal, asked = material.personal, len(material.personal.user)
        of_user = divided(personal.user.astype(str).astype(object), config.valid_share, 0.0)
        for name in lists:
            chosen = np.flatnonzero(of_user == name)
            if len(chosen):
                states = material.states(personal.user[chosen])
                lists[name].append(described(describer, personal.queries.where(chosen), states))
    if not lists["train"]:
        raise DataError(
            "there is no query to learn from: nothing is judged or searched for in the log, and the items' "
            "texts have no words that a query could be made of; give items.text with words, "
            "search.judgements or events.columns.query, or set search.enabled: false"
        )
    counts = {"judged": len(material.judged["train"]), "logged": len(material.logged)}
    train = Lists.joined(lists["train"])
    valid = Lists.joined(lists["eval"]) if lists["eval"] else train.where(np.zeros(len(train), bool))
    return train, valid, counts | {"known-item": known, "personal": asked}


def described(describer: Describer, queries: Queries, states: dict[str, np.ndarray] | None = None) -> Lists:
    """The candidates of queries with their gains."""
    features, personal, position, valid, exact = describer(queries, states)
    gain = np.zeros(position.shape, np.float32)
    lists = Lists(features, personal, position, valid, exact, gain, np.zeros(len(queries)))
    return lists.with_gains(queries)


def evaluation_sets(
    catalogue: SearchCatalogue, material: Material, config: SearchTraining, measured_items: int
) -> dict[str, Queries]:
    """What a search is measured with: test judgements and known items, as typed and with an error."""
    sets = {}
    if len(material.judged["test"]):
        sets["judged"] = material.judged["test"]
    sets["known_item"] = known_items(catalogue, measured_items, config.seed + _KNOWN_SEED)
    return sets | {
        f"{name}_typos": queries.asked(with_typo(queries.text, config.seed + 1))
        for name, queries in sets.items()
    }


def _logged(material: Material, config: SearchTraining) -> dict[str, Queries]:
    """The log's queries by split; those of `test` are left out, as they are judged ones too."""
    split = divided(material.logged.text, config.valid_share, config.test_share)
    return {name: material.logged.where(split == name) for name in ("train", "eval")}


def _answered(
    name: str, queries: Queries, describer: Describer, lexical: int, catalogue: SearchCatalogue
) -> pa.Table:
    """The rows of a set: what is asked, what is right and what BM25F alone answers."""
    features, _, position, valid, _ = describer(queries)
    score = np.where(valid, features[..., lexical], 0)
    order = np.argsort(-score, 1, kind="stable")[:, :_LISTED]
    found = np.take_along_axis(score, order, 1) > 0
    answer = np.take_along_axis(position, order, 1)
    size = np.bincount(queries.query, minlength=len(queries))
    by_query = np.argsort(queries.query, kind="stable")
    offsets = pa.array(np.concatenate([[0], np.cumsum(size)]), pa.int32())
    listed = pa.array(np.concatenate([[0], np.cumsum(found.sum(1))]), pa.int32())

    def ids(positions: np.ndarray) -> pa.Array:
        return pa.array(catalogue.item_id[positions].tolist(), pa.string())

    return pa.table(
        {
            "set": pa.array([name] * len(queries), pa.string()),
            F.QUERY: pa.array(queries.text.tolist(), pa.string()),
            F.ITEM_ID: pa.ListArray.from_arrays(offsets, ids(queries.position[by_query])),
            F.GAIN: pa.ListArray.from_arrays(offsets, pa.array(queries.gain[by_query], pa.float32())),
            "lexical": pa.ListArray.from_arrays(listed, ids(answer[found])),
        }
    )


def logged_queries(log: QueryLog | None) -> Queries:
    """The log as queries: what was chosen most often has gain 1, the rest its share of that."""
    if log is None or not len(log.query):
        return Queries.none()
    query, texts = pd.factorize(log.query)
    most = np.zeros(len(texts), np.float32)
    np.maximum.at(most, query, log.weight)
    return Queries.of(texts, query, log.position, log.weight / most[query])


def _write(path: str, value: object) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        json.dump(value, file, indent=1)
