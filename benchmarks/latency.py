"""Where the time of one `recommend` goes: in this process, on one core, stage by stage.

    python benchmarks/latency.py --run runs/tuning --set split.evaluate_on=eval
    python benchmarks/latency.py --set candidates.two_tower=450   # another number of candidates
    python benchmarks/latency.py --synthetic 20000                # without a run: random weights and items

Every stage is timed as a graph that ends after it, on the same requests in turn; a stage's own
time is the difference to the stage before. `wall` is what a caller waits, `cpu` what the
process worked, which other processes disturb less. `as the server runs it` is the whole of it once
more, saved as a servable and loaded by the model server's own code, in turns with the stages. Below
stand the ops that one request executes, which no other process disturbs, and how much of the machine others
used, or a hypervisor took away, meanwhile.
"""

from __future__ import annotations

import argparse
import collections
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks import run_models, synthetic_servable
from benchmarks.serving_load import CpuUse
from components.common.candidate_lists import tensor
from models.data.event_log import EventLog
from models.data.parameters import parameters
from models.funnel.servable import Funnel
from models.retrieval.sources.base import FoundCandidates, SparseValues
from schema import names as F
from schema.errors import UserError
from serving.model_server.core import servable

Request = Mapping[str, tf.Tensor]
_SERVED = "as the server runs it"
# Nodes that hand values to a function and back, or are the whole of it.
_NO_WORK = {"_Arg", "_Retval", "PartitionedCall", "StatefulPartitionedCall", "NoOp"}


def requests(log: EventLog, cutoff: int, length: int, count: int, k: int) -> list[dict[str, tf.Tensor]]:
    """What `recommend` is sent by users drawn at random, each with their own history.

    Args:
      log: events.
      cutoff: unix seconds, when they ask.
      length: events of a request.
      count: users.
      k: items that each wants.
    """
    users = np.unique(log.before(cutoff).user)
    out = []
    for user in np.random.default_rng(0).choice(users, count, replace=False):
        inputs = log.histories(np.asarray([user]), cutoff, length)
        inputs |= {
            F.CONTEXT_TIMESTAMP: np.asarray([cutoff], np.int64),
            F.EXCLUDE_ITEM_ID: np.asarray([[""]], object),
            F.CATEGORY: np.asarray([[""]], object),
            F.K: np.asarray([k], np.int32),
            F.DIVERSITY: np.asarray([-1], np.float32),
            F.DROP_BOUGHT_DAYS: np.asarray([-1], np.float32),
        }
        out.append({name: tensor(values) for name, values in inputs.items()})
    return out


def subject(options: argparse.Namespace) -> tuple[Funnel, list[dict[str, tf.Tensor]]]:
    """The funnel that is asked, and requests."""
    if options.synthetic:
        config = synthetic_servable.configured(options.set)
        with tempfile.TemporaryDirectory() as folder:
            shop = synthetic_servable.SyntheticShop.make(options.synthetic, config, folder)
            ranker = tf.saved_model.load(shop.ranker)
        funnel = Funnel(shop.retriever, ranker, None, None, shop.items, config)
        log, cutoff = shop.log, synthetic_servable.AS_OF
    else:
        run = run_models.RunModels.read(options)
        config, funnel, log, cutoff = run.config, run.funnel(), run.log, run.windows.cutoff
    return funnel, requests(log, cutoff, config.candidates.history_length, options.requests, options.k)


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
        found = retriever.sources(request, query, allowed).without_empty_places()
        if until == "sources":
            return request, _tensors(found)
        of_pair, _ = retriever.pair_features.of_pair(request, found)
        if until == "pair features":
            return request, _tensors(found), of_pair
        probability = tf.where(found.valid, funnel.probability(of_pair, found.position), -1.0)
        if until == "ranker":
            return request, _tensors(found), probability
        return request, _tensors(found), funnel.arrange(inputs, request, found, probability)

    names = ("parse", "query tower", "filters", "sources", "pair features", "ranker", "re-ranking")
    return {name: functools.partial(run, until=name) for name in names} | {"reasons": funnel.recommend}


def _tensors(found: FoundCandidates) -> dict[str, Any]:
    """What a graph can return of it."""
    return {
        name: vars(value) if isinstance(value, SparseValues) else value for name, value in vars(found).items()
    }


