"""What re-ranking costs and brings: NDCG against diversity, coverage and novelty, by setting.

    python benchmarks/reranking.py --run runs/tuning --set split.evaluate_on=eval

The protocol is FunnelEvaluator's: every user asks at the cut-off, relevant is what they then buy;
task `novel` excludes what they bought before. Each row changes one thing about `none`, the
ranker's own order. Columns: NDCG at 10 and 20 and the change of the first with its standard
error (paired, over users); intra-list distance of the first ten (mean 1 - cosine of the item
vectors over pairs: Ziegler et al., WWW 2005) and its change; pairs of another category; share of
the catalogue in somebody's first ten; novelty (mean -log2 of the share of users who bought the
item: Vargas and Castells, RecSys 2011).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks import run_models  # (sets TensorFlow's environment)
from components.common import metrics
from components.common.candidate_lists import tensor
from components.common.protocol import TASKS, Protocol
from models.funnel.exploration import Explorer
from models.funnel.reranking import Reranker, boosts_of
from models.funnel.servable import Funnel
from schema import names as F
from schema.errors import UserError

_BATCH = 32
_K = 20
_AT = 10


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
      name: as printed.
      serving: settings of the section `serving`, all else as in `none`.
      drop_bought_days: the request's.
    """

    name: str
    serving: dict[str, Any]
    drop_bought_days: float = 0.0


def settings(run: run_models.RunModels) -> list[Setting]:
    """The rows, by what the shop of the run has."""
    default = run.config.serving.diversity
    strengths = sorted({0.25, 0.5, 0.7, 0.85, 1.0, default})
    rows = [Setting("none", {})]
    rows += [Setting(f"diversity {d:g}", {"diversity": d}) for d in strengths if d]
    if run.config.items.category:
        rows += [Setting(f"cap {cap} a category", {"category_cap": cap}) for cap in (1, 2, 3)]
        rows.append(Setting(f"diversity {default:g}, cap 2", {"diversity": default, "category_cap": 2}))
    brand = run.config.items.brand
    if brand:
        items = run.factory.items
        largest = np.bincount(items.categorical[brand])[1:].argmax() + 1
        for factor in (1.25, 2.0):
            boost = {"attribute": brand, "values": [items.vocabularies[brand][largest]], "factor": factor}
            rows.append(Setting(f"largest {brand} x {factor:g}", {"boosts": [boost]}))
    rows += [Setting(f"explore {share:g}", {"exploration_share": share}) for share in (0.05, 0.1, 0.2)]
    rows += [Setting(f"drop bought {days} days", {}, days) for days in (3, 14)]
    return rows


def chosen(rows: list[Setting], names: Sequence[str]) -> list[Setting]:
    """`none` and the rows of some names; all if none is named.

    Raises:
      UserError: there is no such row.
    """
    known = [row.name for row in rows]
    for name in names:
        if name not in known:
            raise UserError(f"--row {name}: there is no such row; known: {'; '.join(known)}")
    return [row for row in rows if not names or row.name in ("none", *names)]


