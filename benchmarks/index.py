"""Searches of item vectors: exact, int8 and partitioned, side by side.

    python -m benchmarks.index                                     # 1,000,000 x 64: `make benchmark-index`
    python -m benchmarks.index --items 20000,100000 --data clustered
    python -m benchmarks.index --vectors item_vectors.npz --queries query_vectors.npz   # of a run's artifacts

Synthetic vectors are a mixture of 1 cluster for 200 items (of Zipf sizes, as wide as to leave the 20th
neighbour at a cosine of 0.8) on the unit sphere, which is how the vectors of trained towers lie, and
`uniform`, the worst case: no clusters at all. Queries are drawn from the same mixture.

Every kind is built by the code of CandidateIndex, with half of the queries to tune on; recall is against
the exact search, on the other half. `one` is a query for 100 neighbours in process, `filter` the same with
a hundredth of the candidates allowed, `32` a batch. `cpu` is what the process worked (all its cores), which
other processes disturb less than the time that a caller waits.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import rich.console
import rich.table

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf

from models.data import arrays
from models.data.frozen import frozen_table
from models.retrieval.index.kinds import KINDS, build_index, make_plan
from models.retrieval.index.plan import exact_neighbours

_K = 100
_ALLOWED = 0.01


def clustered(count: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [count, dim] on the unit sphere: a mixture whose clusters have Zipf sizes."""
    clusters = max(32, count // 200)
    weight = 1 / np.arange(1, clusters + 1) ** 0.7
    centre = rng.normal(size=(clusters, dim)).astype(np.float32)
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    owner = rng.choice(clusters, count, p=weight / weight.sum())
    return _on_sphere(centre[owner] + rng.normal(0, 0.6 / np.sqrt(dim), (count, dim)))


def uniform(count: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [count, dim], uniform on the unit sphere."""
    return _on_sphere(rng.normal(size=(count, dim)))


def _on_sphere(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


DATA = {"clustered": clustered, "uniform": uniform}


def timed(call: Callable[[int], object], seconds: float) -> tuple[float, float, float]:
    """(median and 95th percentile of the waiting time, median processor time), in ms, of repeated calls."""
    call(0)
    waits, works = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(waits) < 10:
        started, worked = time.perf_counter(), time.process_time()
        call(len(waits))
        waits.append(time.perf_counter() - started)
        works.append(time.process_time() - worked)
    return tuple(1000 * float(value) for value in (*np.percentile(waits, [50, 95]), np.median(works)))


def measure(
    kind: str, vectors: np.ndarray, queries: np.ndarray, recall: float, seconds: float
) -> dict[str, object]:
    """One line of the table.

    Args:
      kind: of index.
      vectors: float32 [N, D].
      queries: float32 [Q, D].
      recall: that a partitioned index is tuned for.
      seconds: of each timing.
    """
    everything = np.arange(len(vectors), dtype=np.int32)
    variable = frozen_table(vectors)
    started = time.monotonic()
    plan = make_plan(kind, vectors, everything, queries[::2], 20, recall)
    index = build_index(variable, everything, plan)
    build = time.monotonic() - started
    held = queries[1::2]
    search = tf.function(
        lambda query, allowed: index.search(query, _K, allowed),
        [tf.TensorSpec([None, vectors.shape[1]]), tf.TensorSpec([1, None], tf.bool)],
        autograph=False,
    )
    free = tf.ones([1, len(vectors)], tf.bool)
    strict = tf.constant(np.random.default_rng(5).random((1, len(vectors))) < _ALLOWED)

    def ask(size: int, allowed: tf.Tensor) -> Callable[[int], object]:
        batches = [tf.constant(held[at : at + size]) for at in range(0, len(held) - size + 1, size)]
        return lambda number: search(batches[number % len(batches)], allowed)

    recalls = {}
    for name, allowed in (("", free), ("filtered ", strict)):
        where = np.flatnonzero(allowed.numpy()[0])
        exact, _ = exact_neighbours(vectors[where], held, min(_K, len(where)))
        found = np.concatenate(
            [search(held[at : at + 32], allowed)[0].numpy() for at in range(0, len(held), 32)]
        )
        for k in (20, 100):
            k = min(k, exact.shape[1])
            recalls[f"{name}{k}"] = float(np.mean(found[:, :k] >= exact[:, k - 1 : k] - 1e-6))
    one, filtered, batch = (
        timed(ask(size, allowed), seconds) for size, allowed in ((1, free), (1, strict), (32, free))
    )
    how = f"{plan.probes} of {len(plan.centroids):,}" if plan.partitioned else ""
    return {
        "kind": kind if plan.kind == kind else f"{kind}: {plan.kind}",
        "lists": how,
        "build": build,
        "size": index.size_bytes / 2**20,
        "recall": recalls,
        "one": one,
        "filtered": filtered,
        "batch": batch,
    }


def show(title: str, rows: Sequence[dict[str, object]]) -> rich.table.Table:
    """The table of one set of vectors."""
    out = rich.table.Table(title=title, box=None, pad_edge=False, title_justify="left")
    for name in ("kind", "lists read", "build s", "MB", "recall@20", "@100", "one p50 ms", "p95", "cpu"):
        out.add_column(name, justify="left" if name == "kind" else "right")
    for name in ("x exact", "filter p50", "recall@20", "32: p50 ms", "p95", "x exact"):
        out.add_column(name, justify="right")
    exact = next((row for row in rows if row["kind"] == "exact"), None)
    for row in rows:
        times = {name: f"{exact[name][0] / row[name][0]:.1f}" if exact else "" for name in ("one", "batch")}
        out.add_row(
            row["kind"], row["lists"], f"{row['build']:.1f}", f"{row['size']:.0f}",
            f"{row['recall']['20']:.3f}", f"{row['recall']['100']:.3f}",
            *(f"{value:.2f}" for value in row["one"]), times["one"],
            f"{row['filtered'][0]:.2f}", f"{row['recall']['filtered 20']:.3f}",
            *(f"{value:.1f}" for value in row["batch"][:2]), times["batch"],
        )  # fmt: skip
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table for each set of vectors; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = {"type": lambda text: [int(part) for part in text.split(",")]}
    names = {"type": lambda text: text.split(",")}
    parser.add_argument("--items", default=[1_000_000], **numbers)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--data", default=list(DATA), **names)
    parser.add_argument("--kinds", default=list(KINDS), help="also auto", **names)
    parser.add_argument("--recall", type=float, default=0.98, help="candidates.index_recall (%(default)s)")
    parser.add_argument("--sample", type=int, default=512, help="queries (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each timing (%(default)s)")
    parser.add_argument("--vectors", help="item_vectors.npz of a CandidateIndex artifact")
    parser.add_argument("--queries", help="query_vectors.npz of the RetrievalTrainer artifact")
    options = parser.parse_args(arguments)
    for given, known in ((options.data, list(DATA)), (options.kinds, [*KINDS, "auto"])):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"{', '.join(unknown)} is unknown; choose from {', '.join(known)}")
    if (options.vectors is None) != (options.queries is None):
        parser.error("--vectors and --queries belong together")
    console = rich.console.Console(width=180, highlight=False)
    if options.vectors:
        vectors = arrays.load(options.vectors)["vectors"][1:]  # row 0 is no item
        sets = {f"{options.vectors}": (vectors, arrays.load(options.queries)["vectors"][: options.sample])}
    else:
        sets = {}
        for name in options.data:
            for count in options.items:
                drawn = DATA[name](count + options.sample, options.dim, np.random.default_rng(1))
                sets[f"{count:,} {name}"] = (drawn[:count], drawn[count:])
    for title, (vectors, queries) in sets.items():
        rows = [measure(kind, vectors, queries, options.recall, options.seconds) for kind in options.kinds]
        shape = f"{title}: {len(vectors):,} x {vectors.shape[1]}, {os.cpu_count()} cores"
        console.print(show(shape, rows))
        console.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