def concrete(stage: Callable[[Request], Any], spec: Mapping[str, tf.TensorSpec]) -> Callable[..., Any]:
    """The stage as a server calls it: a `tf.function` would look at every input first."""

    def call(**inputs: tf.Tensor) -> Any:
        return stage(inputs)

    return tf.function(call, autograph=False).get_concrete_function(**spec)


def as_served(
    funnel: Funnel, asked: Sequence[Request]
) -> tuple[Callable[[Request], Any], collections.Counter[str]]:
    """`recommend` in the session that `serving.model_server` would run it in, on one thread; and its ops."""
    spec = {name: tf.TensorSpec([None] * value.shape.rank, value.dtype) for name, value in asked[0].items()}
    recommend = concrete(funnel.recommend, spec)
    module = tf.Module(name="servable")
    module.parameters = parameters(funnel, [recommend])
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"recommend": recommend})
        loaded = servable.load(folder, 1, intra_op=1, inter_op=-1)
        ops = executed_ops(folder, asked[0])
    return loaded.signatures["recommend"].run, ops


def executed_ops(folder: str, request: Request) -> collections.Counter[str]:
    """How often a `recommend` executes each kind of op, loops as often as they turn.

    Args:
      folder: a SavedModel.
      request: what it is asked.
    """
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    traced = tf.compat.v1.RunMetadata()
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], folder).signature_def["recommend"]
        feed = {info.name: request[name].numpy() for name, info in signature.inputs.items()}
        fetch = [info.name for info in signature.outputs.values()]
        session.run(fetch, feed)  # the first run optimises the graph
        session.run(fetch, feed, options=options, run_metadata=traced)
    labels = [node.timeline_label for device in traced.step_stats.dev_stats for node in device.node_stats]
    kinds = [label.partition(" = ")[2].partition("(")[0] for label in labels]
    return collections.Counter(kind for kind in kinds if kind and kind not in _NO_WORK)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    run_models.add_arguments(parser)
    parser.add_argument(
        "--synthetic", type=int, metavar="ITEMS", help="measure a servable of ITEMS random items"
    )
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--k", type=int, default=20)
    options = parser.parse_args(argv)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    funnel, asked = subject(options)
    graphs = {}
    for name, stage in stages(funnel).items():
        spec = {
            key: tf.TensorSpec([1, *[None] * (value.shape.rank - 1)], value.dtype)
            for key, value in asked[0].items()
        }
        graphs[name] = concrete(stage, spec)
    server, ops = as_served(funnel, asked)
    arrays = [{name: value.numpy() for name, value in inputs.items()} for inputs in asked]
    calls = {name: [functools.partial(graph, **inputs) for inputs in asked] for name, graph in graphs.items()}
    calls[_SERVED] = [functools.partial(server, inputs) for inputs in arrays]
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    ranked: list[int] = []
    use = CpuUse()
    for round_ in range(options.rounds + 1):
        for place in range(len(asked)):
            for name, call in calls.items():
                begun, worked = time.perf_counter(), time.process_time()
                found = call[place]()
                if not round_ and name == "sources":
                    ranked.append(int(np.sum(found[1]["valid"])))
                if round_:  # the first round traces
                    wall[name].append(1000 * (time.perf_counter() - begun))
                    cpu[name].append(1000 * (time.process_time() - worked))
    table = Table(title="one request, one core, ms", box=None)
    for header in ("stage", "wall", "cpu", "wall so far", "cpu so far", "p99 wall so far"):
        table.add_column(header, justify="left" if header == "stage" else "right")
    before = (0.0, 0.0)
    for name in calls:
        now = (float(np.median(wall[name])), float(np.median(cpu[name])))
        own = ["", ""] if name == _SERVED else [f"{now[i] - before[i]:.2f}" for i in range(2)]
        table.add_row(name, *own, *(f"{cell:.2f}" for cell in (*now, np.percentile(wall[name], 99))))
        before = now
    Console(width=120).print(table)
    most = ", ".join(f"{count} {kind}" for kind, count in ops.most_common(6))
    print(f"{ops.total():,} ops a request: {most}")
    stolen, others = use.shares()
    print(
        f"{len(asked)} users, {options.rounds} rounds, medians; of {funnel.retriever.sources.count:,} items "
        f"{np.mean(ranked):.0f} ranked on average ({min(ranked)} to {max(ranked)}), {options.k} returned; "
        f"{stolen:.0%} of the machine stolen, {others:.0%} used by others"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"latency: {error}")
