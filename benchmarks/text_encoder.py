"""The text encoder's modes side by side: seconds, held-out pairs, products that nobody has bought yet.

    python benchmarks/text_encoder.py --run runs/complete_journey --set split.evaluate_on=eval

Items and events are those of a finished run. Each mode learns what the pipeline would let it learn
(events before the ranker's label windows). Two things are measured:

* held-out pairs: for texts that training never saw, the rank of the best partner (a text that is
  bought together with it) among all of them, as mean reciprocal rank and recall@10;
* cold items: products without an event before the cut-off, ranked for every household that buys one
  in the window, by the cosine of the product's vector and the mean vector of the distinct texts that
  the household had bought. Ties (products that share a text) are broken at random. Chance is beside it.

Use the validation window (`split.evaluate_on=eval`) to compare settings, e.g.
`--set text_encoder.steps=300`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import run_models  # noqa: E402, I001 (sets the environment before TensorFlow is imported)

import numpy as np  # noqa: E402
import scipy.sparse as sp  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from components.shop import Windows  # noqa: E402
from components.text_encoder_trainer import executor  # noqa: E402
from models import text_encoder  # noqa: E402
from models.event_log import EventLog  # noqa: E402
from models.item_table import ItemTable  # noqa: E402
from models.text_training import make_strategy  # noqa: E402
from pipeline.errors import UserError  # noqa: E402

MODES = ("frozen", "lora", "full")
KS = (100, 500)


def cold_start(
    log: EventLog, items: ItemTable, windows: Windows, vectors: np.ndarray, text_of_item: np.ndarray
) -> dict[str, float]:
    """How well text vectors find the new products that a household will buy.

    Args:
      log: past and future.
      items: the catalogue.
      windows: divide the log.
      vectors: float32 [T, E], unit vectors of the texts.
      text_of_item: int [V].

    Returns:
      `recall@k` for each of `KS` and `auc` (mean share of cold items ranked below one that is
      bought), with `_se`; `chance@k`; `households`, `items`: how many take part.
    """
    past, future = windows.divide(log)
    row = np.maximum(log.item_rows(items.item_id), 0)
    cold = np.setdiff1d(np.arange(1, len(items)), row[past.item])
    place = np.full(len(items), -1)
    place[cold] = np.arange(len(cold))
    bought = place[row[future.item]]
    takes = np.isin(future.user, past.user) & (bought >= 0)
    pairs = np.unique(np.stack([future.user[takes], bought[takes]], 1), axis=0)
    users, of_user = np.unique(pairs[:, 0], return_inverse=True)

    history = np.unique(np.stack([past.user, text_of_item[row[past.item]]], 1)[row[past.item] > 0], axis=0)
    had = sp.csr_matrix(
        (np.ones(len(history), np.float32), (history[:, 0], history[:, 1])),
        shape=(len(log.users), len(vectors)),
    )
    queries = np.asarray(had[users] @ vectors)
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-9)
    score = (queries @ vectors.T)[:, text_of_item[cold]]
    score += np.random.default_rng(7).random(len(cold), np.float32) * 1e-6
    below = np.argsort(np.argsort(score, 1), 1)[of_user, pairs[:, 1]]  # cold items ranked below each
    count = np.bincount(of_user)

    def of_users(values: np.ndarray) -> np.ndarray:
        return np.bincount(of_user, values) / count

    measures = {f"recall@{k}": of_users(below >= len(cold) - k) for k in KS}
    measures["auc"] = of_users(below / max(len(cold) - 1, 1))
    out = {name: float(values.mean()) for name, values in measures.items()}
    out |= {f"{name}_se": float(v.std() / np.sqrt(len(users))) for name, v in measures.items()}
    out |= {f"chance@{k}": min(1.0, k / len(cold)) for k in KS}
    return out | {"households": len(users), "items": len(cold)}


def measure(run: run_models.RunModels, modes: list[str]) -> dict[str, Any]:
    """Trains every mode and measures it.

    Returns:
      {"speed": {type: texts/s}, "dtype", "modes": {mode: measures}}.
    """
    items, config = run.factory.items, run.config.text_encoder
    texts, index = np.unique(items.text.astype(str), return_inverse=True)
    texts = texts.astype(object)
    sample = texts[:: max(1, len(texts) // 512)]
    speed = {
        name: text_encoder.texts_per_second(config.preset, config.sequence_length, name, sample)
        for name in ("float32", "bfloat16")
    }
    dtype = max(speed, key=speed.get) if config.dtype == "auto" else config.dtype
    until = run.windows.label_starts(run.config.ranking)[0]
    past, _ = run.windows.divide(run.log)
    searches = executor.Searches.read(run.folders[: len(run.windows.past)])
    behaviour = executor.Behaviour.of(past, searches, items, index, until)
    found: dict[str, Any] = {}
    for mode in modes:
        chosen = config.model_copy(update={"mode": mode})
        started = time.monotonic()
        if mode == "frozen":
            encoder = text_encoder.TextEncoder(config.preset, config.sequence_length, dtype)
            vectors = text_encoder.encode_all(encoder.function(), texts, config.batch_size)
            seconds = {"seconds": time.monotonic() - started}
            seconds["encoding_seconds"] = seconds["seconds"]
            held: dict[str, float] = {}
        else:
            strategy = make_strategy(config.strategy)
            _, vectors, fitted, encoding = executor.tune(texts, index[1:], behaviour, chosen, dtype, strategy)
            seconds = {"seconds": time.monotonic() - started, "encoding_seconds": encoding}
            held = fitted.best
            found.get("frozen", {}).update(fitted.history[0])  # the same held-out texts, before any step
        found[mode] = seconds | held | cold_start(run.log, items, run.windows, vectors, index)
    return {"speed": speed, "dtype": dtype, "modes": found}


def show(found: dict[str, Any], console: Console) -> None:
    """Prints the table."""
    rates = ", ".join(f"{name} {rate:,.0f} texts/s" for name, rate in found["speed"].items())
    first = next(iter(found["modes"].values()))
    table = Table(
        title=f"Text encoder ({found['dtype']}; encoding {rates})",
        caption=f"{first['households']:,} households choose among {first['items']:,} cold items; chance "
        + ", ".join(f"@{k} {first[f'chance@{k}']:.4f}" for k in KS),
    )
    columns = ["mode", "seconds", "of them encoding", "best step", "held-out MRR", "held-out recall@10"]
    columns += [f"cold recall@{k}" for k in KS] + ["cold AUC"]
    for name in columns:
        table.add_column(name, justify="left" if name == "mode" else "right")

    def error(row: dict[str, float], name: str) -> str:
        return f"{row[name]:.4f} ±{row[f'{name}_se']:.4f}"

    for mode, row in found["modes"].items():
        table.add_row(
            mode,
            f"{row['seconds']:.0f}",
            f"{row['encoding_seconds']:.0f}",
            f"{row.get('step', 0):.0f}",
            *(f"{row[name]:.3f}" if name in row else "" for name in ("holdout_mrr", "holdout_recall@10")),
            *(error(row, f"recall@{k}") for k in KS),
            error(row, "auc"),
        )
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; the exit status is 1 where it cannot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run_models.add_arguments(parser)
    parser.add_argument("--modes", default=",".join(MODES), help="comma-separated; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    modes = options.modes.split(",")
    try:
        unknown = [mode for mode in modes if mode not in MODES]
        if unknown:
            raise UserError(f"--modes: '{unknown[0]}' is not one of {', '.join(MODES)}")
        found = measure(run_models.RunModels.read(options, with_ranker=False), modes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(found, Console(width=170))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
