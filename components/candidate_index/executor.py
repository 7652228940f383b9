"""Builds the candidate index: item vectors, how they are searched, and as-of item tables."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

import numpy as np
import pandas as pd
import tensorflow as tf

from components.common import artifacts
from models.data import arrays
from models.data.event_log import EventLog
from models.data.event_types import EventTypes
from models.data.frozen import frozen_table
from models.data.item_table import ItemTable
from models.funnel.retriever import search_vectors
from models.retrieval import snapshot
from models.retrieval.collaborative import CollaborativeQuery
from models.retrieval.index.base import VectorIndex
from models.retrieval.index.kinds import build_index, make_plan
from models.retrieval.index.plan import exact_neighbours
from models.retrieval.towers import identity_index, item_tables, set_item_tables
from models.text.encoder import distinct_texts, encode_all
from schema.config import Candidates, Exposures
from schema.errors import GateError

_QUERIES = 512
_BATCH = 256  # texts encoded at a time
_TUNE_AT = 20
_RECALLS = (20, 100)
_TIE = 1e-6  # of dot products of unit vectors


def load_queries(retrieval_folder: str, trained: ItemTable, current: ItemTable) -> dict[str, np.ndarray]:
    """RetrievalTrainer's sample of real queries.

    Args:
      retrieval_folder: its artifact.
      trained: the catalogue that the rows of its histories are of.
      current: the catalogue that they become rows of; an item that it lacks becomes 0.

    Returns:
      `vectors` float32 [Q, D], `history_row` int32 [Q, L], `history_age_days` float32 [Q, L],
      `history_event_type` int32 [Q, L].
    """
    queries = arrays.load(os.path.join(retrieval_folder, artifacts.QUERY_VECTORS))
    row = np.maximum(pd.Index(current.item_id).get_indexer(trained.item_id), 0).astype(np.int32)
    queries["history_row"] = row[queries["history_row"]]
    return {name: values[:_QUERIES] for name, values in queries.items()}


def encode_catalogue(
    current: ItemTable,
    trained: ItemTable,
    item_vocabulary: list[str],
    text_encoder_folder: str,
    retrieval_folder: str,
    output: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of a catalogue that may be another version of the one that was learned from.

    Args:
      current: the catalogue to index.
      trained: the one that the models learned from.
      item_vocabulary: items with an identity embedding.
      text_encoder_folder: TextEncoderTrainer's artifact.
      retrieval_folder: RetrievalTrainer's artifact.
      output: folder of the CandidateIndex artifact; gets `catalogue/` if the two differ: the
        item table, and item_tables.npz for the towers (see `models.retrieval.towers.item_tables`).

    Returns:
      (float32 [V, D], rows of the items that were not learned from int32 [N]).
    """
    if current.same_items(trained):
        vectors = arrays.load(os.path.join(retrieval_folder, artifacts.ITEM_VECTORS))["vectors"]
        return vectors, np.zeros(0, np.int32)
    known = pd.Index(trained.item_id).get_indexer(current.item_id) >= 0
    text = arrays.load(os.path.join(text_encoder_folder, artifacts.TEXT_VECTORS))
    texts, place = distinct_texts(trained.text)
    _, row = np.unique(place, return_index=True)
    added = np.sort(pd.unique(current.text[pd.Index(texts).get_indexer(current.text) < 0]))
    text_vectors = text["vectors"]
    if len(added):
        encoder = tf.saved_model.load(artifacts.model_folder(text_encoder_folder))
        text_vectors = np.concatenate([text_vectors, encode_all(encoder.encode, added, _BATCH)])
    # of each known text, its vector; the added ones lie behind all
    where = np.concatenate([text["index"][row], len(text["vectors"]) + np.arange(len(added))])
    place = pd.Index(np.concatenate([texts, added])).get_indexer(current.text)
    tables = item_tables(
        current,
        # an identity that was in no catalogue has not been trained
        np.where(known, identity_index(item_vocabulary, current), 0).astype(np.int32),
        text_vectors,
        where[place].astype(np.int32),
    )
    towers = tf.saved_model.load(artifacts.model_folder(retrieval_folder))
    set_item_tables(towers, tables)
    rows = np.arange(len(current), dtype=np.int32)
    vectors = [towers.item(rows[start : start + 8192]).numpy() for start in range(0, len(rows), 8192)]
    current.save(os.path.join(output, artifacts.CATALOGUE))
    arrays.save(os.path.join(output, artifacts.CATALOGUE, artifacts.ITEM_TABLES), tables)
    return np.concatenate(vectors), np.flatnonzero(~known).astype(np.int32)


