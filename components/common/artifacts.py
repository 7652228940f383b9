"""Names and places inside artifacts: what one component writes and another reads.

Nothing here is imported but the standard library, so that an ExampleGen's worker may read it.
"""

import os

# --- splits of Examples --------------------------------------------------------------
SPLITS = ("train", "eval", "test")  # of EventExampleGen
ITEMS_SPLIT, USERS_SPLIT = "items", "users"  # of CatalogExampleGen and its Transforms

# --- files of Model, CandidateIndex and RequestHistories -----------------------------
TEXT_VECTORS = "text_vectors.npz"  # TextEncoderTrainer: `vectors` float32 [T, E], `index` int32 [V]
ITEM_VECTORS = "item_vectors.npz"  # RetrievalTrainer, CandidateIndex: `vectors` float32 [V, D]
QUERY_VECTORS = "query_vectors.npz"  # RetrievalTrainer: a sample of real queries
WEIGHTS = "weights.npz"  # RetrievalTrainer, ServableBuilder: what the next towers start from
INDEX_FACTS = "index.json"  # CandidateIndex: kind, recall, latency, size
CATALOGUE = "catalogue"  # CandidateIndex: an item table, if it is not the one learned from
ITEM_TABLES = "item_tables.npz"  # in CATALOGUE: the towers' tables of it
HISTORIES = "histories.parquet"  # ServableBuilder: every user's request state
SEARCH_RANKER = "ranker.npz"  # SearchTrainer: `models.search.ranker.SearchRanker`
SEARCH_LOG = "log.parquet"  # SearchTrainer: `query`, `item_id`, `weight`, where the shop has a log of queries
SEARCH_FACTS = "search.json"  # SearchTrainer: what was learned from and how well it does
EVALUATION_QUERIES = "evaluation.parquet"  # SearchTrainer: what SearchEvaluator asks, and BM25F's answers

# --- what components write about their work ------------------------------------------
TRAINING_CURVES = "history.json"  # ModelRun of every trainer
TRAINING_EVENTS, HELD_OUT_EVENTS = "training", "held_out"  # folders in it, for TensorBoard
EVENTS = "events.out.tfevents"  # begins the names of the files in them
METRICS = "metrics.json"  # FunnelEvaluator
SEARCH_METRICS = "search_metrics.json"  # SearchEvaluator
# TFX's Tuner writes these two names.
BEST_HYPERPARAMETERS = "best_hyperparameters.txt"
TUNER_RESULTS = "tuner_results.json"


def model_folder(uri: str) -> str:
    """Folder of the SavedModel inside a Model artifact, where TFX looks for it."""
    return os.path.join(uri, "Format-Serving")


def snapshot_path(uri: str, as_of: int) -> str:
    """File of a moment's snapshot (unix seconds) inside a CandidateIndex artifact."""
    return os.path.join(uri, "snapshots", f"{as_of}.npz")


def plan_path(uri: str, as_of: int) -> str:
    """File of a moment's search plan (unix seconds) inside a CandidateIndex artifact."""
    return os.path.join(uri, "plans", f"{as_of}.npz")


def recommendations_path(uri: str, task: str) -> str:
    """File of a task's recommendation lists inside FunnelEvaluator's evaluation."""
    return os.path.join(uri, f"recommendations.{task}.parquet")
