"""Artifact types of Shelfwise's own components.

This module must not use `from __future__ import annotations`: component specs read it.

In a container, TFX imports the class of an artifact by its TYPE_NAME, which Kubeflow Pipelines
wants as `<namespace>.<Title>` and whose properties it does not keep: hence the names, that
`components/__init__.py` resolves, and no PROPERTIES.
"""

from tfx.types.artifact import Artifact


class CandidateIndex(Artifact):
    """Item vectors and as-of item tables.

    item_vectors.npz (`vectors` float32 [V, D], by row of the item table),
    snapshots/<unix seconds>.npz (`models.retrieval.snapshot.Snapshot`),
    plans/<unix seconds>.npz (`models.retrieval.index.plan.Plan`) and index.json (`kind`, `as_of`,
    `snapshots`, `candidates`, `lists`, `probes`, `recall@20`, `recall@100`, `latency_ms`,
    `size_mb`). If the catalogue is another one than the models learned from, also catalogue/
    (`models.data.item_table.ItemTable`, and item_tables.npz for the towers).
    """

    TYPE_NAME = "components.CandidateIndex"


class SearchModel(Artifact):
    """What was learned for the search, see SearchTrainer.

    ranker.npz (`models.search.ranker.SearchRanker`), search.json (queries, figures), evaluation.parquet
    (`components.search_trainer.evaluation`: what SearchEvaluator asks, and BM25F's answers) and, in a shop
    with a log of queries, log.parquet (`query`, `item_id`, `weight`).
    """

    TYPE_NAME = "components.SearchModel"


class RequestHistories(Artifact):
    """histories.parquet: every user's request state at the end of the training data."""

    TYPE_NAME = "components.RequestHistories"
