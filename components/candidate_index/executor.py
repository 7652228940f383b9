"""Builds the candidate index: item vectors, as-of item tables, and what it measures about itself."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import tensorflow as tf

from models import arrays, snapshot
from models.event_log import EventLog
from models.item_table import ItemTable
from pipeline.config import Candidates
from pipeline.errors import GateError

INDEX = "index.json"
VECTORS = "item_vectors.npz"
_QUERIES = 256
_K = 20


def snapshot_path(uri: str, as_of: int) -> str:
    """Where the snapshot of a moment lies inside the artifact."""
    return os.path.join(uri, "snapshots", f"{as_of}.npz")


def run(
    log: EventLog,
    items: ItemTable,
    vectors_path: str,
    moments: list[int],
    config: Candidates,
    min_recall: float,
    output: str,
) -> str:
    """Writes the index.

    Args:
      log: the events that models may learn from.
      items: the catalogue.
      vectors_path: RetrievalTrainer's item_vectors.npz.
      moments: unix seconds of the snapshots; the last one is the servable's.
      config: candidate settings.
      min_recall: recall@20 against exact search below which the index is refused.
      output: folder of the CandidateIndex artifact.

    Returns:
      A line for a person.

    Raises:
      GateError: the index's recall is too low.
    """
    vectors = arrays.load(vectors_path)["vectors"]
    arrays.save(os.path.join(output, VECTORS), {"vectors": vectors})
    for as_of in moments:
        last = snapshot.build(log, items, as_of, config)
        last.save(snapshot_path(output, as_of))
    recall, latency = measure(vectors[last.candidate_row])
    facts = {
        "kind": "exact",
        "as_of": moments[-1],
        "snapshots": moments,
        "candidates": len(last.candidate_row),
        "recall@20": recall,
        "latency_ms": latency,
    }
    with tf.io.gfile.GFile(os.path.join(output, INDEX), "w") as file:
        json.dump(facts, file)
    if recall < min_recall:
        raise GateError(
            f"the candidate index finds {recall:.3f} of the exact top {_K}, below quality.min_index_recall "
            f"{min_recall}; use a finer index"
        )
    return (
        f"{len(last.candidate_row):,} candidates, exact search, recall@{_K} {recall:.3f}, "
        f"{latency:.2f} ms a query; {len(moments)} as-of tables"
    )


def measure(vectors: np.ndarray) -> tuple[float, float]:
    """(recall@20 of the graph's search against float64 numpy, median milliseconds of one query)."""
    rng = np.random.default_rng(7)
    query = vectors[rng.integers(len(vectors), size=min(_QUERIES, len(vectors)))]
    query = query + rng.normal(0, 0.1, query.shape).astype(np.float32)
    k = min(_K, len(vectors))
    table = tf.constant(vectors)
    search = tf.function(lambda q: tf.math.top_k(tf.matmul(q, table, transpose_b=True), k).indices)
    exact = np.argsort(-(query.astype(np.float64) @ vectors.T.astype(np.float64)), 1, kind="stable")[:, :k]
    found = search(tf.constant(query)).numpy()
    recall = float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(exact, found, strict=True)]))
    times = []
    for row in query[:64]:
        started = time.perf_counter()
        search(tf.constant(row[None]))
        times.append(time.perf_counter() - started)
    return recall, float(np.median(times) * 1000)