def rows_of(
    run: run_models.RunModels, funnel: Funnel, wanted: list[Setting]
) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """A graph from requests to the listed rows, int32 [B, 20], of each setting; ranks once."""
    items, retriever, base = run.factory.items, funnel.retriever, run.config.serving
    category = items.categorical.get(run.config.items.category)
    candidates = retriever.snapshot.candidate_row
    parts = {}
    for setting in wanted:
        plain = {"diversity": 0.0, "category_cap": None, "boosts": [], "exploration_share": 0.0}
        serving = type(base).model_validate(base.model_dump() | plain | setting.serving)
        parts[setting.name] = (
            Reranker(
                retriever.item_vectors,
                retriever.sources.candidate_row,
                None if category is None else category[candidates],
                boosts_of(items, serving.boosts, candidates),
                serving,
            ),
            Explorer.of(items, retriever.snapshot, retriever.search_vectors.numpy(), category, serving),
        )

    def graph(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        request = retriever.parser(inputs)
        found = retriever.sources(request, retriever.query(request), funnel.allowed(inputs, request))
        of_pair, _ = retriever.pair_features.of_pair(request, found)
        probability = funnel.probability(of_pair, found.position)
        probability = tf.where(found.valid, probability, -1.0)
        out = {}
        for name, (reranker, explorer) in parts.items():
            funnel.reranker, funnel.explorer = reranker, explorer
            out[name] = funnel.arrange(inputs, request, found, probability)[0]
        return out

    return tf.function(graph, reduce_retracing=True, autograph=False)


def requests(
    run: run_models.RunModels, protocol: Protocol, task: str, users: np.ndarray
) -> Iterator[dict[str, tf.Tensor]]:
    """Batches of `recommend` inputs."""
    log, cutoff = run.log, run.windows.cutoff
    ids = log.items[protocol.catalogue]
    for start in range(0, len(users), _BATCH):
        batch = users[start : start + _BATCH]
        inputs = log.histories(batch, cutoff, run.config.candidates.history_length)
        excluded = [ids[row].tolist() if task == "novel" else [] for row in protocol.seen[batch]]
        longest = max(1, *map(len, excluded))
        inputs |= {
            F.CONTEXT_TIMESTAMP: np.full(len(batch), cutoff, np.int64),
            F.EXCLUDE_ITEM_ID: np.asarray([row + [""] * (longest - len(row)) for row in excluded], object),
            F.CATEGORY: np.full((len(batch), 1), "", object),
            F.K: np.full(len(batch), _K, np.int32),
            F.DIVERSITY: np.full(len(batch), -1, np.float32),
        }
        yield {name: tensor(values) for name, values in inputs.items()}


def listed(
    run: run_models.RunModels,
    funnel: Funnel,
    protocol: Protocol,
    task: str,
    users: np.ndarray,
    wanted: list[Setting],
) -> dict[str, np.ndarray]:
    """Setting -> int32 [U, 20], rows of the item table."""
    by_days: dict[float, list[Setting]] = {}
    for setting in wanted:
        by_days.setdefault(setting.drop_bought_days, []).append(setting)
    out: dict[str, list[np.ndarray]] = {}
    for days, some in by_days.items():
        graph = rows_of(run, funnel, some)
        for inputs in requests(run, protocol, task, users):
            inputs[F.DROP_BOUGHT_DAYS] = tf.fill(tf.shape(inputs[F.K]), float(days))
            for name, rows in graph(inputs).items():
                out.setdefault(name, []).append(rows.numpy())
    return {name: np.concatenate(parts) for name, parts in out.items()}


def measure(
    run: run_models.RunModels, protocol: Protocol, users: np.ndarray, task: str, rows: np.ndarray
) -> dict[str, Any]:
    """The columns of one row; `ndcg` holds every user's."""
    items, log = run.factory.items, run.log
    column = np.append(protocol.column, -1)[pd.Index(log.items).get_indexer(items.item_id)]
    # new items are outside the protocol's catalogue: their places earn nothing
    column = np.where(column < len(protocol.catalogue), column, -1)
    values = metrics.per_user(column[rows], protocol.relevant[task][users], [_AT, _K])
    first = rows[:, :_AT]
    vectors = run.factory.item_vectors[first] * (first > 0)[..., None]
    pairs = (first > 0).sum(1) * ((first > 0).sum(1) - 1)
    near = np.square(vectors.sum(1)).sum(1) - np.square(vectors).sum((1, 2))
    other = np.zeros(len(rows))
    if run.config.items.category:
        code = np.where(first > 0, items.categorical[run.config.items.category][first], -1)
        same = (code[:, :, None] == code[:, None]) & (first > 0)[:, :, None]
        other = 1 - (same.sum((1, 2)) - (first > 0).sum(1)) / np.maximum(pairs, 1)
    past = protocol.past
    pair = np.unique(past.user.astype(np.int64) * len(log.items) + past.item)
    buyers = np.bincount(pair % len(log.items), minlength=len(log.items))
    share = np.append((buyers + 1) / (len(np.unique(past.user)) + 1), np.nan)
    novelty = -np.log2(share[pd.Index(log.items).get_indexer(items.item_id)])
    novelty = np.where(np.isnan(novelty), np.nanmax(novelty), novelty)  # nobody bought it yet
    return {
        "ndcg@10": values["ndcg@10"],
        "ndcg@20": values["ndcg@20"],
        "distance": (1 - near / np.maximum(pairs, 1)),
        "other": other,
        "coverage": (np.unique(first) > 0).sum() / len(protocol.catalogue),
        "novelty": (novelty[first] * (first > 0)).sum(1) / np.maximum((first > 0).sum(1), 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    run_models.add_arguments(parser)
    parser.add_argument("--users", type=int, help="size of a random sample for each task (all users)")
    parser.add_argument(
        "--row", action="append", default=[], help="measure this row and `none` only; can be repeated"
    )
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(argv)
    run = run_models.RunModels.read(options)
    wanted = chosen(settings(run), options.row)
    funnel = run.funnel()
    protocol = Protocol.of(run.log, run.windows, run.config.candidates.min_events)
    console, numbers = Console(width=140), {}
    for task in TASKS:
        users = protocol.users(task)
        if options.users is not None:
            users = np.sort(np.random.default_rng(0).permutation(users)[: options.users])
        table = Table(title=f"task {task}, {len(users)} users, first {_AT} places", box=None)
        headers = ("", "NDCG@10", "change", "s.e.", "NDCG@20", "change", "distance", "change")
        for header in (*headers, "other category", "coverage", "novelty"):
            table.add_column(header, justify="right" if header else "left")
        by_setting = {
            name: measure(run, protocol, users, task, rows)
            for name, rows in listed(run, funnel, protocol, task, users, wanted).items()
        }
        none = by_setting["none"]
        means = {name: float(np.mean(value)) for name, value in none.items()}
        for name, found in by_setting.items():
            mean = {key: float(np.mean(value)) for key, value in found.items()}
            change = {key: mean[key] / means[key] - 1 for key in mean if means[key]}
            error = metrics.standard_error(found["ndcg@10"] - none["ndcg@10"]) / means["ndcg@10"]
            table.add_row(
                name, f"{mean['ndcg@10']:.4f}", f"{change['ndcg@10']:+.2%}", f"{error:.2%}",
                f"{mean['ndcg@20']:.4f}", f"{change['ndcg@20']:+.2%}", f"{mean['distance']:.3f}",
                f"{change['distance']:+.1%}", f"{mean['other']:.3f}", f"{mean['coverage']:.3f}",
                f"{mean['novelty']:.2f}",
            )  # fmt: skip
            numbers[f"{task}/{name}"] = mean | {"ndcg@10 change": change["ndcg@10"], "s.e.": error}
        console.print(table)
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"reranking: {error}")
