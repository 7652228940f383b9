"""Where the time of one `recommend` goes: in this process, on one core, stage by stage.

    python benchmarks/latency.py --run runs/tuning --set split.evaluate_on=eval
    python benchmarks/latency.py --set candidates.two_tower=450   # another number of candidates

Every stage is timed as a graph that ends after it, on the same requests in turn; a stage's own
time is the difference to the stage before. `wall` is what a caller waits, `cpu` what the
process worked, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks import run_models
from components.candidate_sampler.executor import tensor
from models import features as F
from models.funnel import Funnel
from pipeline.errors import UserError

Request = Mapping[str, tf.Tensor]


def requests(run: run_models.RunModels, count: int, k: int) -> list[dict[str, tf.Tensor]]:
    """What `recommend` is sent by users drawn at random, each with their own history."""
    log, length = run.log, run.config.candidates.history_length
    users = np.unique(log.before(run.windows.cutoff).user)
    out = []
    for user in np.random.default_rng(0).choice(users, count, replace=False):
        inputs = log.histories(np.asarray([user]), run.windows.cutoff, length)
        inputs |= {
            F.CONTEXT_TIMESTAMP: np.asarray([run.windows.cutoff], np.int64),
            F.EXCLUDE_ITEM_ID: np.asarray([[""]], object),
            F.CATEGORY: np.asarray([[""]], object),
            F.K: np.asarray([k], np.int32),
            F.DIVERSITY: np.asarray([-1], np.float32),
            F.DROP_BOUGHT_DAYS: np.asarray([-1], np.float32),
        }
        out.append({name: tensor(values) for name, values in inputs.items()})
    return out


def stages(funnel: Funnel) -> dict[str, Callable[[Request], Any]]:
    """What is done after each stage, all before it included."""
    retriever = funnel.retriever

    def run(inputs: Request, until: str) -> Any:
        request = retriever.parser(inputs)
        if until == "parse":
            return request
        query = retriever.query(request)
        if until == "query tower":
            return request, query
        allowed = funnel.allowed(inputs, request)
        if until == "filters":
            return request, query, allowed
        found = retriever.sources(request, query, allowed)
        if until == "sources":
            return request, vars(found)
        features, codes = retriever.pair_features(request, found)
        if until == "pair features":
            return request, vars(found), features, codes
        probability = tf.where(found.valid, funnel.probability(features, codes), -1.0)
        if until == "ranker":
            return request, vars(found), probability
        return request, vars(found), funnel.arrange(inputs, request, found, probability)

    names = ("parse", "query tower", "filters", "sources", "pair features", "ranker", "re-ranking")
    return {name: functools.partial(run, until=name) for name in names} | {"reasons": funnel.recommend}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    run_models.add_arguments(parser)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--k", type=int, default=20)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    run = run_models.RunModels.read(options)
    funnel = run.funnel()
    asked = requests(run, options.requests, options.k)
    graphs = {}
    for name, stage in stages(funnel).items():
        spec = {
            key: tf.TensorSpec([1, *[None] * (value.shape.rank - 1)], value.dtype)
            for key, value in asked[0].items()
        }
        graphs[name] = tf.function(stage, input_signature=[spec], autograph=False)
    wall: dict[str, list[float]] = {name: [] for name in graphs}
    cpu: dict[str, list[float]] = {name: [] for name in graphs}
    for round_ in range(options.rounds + 1):
        for inputs in asked:
            for name, graph in graphs.items():
                begun, worked = time.perf_counter(), time.process_time()
                graph(inputs)
                if round_:  # the first round traces
                    wall[name].append(1000 * (time.perf_counter() - begun))
                    cpu[name].append(1000 * (time.process_time() - worked))
    table = Table(title="one request, one core, ms", box=None)
    for header in ("stage", "wall", "cpu", "wall so far", "cpu so far", "p99 wall so far"):
        table.add_column(header, justify="left" if header == "stage" else "right")
    before = (0.0, 0.0)
    for name in graphs:
        now = (float(np.median(wall[name])), float(np.median(cpu[name])))
        cells = [now[0] - before[0], now[1] - before[1], *now, float(np.percentile(wall[name], 99))]
        table.add_row(name, *(f"{cell:.2f}" for cell in cells))
        before = now
    Console(width=120).print(table)
    sizes = run.config.candidates
    places = sizes.two_tower + sizes.buy_again + sizes.co_purchased + sizes.trending
    print(
        f"{len(asked)} users, {options.rounds} rounds; up to {places} candidates of "
        f"{funnel.retriever.sources.count:,} ranked, {options.k} returned; medians"
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"latency: {error}")
