"""The closed-form vectors: exact EASE against its form of low rank, in quality and in cost.

    python benchmarks/collaborative.py --run runs/complete_journey            # NDCG@20 on a run's own window
    python benchmarks/collaborative.py --sizes 5000x2500,20000x10000,100000x100000   # cost alone

Quality is that of task `all`: every user asks at the cut-off and the scores of their history order the
candidates, without the towers and without the other sources. Cost is measured in a process for each fit,
on invented histories: popularity by Zipf's law, 60 events a user, users of one of 50 kinds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import run_models  # noqa: E402  (first: it sets TensorFlow up)

# isort: split
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from components.common import metrics  # noqa: E402
from components.common.protocol import Protocol  # noqa: E402
from models.retrieval import collaborative  # noqa: E402
from schema import names as F  # noqa: E402
from schema.config import Collaborative  # noqa: E402

EVENTS_A_USER, KINDS = 60, 50


def invented(users: int, count: int, seed: int = 0) -> collaborative.Events:
    """Histories: half of a user's events are of the items of its kind.

    Args:
      users: U.
      count: C.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, count + 1) ** 0.8
    user = np.repeat(np.arange(users, dtype=np.int32), EVENTS_A_USER)
    drawn = np.searchsorted(np.cumsum(share / share.sum()), rng.uniform(size=len(user)))
    own = rng.uniform(size=len(user)) < 0.5
    kind = rng.integers(0, KINDS, users)[user]
    item = np.where(own, drawn // KINDS * KINDS + kind, drawn)
    age = -np.sort(-rng.uniform(0, 365, (users, EVENTS_A_USER)), 1).ravel()
    item = np.minimum(item, count - 1).astype(np.int32)
    return collaborative.Events(user, item, age.astype(np.float32), np.ones(len(user), np.float32))


def cost(users: int, count: int, config: Collaborative) -> dict[str, float]:
    """Processor seconds and peak bytes of one fit in a process of its own."""
    command = [sys.executable, __file__, "--one", f"{users}x{count}", "--settings", config.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def fit_one(users: int, count: int, config: Collaborative) -> dict[str, float]:
    """What :func:`cost` measures, in this process."""
    events = invented(users, count)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    collaborative.fit(events, count, config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.process_time() - begun, "bytes": (peak - before) * 1024}


def quality(
    run: run_models.RunModels, settings: dict[str, Collaborative], console: Console
) -> dict[str, Any]:
    """NDCG@20 of each setting on the run's window, and the paired difference to the first.

    Returns:
      name -> {"seconds", "ndcg@20", "difference", "se"}.
    """
    protocol = Protocol.of(run.log, run.windows, run.config.candidates.min_events)
    past, count = protocol.past, len(protocol.catalogue)
    position = protocol.column[past.item]
    known = position < count
    age = ((run.windows.cutoff - past.timestamp) / F.SECONDS_PER_DAY).astype(np.float32)
    events = collaborative.Events(past.user[known], position[known], age[known], past.weight[known])
    users = protocol.users("all")
    out: dict[str, Any] = {}
    first: np.ndarray | None = None
    for name, config in settings.items():
        begun = time.process_time()
        inputs, outputs = collaborative.fit(events, count, config)
        seconds = time.process_time() - begun
        history = collaborative.histories(events, len(run.log.users), count, config)
        query = np.asarray(history[users] @ inputs)
        top = np.concatenate(
            [np.argsort(-(query[at : at + 256] @ outputs.T), 1)[:, :20] for at in range(0, len(users), 256)]
        )
        found = metrics.per_user(top, protocol.relevant["all"][users], [20])["ndcg@20"]
        first = found if first is None else first
        apart = found - first
        out[name] = {"seconds": seconds, "ndcg@20": float(found.mean()), "difference": float(apart.mean())}
        out[name]["se"] = metrics.standard_error(apart)
        console.print(f"{name}: {json.dumps(out[name])}", highlight=False)
    return out


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    run_models.add_arguments(parser)
    parser.add_argument("--spectrum", default="128,256,512", help="eigenvectors that the low rank keeps")
    parser.add_argument("--sizes", default="", help="users x items, e.g. 5000x2500,20000x10000")
    parser.add_argument(
        "--exact-up-to", type=int, default=20_000, help="most items of an exact fit in --sizes"
    )
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--settings", default="{}", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    console = Console()
    if options.one:
        users, count = map(int, options.one.split("x"))
        print(json.dumps(fit_one(users, count, Collaborative.model_validate_json(options.settings))))
        return 0
    if options.sizes:
        table = Table("users", "items", "form", "processor s", "peak memory GB")
        for size in options.sizes.split(","):
            users, count = map(int, size.split("x"))
            forms = {"exact": {"exact_cells": 2**62}} if count <= options.exact_up_to else {}
            for name, form in (forms | {"low rank": {"exact_cells": 0}}).items():
                found = cost(users, count, Collaborative(**form))
                row = (f"{users:,}", f"{count:,}", name)
                table.add_row(*row, f"{found['seconds']:.1f}", f"{found['bytes'] / 1e9:.2f}")
        console.print(table)
        return 0
    run = run_models.RunModels.read(options, with_ranker=False)
    base = run.config.candidates.collaborative
    settings = {"exact": base.model_copy(update={"exact_cells": 2**62})}
    for spectrum in map(int, options.spectrum.split(",")):
        update = {"exact_cells": 0, "spectrum": spectrum}
        settings[f"low rank, {spectrum} eigenvectors"] = base.model_copy(update=update)
    quality(run, settings, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
