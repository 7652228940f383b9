"""Retrieval on one protocol: the two towers and every candidate source against classical recommenders.

    python benchmarks/retrieval.py --config pipeline/configs/complete_journey.yaml
    python benchmarks/retrieval.py --config pipeline/configs/movielens_100k.yaml --window test

Everybody asks once, at the start of the window, and the whole catalogue is ranked. Task `all` counts
every catalogue item of the window, `novel` those that the user never had before (which are taken out
of the ranking); with leave-one-out there is one held-out item a user and only `novel`.

The window is `valid` unless `test` is asked for. The settings of the baselines were tuned on the
validation windows of the two data sets. Ours is what the pipeline makes with the configuration: its
steps up to CandidateIndex run first (or are cached), or `--run` names the folder of a run that was
made with the same configuration and window. Each baseline is fitted in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks import baselines, run_models  # noqa: E402
from components.common import metrics, slicing  # noqa: E402
from components.common.candidate_lists import tensor  # noqa: E402
from components.common.protocol import Protocol  # noqa: E402
from pipeline.formats import format_bytes, format_seconds  # noqa: E402
from pipeline.run import command as runner  # noqa: E402
from pipeline.run import execution  # noqa: E402
from schema import names as F  # noqa: E402
from schema.config import Config  # noqa: E402
from schema.errors import UserError  # noqa: E402

KS = (10, 20, 100, 500)
SHOWN = ("ndcg@10", "ndcg@20", "recall@20", "recall@100", "recall@500", "coverage@20")
OURS = "two towers"
LEARNED, CLOSED = "towers, learned part only", "towers, closed form only"
UNION = "union of the sources"
COSTS = "costs.json"  # what the steps of a run cost when they last ran
# The last step that retrieval needs, and those that count as its training.
LAST_STEP, TRAINING_STEPS = "CandidateIndex", ("TextEncoderTrainer", "RetrievalTrainer", "CandidateIndex")
_BATCH = 32

# Tuned by NDCG@20 on the validation window of the Complete Journey and by NDCG@10 on the validation
# item of MovieLens-100K: {split.strategy: {task: {name: (model, settings)}}}.
_KNN = {"neighbours": 100, "damping": "log", "half_life": 90, "keep_self": True}
TUNED: dict[str, dict[str, dict[str, tuple[str, dict[str, Any]]]]] = {
    "time": {
        "all": {
            "popularity": ("popularity", {"count": "lines"}),
            "popularity, 28 days": ("popularity_recent", {"count": "lines", "days": 28}),
            "personal frequency": ("personal_frequency", {"half_life": None, "popularity_weight": 0.999}),
            "personal, decayed": ("personal_frequency", {"half_life": 90, "popularity_weight": 1.0}),
            "item-KNN": ("item_knn", _KNN | {"shrinkage": 0}),
            "EASE": ("ease", {"regularisation": 30, "damping": "sqrt", "half_life": 120}),
            "iALS": (
                "ials",
                {"factors": 128, "regularisation": 15, "alpha": 1, "damping": "raw", "half_life": 90},
            ),
        },
        "novel": {
            "popularity": ("popularity", {"count": "users"}),
            "popularity, 28 days": ("popularity_recent", {"count": "users", "days": 28}),
            "item-KNN": ("item_knn", _KNN | {"shrinkage": 20}),
            "EASE": ("ease", {"regularisation": 500, "damping": "sqrt", "half_life": 60}),
            "iALS": ("ials", {"factors": 256, "regularisation": 30, "alpha": 2, "damping": "log"}),
        },
    },
    "leave_one_out": {
        "novel": {
            "popularity": ("popularity", {"count": "lines"}),
            "item-KNN": (
                "item_knn",
                {
                    "neighbours": 300,
                    "shrinkage": 0,
                    "damping": "binary",
                    "half_life": None,
                    "keep_self": False,
                },
            ),
            "EASE": ("ease", {"regularisation": 100}),
            "EASE, last 5 events": ("ease", {"regularisation": 300, "last": 5}),
            "iALS": ("ials", {"factors": 128, "regularisation": 15, "alpha": 3, "damping": "binary"}),
        }
    },
}


@dataclasses.dataclass
class Result:
    """Lists of one system for one task and what they cost.

    Attributes:
      name: the system.
      top: int [users, 500], catalogue columns, best first, -1 = none.
      seconds: training and scoring; None where not measured.
      peak_bytes: peak memory while it was trained.
      values: metric -> float [users].
      means: metric -> mean, `<metric>_se`, `coverage@k`.
    """

    name: str
    top: np.ndarray
    seconds: float | None = None
    peak_bytes: float | None = None
    values: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    means: dict[str, float] = dataclasses.field(default_factory=dict)


# --- ours ------------------------------------------------------------------------------


def train(config: Config, runs_dir: Path) -> Path:
    """Runs the pipeline up to the candidate index; what is up to date is cached.

    Returns:
      The run's folder.

    Raises:
      UserError: the run failed; its message is on the terminal.
    """

    def retrieval_only(*args: Any, **kwargs: Any) -> Any:
        from pipeline.pipeline import create_pipeline

        pipeline = create_pipeline(*args, **kwargs)
        last = [component.id for component in pipeline.components].index(LAST_STEP)
        kept, dropped = pipeline.components[: last + 1], pipeline.components[last + 1 :]
        for component in kept:
            component.downstream_nodes.difference_update(dropped)
        pipeline.components = kept
        return pipeline

    if execution.run(config, runs_dir, create_pipeline=retrieval_only):
        raise UserError("the pipeline did not reach the candidate index")
    folder = runs_dir / config.name
    costs = _costs(folder)
    (folder / COSTS).write_text(json.dumps(costs, indent=1))
    return folder


def _costs(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of the training steps, also of those that were cached this time."""
    known = json.loads((folder / COSTS).read_text()) if (folder / COSTS).exists() else {}
    summary = folder / "summary.json"
    stages = json.loads(summary.read_text())["stages"] if summary.exists() else []
    ran = {stage["name"]: stage for stage in stages if not stage["cached"]}
    return known | {
        name: {key: ran[name][key] for key in ("seconds", "peak_memory_bytes")}
        for name in TRAINING_STEPS
        if name in ran
    }


