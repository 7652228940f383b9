"""The whole funnel against other recommenders, on one protocol, both windows.

    python benchmarks/funnel.py                               # runs the pipeline on both windows
    python benchmarks/funnel.py --window valid --run runs/tuning
    python benchmarks/funnel.py --window test --run runs/complete_journey --recs folder

Everybody asks once, at the start of the window, and gets 100 items of the whole catalogue, with the
re-ranking that the shop serves. Task `all` counts every catalogue item that a user takes in the
window, `novel` those that the user never had before. The lists are those that FunnelEvaluator
wrote; the classical recommenders are fitted here, each in a process of its own.

`--trees` adds LightGBM on the ranker's own lists and features, in the order of its scores alone: what the
ranker leaves on the table. `--known-ahead 0 7 28` trains the ranker again as if promotions were known so
many days before their week ends (`exposures.known_ahead`); these lists are not re-ranked either.

`--recs` names a folder of anybody's recommendations for the test window: `<name>.<task>.parquet`
with the columns user_id, rank (from 1) and item_id. Differences are paired over users.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks import baselines, own_lists, retrieval, run_models  # noqa: E402
from benchmarks.retrieval import Ours, Result  # noqa: E402
from components.common.protocol import TASKS  # noqa: E402
from pipeline import record as run_record  # noqa: E402
from pipeline.run import command as runner  # noqa: E402
from pipeline.run import execution  # noqa: E402
from schema.errors import UserError  # noqa: E402

FUNNEL = "funnel"
SHOWN = ("ndcg@10", "ndcg@20", "recall@20", "recall@100", "coverage@20")
WINDOWS = {"valid": "eval", "test": "test"}
_DEPTH = 100


def lists_of(path: Path, ours: Ours, users: np.ndarray) -> np.ndarray:
    """Recommendations from a file as catalogue columns.

    Args:
      path: parquet with `user_id`, `rank` from 1 and `item_id`.
      ours: whose catalogue and users are meant.
      users: int [U], indices of the log.

    Returns:
      int [U, 100], -1 where the file has no item of the catalogue.

    Raises:
      UserError: the file lacks a column, or has a list for none of the users.
    """
    frame = pd.read_parquet(path)
    missing = {"user_id", "rank", "item_id"} - set(frame.columns)
    if missing:
        raise UserError(
            f"{path}: no column {', '.join(sorted(missing))}; user_id, rank and item_id are needed"
        )
    log = ours.protocol.log
    frame = frame[frame["rank"].between(1, _DEPTH)]
    row = pd.Index(log.users[users]).get_indexer(frame["user_id"].astype(str))
    if (row < 0).all():
        raise UserError(
            f"{path}: none of the {len(users)} users who are scored; was it made for this window?"
        )
    item = pd.Index(log.items[ours.protocol.catalogue]).get_indexer(frame["item_id"].astype(str))
    top = np.full((len(users), _DEPTH), -1)
    known = row >= 0
    top[row[known], frame["rank"].to_numpy()[known] - 1] = item[known]
    return top


def evaluation(run: Path) -> Path:
    """The folder that FunnelEvaluator wrote in the latest run.

    Raises:
      UserError: the run did not come that far.
    """
    record = run_record.read_run(run / "metadata.sqlite")
    if record is None or "FunnelEvaluator" not in record.nodes:
        raise UserError(f"--run: the latest run in {run} did not reach FunnelEvaluator; run it again")
    return Path(record.nodes["FunnelEvaluator"].first("evaluation").uri)


def score(
    ours: Ours,
    task: str,
    folder: Path,
    recs: Path | None,
    fit: bool,
    more: list[Result],
    console: Console,
) -> dict[str, Any]:
    """Scores one task, prints and returns the figures."""
    protocol = ours.protocol
    users, catalogue = protocol.users(task), len(protocol.catalogue)
    relevant = protocol.relevant[task][users]

    def measured(result: Result) -> Result:
        result.values = retrieval.metrics.per_user(result.top, relevant, (10, 20, _DEPTH))
        result.means = retrieval.metrics.summarise(result.values, result.top, catalogue, (10, 20, _DEPTH))
        return result

    funnel = measured(Result(FUNNEL, lists_of(folder / f"recommendations.{task}.parquet", ours, users)))
    others = [measured(result) for result in more]
    if fit:
        systems = retrieval.TUNED[ours.config.split.strategy][task]
        with tempfile.TemporaryDirectory() as scratch:
            data = Path(scratch) / "interactions.npz"
            baselines.save(str(data), retrieval.interactions(ours, users))
            for name, (model, settings) in systems.items():
                result = retrieval.fit_baseline(name, model, settings, data, task == "novel")
                result.top = result.top[:, :_DEPTH]
                others.append(measured(result))
    for path in sorted(recs.glob(f"*.{task}.parquet")) if recs else []:
        others.append(
            measured(Result(f"{path.name.split('.')[0]} ({recs.name})", lists_of(path, ours, users)))
        )
    table = Table(title=f"task {task}, {len(users):,} users, {catalogue:,} items", title_justify="left")
    for heading in ("", *SHOWN, "funnel - it, ndcg@10", "ndcg@20", "ratio, ndcg@20", "recall@100"):
        table.add_column(heading, justify="left" if not heading else "right")
    out = {}
    for result in sorted([*others, funnel], key=lambda result: result.means["ndcg@20"]):
        means, cells = result.means, [""] * 4
        out[result.name] = dict(means)
        if result is not funnel:
            for place, metric in enumerate(("ndcg@10", "ndcg@20")):
                mean, error = retrieval.paired(funnel, result, metric)
                cells[place] = f"{mean:+.4f} ± {error:.4f}"
                out[result.name] |= {f"difference_{metric}": mean, f"difference_{metric}_se": error}
            for place, metric in enumerate(("ndcg@20", f"recall@{_DEPTH}"), 2):
                cells[place] = f"{funnel.means[metric] / max(means[metric], 1e-9):.3f}"
        table.add_row(result.name, *(f"{means[name]:.4f}" for name in SHOWN), *cells)
    console.print(table)
    return out


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config", default="pipeline/configs/complete_journey.yaml", help="the shop")
    parser.add_argument("--window", choices=(*WINDOWS, "both"), default="both", help="what is scored")
    parser.add_argument("--run", type=Path, help="folder of a run made for that window (else one is made)")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are made")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as the runner's")
    parser.add_argument("--sample", help="as the runner's: a sample of users")
    parser.add_argument("--recs", type=Path, help="recommendations to compare with on the test window")
    parser.add_argument("--no-baselines", action="store_true", help="fit no classical recommender")
    parser.add_argument("--trees", action="store_true", help="LightGBM on the ranker's lists and features")
    parser.add_argument(
        "--known-ahead",
        type=float,
        nargs="+",
        default=[],
        metavar="DAYS",
        help="train the ranker with promotions known so long ahead",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 160)
    out: dict[str, Any] = {}
    try:
        if args.run and args.window == "both":
            raise UserError("--run is a run on one window: say which with --window")
        for window in WINDOWS if args.window == "both" else (args.window,):
            out[window] = score_window(args, window, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        args.json.write_text(json.dumps(out, indent=1))
    return 0


def score_window(args: argparse.Namespace, window: str, console: Console) -> dict[str, Any]:
    """Runs the pipeline on a window, unless there is a run, and scores both tasks."""
    given = argparse.Namespace(
        config=args.config,
        name=None,
        sample=args.sample,
        set=[*args.set, f"split.evaluate_on={WINDOWS[window]}"],
    )
    config = runner.load_config(given)
    folder = args.run
    if folder is None:
        config = config.model_copy(update={"name": f"{config.name}_{window}"})
        folder = args.runs_dir.absolute() / config.name
        if execution.run(config, args.runs_dir.absolute()):
            raise UserError(f"the pipeline failed on window {window}; its message is above")
    chosen = argparse.Namespace(run=folder, config=args.config, set=given.set)
    run = run_models.RunModels.read(chosen, with_ranker=False)
    ours = Ours(run, folder)
    found = evaluation(folder)
    evaluated = json.loads((found / "metrics.json").read_text())
    console.print(f"\n{folder}, window {window}, cut-off {pd.Timestamp(ours.windows.cutoff, unit='s')}")
    recs = args.recs if window == "test" else None
    more = own_lists.results(run, ours, args.trees, args.known_ahead)
    tasks = {
        task: score(ours, task, found, recs, not args.no_baselines, more[task], console) for task in TASKS
    }
    return {"run": str(folder), "blessed": evaluated["blessed"], "tasks": tasks}


if __name__ == "__main__":
    sys.exit(main())