def run(
    log: EventLog,
    types: EventTypes,
    items: ItemTable,
    vectors: np.ndarray,
    queries: Mapping[str, np.ndarray],
    new: np.ndarray,
    moments: list[int],
    config: Candidates,
    min_recall: float,
    output: str,
    exposures: Exposures | None,
    category: str | None,
) -> dict[str, str | int | float]:
    """Writes the index.

    Args:
      log: the events that models may learn from.
      types: what the codes of the queries' events mean.
      items: the catalogue.
      vectors: float32 [V, D], of every row.
      queries: from :func:`load_queries`.
      new: int32 [N], rows that are candidates now, whatever their events.
      moments: unix seconds of the snapshots; the last one is the servable's.
      config: candidate settings.
      min_recall: recall@20 against exact search below which the index is refused.
      output: folder of the CandidateIndex artifact.
      exposures: the section, None without one.
      category: `items.category`.

    Returns:
      What index.json holds, and `summary`, a line for a person.

    Raises:
      GateError: the index's recall is too low.
    """
    arrays.save(os.path.join(output, artifacts.ITEM_VECTORS), {"vectors": vectors})
    for as_of in moments:
        added = new if as_of == moments[-1] else None
        last = snapshot.build(log, items, as_of, config, added, exposures, category)
        last.save(artifacts.snapshot_path(output, as_of))
        # each moment has collaborative vectors of its own, and so lists of its own
        candidates, searched = last.candidate_row, search_vectors(vectors, last)
        collaborative = CollaborativeQuery(
            last.collaborative_input, last.row_candidate, config.collaborative, types
        )
        asked = np.concatenate([queries["vectors"], collaborative(queries).numpy()], 1)
        # tuned on some queries, measured on others
        tuning, held = (asked[::2], asked[1::2]) if len(asked) > 1 else (asked, asked)
        k = min(_TUNE_AT, len(candidates))
        plan = make_plan(config.index, searched, candidates, tuning, k, config.index_recall)
        plan.save(artifacts.plan_path(output, as_of))
    facts = {
        "kind": plan.kind,
        "as_of": moments[-1],
        "snapshots": moments,
        "candidates": len(candidates),
        "items": len(items) - 1,
        "new_items": len(new),
        "lists": len(plan.centroids),
        "probes": plan.probes,
        **measure(build_index(frozen_table(searched), candidates, plan), searched[candidates], held),
    }
    with tf.io.gfile.GFile(os.path.join(output, artifacts.INDEX_FACTS), "w") as file:
        json.dump(facts, file)
    recall = facts[f"recall@{_TUNE_AT}"]
    if recall < min_recall:
        raise GateError(
            f"the candidate index ({plan.kind}) finds {recall:.3f} of the exact top {_TUNE_AT}, below "
            f"quality.min_index_recall {min_recall}; raise candidates.index_recall (now "
            f"{config.index_recall}) or set candidates.index to exact"
        )
    how = f"{plan.kind} search"
    if plan.partitioned:
        how += f" of {plan.probes} of {len(plan.centroids):,} lists"
    summary = (
        f"{len(candidates):,} candidates, {how}, recall@{_TUNE_AT} {recall:.3f}, "
        f"{facts['latency_ms']:.2f} ms a query; {len(moments)} as-of tables"
    )
    if len(new):
        summary += f"; {len(new):,} items that no model learned from"
    return facts | {"summary": summary}


def measure(index: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    """Recall against exact search, latency and size of an index.

    Args:
      index: over `vectors`.
      vectors: float32 [C, D].
      queries: float32 [Q, D].

    Returns:
      `recall@20` and `recall@100`: the share of the exact nearest vectors (or of others as near) that a
      search for as many finds; `latency_ms`: median of one query for 100; `size_mb`: of the search
      structure, 2^20 bytes.
    """
    facts = {}
    for name in _RECALLS:
        k = min(name, index.count)
        search = tf.function(
            lambda query, k=k: index.search(query, k, tf.ones([1, index.count], tf.bool))[0],
            input_signature=[tf.TensorSpec([None, vectors.shape[1]], tf.float32)],
            autograph=False,
        )
        exact, _ = exact_neighbours(vectors, queries, k)
        found = np.concatenate([search(queries[start : start + 16]) for start in range(0, len(queries), 16)])
        facts[f"recall@{name}"] = float(np.mean(found >= exact[:, -1:] - _TIE))
    times = []
    for row in queries[:64]:
        started = time.perf_counter()
        search(row[None])
        times.append(time.perf_counter() - started)
    facts["latency_ms"] = float(np.median(times) * 1000)
    facts["size_mb"] = index.size_bytes / 2**20
    return facts