class Ours:
    """The retriever of a run, and the protocol that its data gives.

    Args:
      run: its models and events.
      folder: its folder, which knows what the steps cost.
    """

    def __init__(self, run: run_models.RunModels, folder: Path) -> None:
        self.windows, self.config = run.windows, run.config
        self.items = run.factory.items
        self.retriever = run.factory.at(run.windows.cutoff)
        self._vectors = self.retriever.search_vectors.numpy()
        self._learned = self.retriever.item_vectors.shape[1]  # dimensions; the others are closed-form
        # leave-one-out ranks every item of the data, also those that the past lacks
        least = run.config.candidates.min_events if run.windows.by_time else 0
        self.protocol = Protocol.of(run.log, run.windows, least)
        self.groups = slicing.user_slices(self.protocol.past, None, None)[slicing.ACTIVITY]
        # an item of the log that the catalogue lacks gets row 0, "unknown"
        self._rows = np.maximum(run.log.item_rows(self.items.item_id), 0)
        column = np.full(len(self.items), -1)
        column[self._rows[self.protocol.catalogue]] = np.arange(len(self.protocol.catalogue))
        # the last candidate position stands for "none"
        self._column = column[self.retriever.sources.candidate_row.numpy()]
        self._column[-1] = -1
        costs = _costs(folder)
        self.seconds = sum(cost["seconds"] for cost in costs.values()) if costs else None
        self.peak_bytes = max((cost["peak_memory_bytes"] for cost in costs.values()), default=None)

    def allowed(self, users: np.ndarray, task: str) -> np.ndarray:
        """bool [B, C], candidates that users (int [B]) may be shown."""
        if task != "novel":
            return np.ones((len(users), self.retriever.sources.count), bool)
        seen = np.append(self.protocol.seen[users], np.zeros((len(users), 1), bool), 1)
        return ~seen[:, self._column[:-1]]

    def columns(self, position: np.ndarray) -> np.ndarray:
        """Catalogue columns of candidate positions (int, any shape); -1 = none."""
        return self._column[position]

    def inputs(self, users: np.ndarray) -> dict[str, Any]:
        """Requests of users (int [B]) at their moments."""
        length = self.config.candidates.history_length
        inputs = self.protocol.past.histories(users, self.protocol.moments, length)
        inputs[F.CONTEXT_TIMESTAMP] = self.protocol.moments[users]
        return {name: tensor(value) for name, value in inputs.items()}

    def recommend(self, users: np.ndarray, task: str) -> tuple[dict[str, np.ndarray], float]:
        """Lists of the towers, of each source, of their union and of the union without each source.

        A union is cut to k items by the smallest rank / size that a source gives an item, `size`
        being the configured number of candidates of the source: every source keeps its share.

        Args:
          users: int [A], indices of the log.
          task: "all" or "novel".

        Returns:
          (name -> int [A, 500] catalogue columns, mean number of candidates in the whole union).
        """
        sources = self.retriever.sources
        k = min(KS[-1], sources.count)
        # every vector is compared, whatever kind of search the index does
        vectors = tf.constant(self._vectors[sources.candidate_row.numpy()[:-1]])
        parts = {F.TWO_TOWER: slice(None), LEARNED: slice(self._learned), CLOSED: slice(self._learned, None)}

        def best(score: tf.Tensor, usable: tf.Tensor) -> tf.Tensor:
            value, position = tf.math.top_k(tf.where(usable, score, -1e9), k)
            return tf.where(value > -1e8, position, sources.count)

        @tf.function(reduce_retracing=True, autograph=False)
        def ask(
            inputs: Mapping[str, tf.Tensor], allowed: tf.Tensor
        ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            request = self.retriever.parser(inputs)
            query = self.retriever.query(request)
            found = sources(request, query, allowed)
            scores = sources.dense_scores(found)
            lists = {}
            for name, part in parts.items():
                lists[name] = best(tf.matmul(query[:, part], vectors[:, part], transpose_b=True), allowed)
            ranks = found.ranks()
            for name, size in sources.sizes.items():
                if name == F.PLANNED:  # it scores the promoted candidates alone
                    lists[name] = best(-ranks[name], ranks[name] < size)
                elif name != F.TWO_TOWER:
                    # the towers' scores of new items may be negative
                    usable = allowed if name == F.NEW_ITEMS else allowed & (scores[name] > 0)
                    lists[name] = best(scores[name], usable)
            share = {name: rank / sources.sizes[name] for name, rank in ranks.items()}
            for left_out in (None, *share):
                others = [value for name, value in share.items() if name != left_out]
                least = tf.reduce_min(tf.stack(others), 0)
                lists[f"union without {left_out}" if left_out else UNION] = best(-least, least < 1)
            return lists, tf.reduce_mean(
                tf.reduce_sum(tf.cast(found.position < sources.count, tf.float32), 1)
            )

        lists: dict[str, list[np.ndarray]] = {}
        sizes = []
        for start in range(0, len(users), _BATCH):
            batch = users[start : start + _BATCH]
            found, size = ask(self.inputs(batch), tf.constant(self.allowed(batch, task)))
            sizes.append(float(size))
            for name, position in found.items():
                lists.setdefault(name, []).append(self._column[position.numpy()])
        return {name: np.concatenate(parts) for name, parts in lists.items()}, float(np.mean(sizes))

    def cold(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ranking of the items that nobody had before, by the towers.

        Returns:
          (users int [A]: those with a past who take such an item in the window; top int [A, k]
          and relevant bool [A, N] over the N items of the catalogue without a past event).
        """
        past, future = self.windows.divide(self.protocol.log)
        future = future.purchases
        rows = self._rows
        cold = np.setdiff1d(np.arange(1, len(self.items)), rows[past.item])
        place = np.full(len(self.items), -1)
        place[cold] = np.arange(len(cold))
        taken = place[rows[future.item]]
        known = np.isin(future.user, past.user) & (taken >= 0)
        users = np.unique(future.user[known])
        relevant = np.zeros((len(users), len(cold)), bool)
        relevant[np.searchsorted(users, future.user[known]), taken[known]] = True
        vectors = tf.constant(self._vectors[cold])
        top = []
        for start in range(0, len(users), _BATCH):
            request = self.retriever.parser(self.inputs(users[start : start + _BATCH]))
            score = tf.matmul(self.retriever.query(request), vectors, transpose_b=True)
            top.append(tf.math.top_k(score, min(KS[-1], len(cold))).indices.numpy())
        return users, np.concatenate(top) if top else np.zeros((0, 1), int), relevant


# --- baselines -------------------------------------------------------------------------


def interactions(ours: Ours, asked: np.ndarray) -> baselines.Interactions:
    """The past of the catalogue's items as the baselines read it."""
    protocol = ours.protocol
    column = protocol.column[protocol.past.purchases.item]
    keep = column < len(protocol.catalogue)
    past = protocol.past.purchases
    age = (protocol.moments[past.user] - past.timestamp) / F.SECONDS_PER_DAY
    return baselines.Interactions(
        user=past.user[keep].astype(np.int64),
        item=column[keep].astype(np.int64),
        age=age[keep].astype(np.float32),
        users=len(protocol.log.users),
        items=len(protocol.catalogue),
        asked=asked.astype(np.int64),
    )


def fit_baseline(name: str, model: str, settings: Mapping[str, Any], data: Path, novel: bool) -> Result:
    """Fits a baseline in a process of its own."""
    output = data.with_name("top.npy")
    command = [sys.executable, str(ROOT / "benchmarks/baselines.py"), "--data", str(data), "--model", model]
    command += ["--settings", json.dumps(settings), "--k", str(KS[-1]), "--output", str(output)]
    done = subprocess.run(command + ["--novel"] * novel, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"baseline {name} failed:\n{done.stderr[-2000:]}")
    cost = json.loads(done.stdout.splitlines()[-1])
    return Result(name, np.load(output), cost["seconds"], cost["peak_bytes"])


# --- tables ----------------------------------------------------------------------------


def measure(result: Result, relevant: np.ndarray, catalogue: int) -> Result:
    """Fills in the metrics."""
    result.values = metrics.per_user(result.top, relevant, KS)
    result.means = metrics.summarise(result.values, result.top, catalogue, KS)
    return result


def paired(result: Result, other: Result, metric: str) -> tuple[float, float]:
    """Mean and standard error of the difference over users."""
    difference = result.values[metric] - other.values[metric]
    return float(difference.mean()), metrics.standard_error(difference)


def print_systems(console: Console, title: str, results: list[Result], metric: str) -> None:
    """One row a system, worst first; the last column compares with the towers."""
    table = Table(title=title, title_justify="left")
    for heading in ("", *SHOWN, "s", "peak", f"towers - it, {metric}"):
        table.add_column(heading, justify="left" if not heading else "right")
    ours = next(result for result in results if result.name == OURS)
    for result in sorted(results, key=lambda result: result.means[metric]):
        mean, error = paired(ours, result, metric)
        table.add_row(
            result.name,
            *(f"{result.means[name]:.4f}" for name in SHOWN),
            "-" if result.seconds is None else format_seconds(result.seconds),
            "-" if result.peak_bytes is None else format_bytes(result.peak_bytes),
            "" if result is ours else f"{mean:+.4f} ± {error:.4f}",
        )
    console.print(table)


def print_slices(console: Console, title: str, results: list[Result], groups: np.ndarray) -> None:
    """NDCG@20 and recall@100 of every system by the users' activity."""
    names = sorted(set(groups.tolist()))
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(f"{name}, n={int((groups == name).sum())}\nndcg@20 / recall@100", justify="right")
    for result in results:
        cells = []
        for name in names:
            chosen = groups == name
            means = [result.values[metric][chosen].mean() for metric in ("ndcg@20", "recall@100")]
            cells.append(f"{means[0]:.4f} / {means[1]:.4f}")
        table.add_row(result.name, *cells)
    console.print(table)


def print_sources(
    console: Console, title: str, lists: Mapping[str, Result], sizes: Mapping[str, int], best: Result
) -> None:
    """Recall of each source alone, of the union, and what the union would lose without it."""
    table = Table(title=title, title_justify="left")
    for heading in ("", "candidates", "recall@100", "recall@500", "adds @100", "adds @500"):
        table.add_column(heading, justify="left" if not heading else "right")
    union = lists[UNION]
    for name, size in sizes.items():
        without = lists.get(f"union without {name}")
        adds = [
            f"{union.means[metric] - without.means[metric]:+.4f}" if without else ""
            for metric in ("recall@100", "recall@500")
        ]
        alone = [f"{lists[name].means[metric]:.4f}" for metric in ("recall@100", "recall@500")]
        table.add_row(name, str(size), *alone, *adds)
    table.add_row(
        UNION, "", *(f"{union.means[metric]:.4f}" for metric in ("recall@100", "recall@500")), "", ""
    )
    ratio = union.means["recall@100"] / max(best.means["recall@100"], 1e-9)
    console.print(table)
    console.print(f"union's recall@100 is {ratio:.3f} times that of the best baseline ({best.name})\n")


def score_task(
    ours: Ours, task: str, of: str, systems: Mapping[str, tuple[str, dict[str, Any]]], console: Console
) -> dict[str, Any]:
    """Scores the baselines, the towers and the sources on one task, prints and returns the figures.

    Args:
      ours: what is compared.
      task: "all" or "novel".
      of: task and window, for the titles.
      systems: baselines by name.
      console: where to print.
    """
    protocol = ours.protocol
    users, catalogue = protocol.users(task), len(protocol.catalogue)
    relevant = protocol.relevant[task][users]
    lists, size = ours.recommend(users, task)
    found = {name: measure(Result(name, top), relevant, catalogue) for name, top in lists.items()}
    towers = dataclasses.replace(
        found[F.TWO_TOWER], name=OURS, seconds=ours.seconds, peak_bytes=ours.peak_bytes
    )
    classical = []
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "interactions.npz"
        baselines.save(str(data), interactions(ours, users))
        for name, (model, settings) in systems.items():
            result = fit_baseline(name, model, settings, data, task == "novel")
            classical.append(measure(result, relevant, catalogue))
    shown = [*classical, found[LEARNED], found[CLOSED], towers, found[UNION]]
    of = f"{of}, {len(users):,} users"
    print_systems(console, of, shown, "ndcg@20" if ours.windows.by_time else "ndcg@10")
    print_slices(console, f"{of}, by the users' past events", shown, ours.groups[users].astype(str))
    best = max(classical, key=lambda result: result.means["recall@100"], default=towers)
    title = f"{of}: sources, {size:.0f} candidates a user in all"
    print_sources(console, title, found, ours.retriever.sources.sizes, best)
    costs = {result.name: result for result in [*classical, *found.values(), towers]}
    return {
        "users": len(users),
        "candidates": size,
        "systems": {
            name: result.means | {"seconds": result.seconds, "peak_bytes": result.peak_bytes}
            for name, result in costs.items()
        },
    }


def score_cold_items(ours: Ours, console: Console) -> dict[str, float] | None:
    """Scores the towers on the items that nobody had before, prints and returns the figures."""
    users, top, relevant = ours.cold()
    if not len(users):
        return None
    count = relevant.shape[1]
    means = metrics.summarise(metrics.per_user(top, relevant, KS), top, count, KS)
    chance = min(1.0, 100 / count)
    console.print(
        f"cold items: {count:,} items without a past event, {len(users):,} users who take one; the towers' "
        f"recall@100 among them {means['recall@100']:.4f} ± {means['recall@100_se']:.4f}, by chance "
        f"{chance:.4f}\n"
    )
    return means | {"users": len(users), "items": count, "chance": chance}


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measures everything that the arguments ask for, prints it and returns it."""
    args.set = [*args.set, f"split.evaluate_on={'test' if args.window == 'test' else 'eval'}"]
    config = runner.load_config(args)
    if args.name is None:
        config = config.model_copy(update={"name": f"{config.name}_retrieval_{args.window}"})
    folder = Path(args.run) if args.run else train(config, Path(args.runs_dir).absolute())
    chosen = argparse.Namespace(run=folder, config=args.config, set=args.set)
    ours = Ours(run_models.RunModels.read(chosen, with_ranker=False), folder)
    wanted = None if args.systems is None else args.systems.split(",")
    console.print(
        f"{folder}, window {args.window}: {len(ours.protocol.past):,} past events, "
        f"{len(ours.protocol.catalogue):,} items ranked"
    )
    out: dict[str, Any] = {"config": args.config, "window": args.window, "run": str(folder), "tasks": {}}
    for task, systems in TUNED[config.split.strategy].items():
        systems = {name: system for name, system in systems.items() if wanted is None or name in wanted}
        out["tasks"][task] = score_task(ours, task, f"task {task}, window {args.window}", systems, console)
    out["cold_items"] = score_cold_items(ours, console)
    return out


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="pipeline/configs/complete_journey.yaml", help="the shop")
    parser.add_argument("--window", choices=("valid", "test"), default="valid", help="what is scored")
    parser.add_argument("--run", help="folder of a run made with the same configuration and window")
    parser.add_argument("--runs-dir", default="runs", help="where runs are made")
    parser.add_argument("--name", help="name of the run that is made (<config>_retrieval_<window>)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as the runner's")
    parser.add_argument("--sample", help="as the runner's: a sample of users")
    parser.add_argument("--systems", help="names of baselines, separated by commas (all)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        out = run(args, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        args.json.write_text(json.dumps(out, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
