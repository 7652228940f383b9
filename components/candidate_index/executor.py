"""Builds the candidate index: item vectors, how they are searched, and as-of item tables."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import tensorflow as tf

from models import arrays, snapshot
from models import features as F
from models.collaborative import CollaborativeQuery
from models.event_log import EventLog
from models.index import Plan, VectorIndex, exact_neighbours, make_plan
from models.item_table import ItemTable
from models.retriever import search_vectors
from models.tables import table
from pipeline.config import Candidates
from pipeline.errors import GateError

INDEX = "index.json"
PLAN = "plan.npz"
VECTORS = "item_vectors.npz"
QUERIES = "query_vectors.npz"
_QUERIES = 512
_TUNE_AT = 20
_RECALLS = (20, 100)
_TIE = 1e-6  # of dot products of unit vectors


def snapshot_path(uri: str, as_of: int) -> str:
    """Where the snapshot of a moment lies inside the artifact."""
    return os.path.join(uri, "snapshots", f"{as_of}.npz")


def load_plan(uri: str) -> Plan:
    """How the vectors of an artifact are searched."""
    with tf.io.gfile.GFile(os.path.join(uri, INDEX)) as file:
        kind = json.load(file)["kind"]
    plan = Plan.whole(kind)
    return Plan.load(os.path.join(uri, PLAN)) if plan.partitioned else plan


def run(
    log: EventLog,
    items: ItemTable,
    retrieval_folder: str,
    moments: list[int],
    config: Candidates,
    min_recall: float,
    output: str,
) -> dict[str, str | int | float]:
    """Writes the index.

    Args:
      log: the events that models may learn from.
      items: the catalogue.
      retrieval_folder: RetrievalTrainer's artifact with the items' and a sample of queries' vectors.
      moments: unix seconds of the snapshots; the last one is the servable's.
      config: candidate settings.
      min_recall: recall@20 against exact search below which the index is refused.
      output: folder of the CandidateIndex artifact.

    Returns:
      What index.json holds, and `summary`, a line for a person.

    Raises:
      GateError: the index's recall is too low.
    """
    vectors = arrays.load(os.path.join(retrieval_folder, VECTORS))["vectors"]
    arrays.save(os.path.join(output, VECTORS), {"vectors": vectors})
    for as_of in moments:
        last = snapshot.build(log, items, as_of, config)
        last.save(snapshot_path(output, as_of))
    vectors = search_vectors(vectors, last)
    sample = {
        name: values[:_QUERIES]
        for name, values in arrays.load(os.path.join(retrieval_folder, QUERIES)).items()
    }
    collaborative = CollaborativeQuery(last.collaborative_input, last.row_candidate, config.collaborative)
    request = {name: tf.constant(sample[name]) for name in ("history_row", F.HISTORY_AGE_DAYS)}
    queries = np.concatenate([sample["vectors"], collaborative(request).numpy()], 1)
    # tuned on some queries, measured on others
    tuning, held = (queries[::2], queries[1::2]) if len(queries) > 1 else (queries, queries)
    candidates = last.candidate_row
    plan = make_plan(
        config.index, vectors, candidates, tuning, min(_TUNE_AT, len(candidates)), config.index_recall
    )
    if plan.partitioned:
        plan.save(os.path.join(output, PLAN))
    facts = {
        "kind": plan.kind,
        "as_of": moments[-1],
        "snapshots": moments,
        "candidates": len(candidates),
        "lists": len(plan.centroids),
        "probes": plan.probes,
        **measure(VectorIndex(table(vectors), candidates, plan), vectors[candidates], held),
    }
    with tf.io.gfile.GFile(os.path.join(output, INDEX), "w") as file:
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
