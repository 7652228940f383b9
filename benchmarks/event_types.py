"""What views and carts are worth: purchases predicted from purchases alone, and from all that users did.

    shelfwise init --events events.parquet --output shop.yaml --yes
    python -m benchmarks.event_types --config shop.yaml
    python -m benchmarks.event_types --config shop.yaml \
        --set split.strategy=leave_one_out --set events.session_gap_minutes=0
    python -m benchmarks.event_types --config shop.yaml --runs runs/shop runs/purchases

Everybody who bought something before asks once, as in the evaluation (`components.common.protocol`);
relevant is what they then buy of what anybody bought before. Users, moments, relevant items and candidates
are the same for all systems, and no user who only viewed is asked. Nothing is trained by gradient: the
closed-form vectors (`models.retrieval.collaborative`) of purchases, then of all events by their weights,
then the same with the candidates of the source `viewed` first. Differences are paired over users.
`--runs` compares what two finished runs would serve instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks import run_models
from components.common import artifacts, metrics, tables
from components.common.columns import MICROS
from components.common.protocol import TASKS, Protocol
from components.common.windows import Windows
from components.event_example_gen.roles import roles
from components.event_example_gen.rows import normalise
from components.event_example_gen.sessions import sessions
from components.event_example_gen.settings import Settings
from components.event_example_gen.survey import merge_surveys, plan, survey
from components.funnel_evaluator import systems
from models.data import example_io
from models.data.event_log import EventLog
from models.retrieval import collaborative
from models.retrieval.sources.own_events import OPEN_DAYS
from pipeline import record as run_record
from pipeline.run.command import parse_settings
from schema import names as F
from schema.config import Config, EventKinds, load
from schema.errors import UserError

KS = (10, 100)
SHOWN = ("ndcg@10", "recall@10", "recall@100")
BOUGHT, ALL, VIEWED = "purchases", "all events", "all events, viewed first"


def read(config: Config) -> tuple[EventLog, Windows]:
    """The events of a shop's table as a run reads them, and its windows.

    Raises:
      UserError: the shop has one type of event, or a table that a run refuses.
    """
    if config.events is None or not EventKinds.of(config).others:
        raise UserError("--config: every event of this shop is a purchase; there is nothing to compare")
    # no histories in the sessions: the log has them
    events = config.events.model_copy(update={"history_length": 1})
    settings = Settings.of(config.model_copy(update={"events": events}))
    wanted = roles(config.events)
    units = tables.open_table(config.data.resolve(config.events.path), "events.path", wanted, config.data.csv)
    chunks = [chunk for unit in units for chunk in tables.read(unit, wanted)]
    chosen = plan(merge_surveys([survey(chunk, settings) for chunk in chunks], None), settings, "events")
    batches = [batch for chunk in chunks if (batch := normalise(chunk, chosen, settings))]
    ends = chosen.train_end, chosen.eval_end, chosen.data_end // MICROS
    windows = Windows.between(*ends, config.split)
    by_split: dict[str, list[pa.RecordBatch]] = {}
    for split, batch in sessions(pa.Table.from_batches(batches), chosen, settings):
        by_split.setdefault(split, []).append(batch)
    with tempfile.TemporaryDirectory() as folder:
        for split in windows.splits:
            example_io.write_records(f"{folder}/Split-{split}", by_split.get(split, []))
        folders = [f"{folder}/Split-{split}" for split in windows.splits]
        return EventLog.read(folders, EventKinds.of(config)), windows


@dataclasses.dataclass(frozen=True)
class Asked:
    """Who asks, and about what.

    Attributes:
      protocol: of the purchases.
      past: all events before each user asks.
      config: the shop.
    """

    protocol: Protocol
    past: EventLog
    config: Config

    def events(self, log: EventLog, now: np.ndarray | float) -> collaborative.Events:
        """The events of candidates, with ages at a moment (for each user of the log, or one)."""
        column = self.protocol.column[log.item]
        known = column < len(self.protocol.catalogue)
        moment = now[log.user] if isinstance(now, np.ndarray) else now
        age = np.maximum(moment - log.timestamp, 0) / F.SECONDS_PER_DAY
        return collaborative.Events(
            log.user[known], column[known].astype(np.int32), age[known].astype(np.float32), log.weight[known]
        )

    def scores(self, log: EventLog) -> np.ndarray:
        """float64 [users of the log, M]: closed-form scores from some of the past events."""
        config, count = self.config.candidates.collaborative, len(self.protocol.catalogue)
        inputs, outputs = collaborative.fit(
            self.events(log, float(self.protocol.windows.cutoff)), count, config
        )
        asked = self.events(log, self.protocol.moments)
        history = collaborative.histories(asked, len(log.users), count, config)
        return (history @ inputs) @ outputs.T.astype(np.float64)

    def open_events(self) -> np.ndarray:
        """float64 [users of the log, M]: decayed, weighted counts of what was viewed and not bought since."""
        count = len(self.protocol.catalogue)
        shape = (len(self.past.users), count + 1)
        column = self.protocol.column[self.past.item]
        last = np.full(shape, -1, np.int64)
        bought = self.past.bought
        np.maximum.at(last, (self.past.user[bought], column[bought]), self.past.timestamp[bought])
        is_open = ~bought & (self.past.timestamp > last[self.past.user, column])
        age = (self.protocol.moments[self.past.user] - self.past.timestamp) / F.SECONDS_PER_DAY
        weight = np.where(is_open, self.past.weight * 0.5 ** (age / OPEN_DAYS), 0)
        out = np.zeros(shape)
        np.add.at(out, (self.past.user, column), weight)
        return out[:, :count]


def compare(log: EventLog, windows: Windows, config: Config) -> dict[str, dict[str, dict[str, float]]]:
    """task -> system -> figures, and their paired differences to purchases alone."""
    protocol = Protocol.of(log.purchases, windows, config.candidates.min_events)
    past, _ = windows.divide(log)
    if not windows.by_time:
        past = past.where(past.timestamp <= protocol.moments[past.user])
    asked = Asked(protocol, past, config)
    popularity = np.bincount(protocol.column[protocol.past.item], minlength=len(protocol.catalogue) + 1)
    tie = popularity[:-1] / (popularity.max() + 1) * 1e-9
    scores = {BOUGHT: asked.scores(past.purchases) + tie, ALL: asked.scores(past) + tie}
    viewed = asked.open_events()
    # what is open stands before everything else, the most and latest first
    scores[VIEWED] = np.where(viewed > 0, viewed + np.abs(scores[ALL]).max() + 1, scores[ALL])
    out: dict[str, dict[str, dict[str, float]]] = {}
    for task in TASKS:
        users = protocol.users(task)
        values = {}
        for name, score in scores.items():
            mine = score[users].copy()
            if task == "novel":
                mine[protocol.seen[users]] = -np.inf
            top = np.argsort(-mine, 1, kind="stable")[:, : max(KS)]
            top = np.where(np.isfinite(np.take_along_axis(mine, top, 1)), top, -1)
            values[name] = metrics.per_user(top, protocol.relevant[task][users], KS)
        out[task] = apart(values)
    return out


def apart(values: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, float]]:
    """system -> means over users, and their paired differences to purchases alone."""
    out: dict[str, dict[str, float]] = {}
    for name, found in values.items():
        figures: dict[str, float] = {"users": len(found[SHOWN[0]])}
        for metric in SHOWN:
            difference = found[metric] - values[BOUGHT][metric]
            figures[metric] = float(found[metric].mean())
            figures[f"difference_{metric}"] = float(difference.mean())
            figures[f"difference_{metric}_se"] = metrics.standard_error(difference)
        out[name] = figures
    return out


def compare_runs(
    with_all: Path, with_purchases: Path, arguments: argparse.Namespace
) -> dict[str, dict[str, dict[str, float]]]:
    """The same of what two finished runs would serve: `recommend` of their servables, pushed or not.

    Both are asked at the cut-off by everybody who did anything before it and buys something in the window;
    relevant is what they then buy of all candidates of the first run. The second is told purchases alone.

    Raises:
      UserError: a run did not come as far as a servable, or their windows differ.
    """
    log, windows, config, all_of = _finished(with_all, arguments)
    _, others, _, purchases_of = _finished(with_purchases, arguments)
    if others.cutoff != windows.cutoff:
        raise UserError(
            f"--runs: one asks at {windows.cutoff}, the other at {others.cutoff} (unix time); set split.end"
        )
    protocol = Protocol.of(log, windows, config.candidates.min_events if windows.by_time else 0)
    return compare_servables(protocol, all_of, purchases_of, config.candidates.history_length)


def compare_servables(
    protocol: Protocol, all_of: Any, purchases_of: Any, length: int
) -> dict[str, dict[str, dict[str, float]]]:
    """As :func:`compare_runs`, of SavedModels that are asked with histories of `length` events."""
    poorer = dataclasses.replace(protocol, past=protocol.past.purchases)
    asked = {
        BOUGHT: systems.servable(purchases_of, poorer, length, max(KS)),
        ALL: systems.servable(all_of, protocol, length, max(KS)),
    }
    out = {}
    for task in TASKS:
        users = protocol.users(task)
        relevant = protocol.relevant[task][users]
        out[task] = apart(
            {name: metrics.per_user(ask(users, task), relevant, KS) for name, ask in asked.items()}
        )
    return out


def _finished(run: Path, arguments: argparse.Namespace) -> tuple[EventLog, Windows, Config, Any]:
    """Events, windows, settings and servable of a run."""
    options = argparse.Namespace(run=run, config=arguments.config, set=arguments.set)
    read = run_models.RunModels.read(options, with_ranker=False)
    record = run_record.read_run(run / "metadata.sqlite")
    if record is None or "ServableBuilder" not in record.nodes:
        raise UserError(f"--runs: the latest run in {run} did not reach ServableBuilder; run it again")
    folder = artifacts.model_folder(record.nodes["ServableBuilder"].first("model").uri)
    return read.log, read.windows, read.config, tf.saved_model.load(folder)


def show(found: dict[str, dict[str, dict[str, float]]], console: Console) -> None:
    """One table a task."""
    for task, learned in found.items():
        users = int(learned[BOUGHT]["users"])
        table = Table(title=f"task {task}, {users:,} users", title_justify="left")
        for heading in ("learned from", *(part for name in SHOWN for part in (name, "- purchases"))):
            table.add_column(heading, justify="left" if heading == "learned from" else "right")
        for name, figures in learned.items():
            cells = []
            for metric in SHOWN:
                cells.append(f"{figures[metric]:.4f}")
                mean, error = figures[f"difference_{metric}"], figures[f"difference_{metric}_se"]
                cells.append("" if name == BOUGHT else f"{mean:+.4f} ± {error:.4f}")
            table.add_row(name, *cells)
        console.print(table)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config", required=True, help="the shop")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as the runner's")
    parser.add_argument(
        "--runs",
        type=Path,
        nargs=2,
        metavar=("ALL", "PURCHASES"),
        help="folders of a run of --config, and of one of the same shop's purchases alone: compare these",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args(argv)
    try:
        config = load(args.config, parse_settings(args.set))
        found = compare_runs(*args.runs, args) if args.runs else compare(*read(config), config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(found, Console(width=None if sys.stdout.isatty() else 160))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
