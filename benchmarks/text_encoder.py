"""What the text encoder is worth for items that nobody has bought yet, and on held-out pairs of texts.

    python benchmarks/text_encoder.py --run runs/complete_journey --set split.evaluate_on=eval

Items and events are those of a finished run. Two towers are trained as the pipeline trains them (on the
sessions before the ranker's label windows), with less and with more to go by:

* identities alone: no categories, no text. Items without a purchase are all the same to them, so they
  find as many as chance does;
* identities and categories;
* all of it, with the text vectors of each mode of the text encoder.

The vectors of each mode alone are there to compare: a household is the mean vector of the distinct texts that
it had, an item is its text's vector, and their cosine ranks.

Cold items come in two kinds. New items are those that nobody had before the cut-off and some household
took in the window. Those are few, and so a share of the candidates is held out as well: every purchase of
them before the cut-off is taken away, from the training of the encoder and of the towers and from the
histories that are asked with, and what counts is who takes them in the window. Each household's cold items
are ranked by the towers, new items among all items without a past, held-out items among these and
themselves; ties (items that the towers cannot tell apart) are broken at random. One training serves both.

Held-out pairs: for texts that fine-tuning never saw, the rank of the best partner (a text that is bought
together with it) among all of them, as mean reciprocal rank and recall@10.

Use the validation window (`split.evaluate_on=eval`) to compare settings, e.g.
`--modes frozen,lora --set text_encoder.steps=300`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import run_models  # noqa: E402, I001 (sets the environment before TensorFlow is imported)

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from components.common import artifacts  # noqa: E402
from components.common.windows import Windows  # noqa: E402
from components.common.candidate_lists import tensor  # noqa: E402
from components.retrieval_trainer import executor as retrieval  # noqa: E402
from components.text_encoder_trainer import executor  # noqa: E402
from components.common.searches import Searches  # noqa: E402
from components.text_encoder_trainer.behaviour import Behaviour  # noqa: E402
from models.data import arrays  # noqa: E402
from models.text import encoder as text_encoder  # noqa: E402
from models.text import groups as text_groups  # noqa: E402
from schema import names as F  # noqa: E402
from schema.config import EventKinds  # noqa: E402
from models.data.event_log import EventLog  # noqa: E402
from models.data.item_table import ItemTable  # noqa: E402
from models.data.requests import RequestParser  # noqa: E402
from models.text.strategy import make_strategy  # noqa: E402
from schema.errors import UserError  # noqa: E402

MODES = ("frozen", "lora", "full")
IDENTITIES, CATEGORIES = "towers: identities", "towers: identities, categories"
TEXT, ALL = "text alone:", "towers: identities, categories, text"
NEW, HELD_OUT = "new", "held-out"
KS = (100, 500)
_BATCH = 256


@dataclasses.dataclass(frozen=True)
class ColdItems:
    """Items without a purchase that anything learned from, and who takes them in the window.

    Attributes:
      rows: int [C], catalogue rows, those that are ranked.
      user, place: int [P], the distinct (user of the log, place in `rows`) of the window.
    """

    rows: np.ndarray
    user: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, counted: np.ndarray, past: EventLog, future: EventLog, row_of: np.ndarray):
        """From the window's events of the rows `counted` (bool [V]) by users with a past."""
        place = np.full(len(counted), -1)
        place[rows] = np.arange(len(rows))
        row = row_of[future.item]
        takes = np.isin(future.user, past.user) & counted[row]
        pairs = np.unique(np.stack([future.user[takes], place[row[takes]]], 1), axis=0)
        return cls(rows, pairs[:, 0], pairs[:, 1])


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is learned from and what is asked for.

    Attributes:
      past: events before the cut-off, those of held-out items taken away.
      held_out: object (str) [H], the ids of those.
      cold: kind -> what is ranked.
    """

    past: EventLog
    held_out: np.ndarray
    cold: dict[str, ColdItems]

    @classmethod
    def of(
        cls, log: EventLog, items: ItemTable, windows: Windows, min_events: int, share: float, seed: int
    ) -> Protocol:
        """Divides the events.

        Args:
          log: past and future.
          items: the catalogue.
          windows: divide the log.
          min_events: past events of an item that may be held out.
          share: of those items, which is.
          seed: of the draw.
        """
        past, future = windows.divide(log)
        future = future.purchases
        row_of = np.maximum(log.item_rows(items.item_id), 0)
        count = np.bincount(row_of[past.item], minlength=len(items))
        count[0] = min_events - 1  # what the catalogue lacks is neither new nor held out
        known = np.flatnonzero(count >= min_events)
        held = np.zeros(len(items), bool)
        held[np.random.default_rng(seed).permutation(known)[: round(share * len(known))]] = True
        new = count == 0
        past = past.where(~held[row_of[past.item]])
        cold = {
            NEW: ColdItems.of(np.flatnonzero(new), new, past, future, row_of),
            HELD_OUT: ColdItems.of(np.flatnonzero(new | held), held, past, future, row_of),
        }
        return cls(
            past, items.item_id[held], {kind: found for kind, found in cold.items() if len(found.user)}
        )


def rank(
    cold: ColdItems, query: Callable[[np.ndarray], np.ndarray], vectors: np.ndarray, seed: int = 7
) -> dict[str, float]:
    """How well towers find cold items.

    Args:
      cold: what is ranked, and what counts.
      query: float32 [A, D] vectors of users (int [A]).
      vectors: float32 [V, D], of the catalogue.
      seed: breaks ties.

    Returns:
      `recall@k` for each of `KS` and `auc` (mean share of cold items ranked below one that is
      taken), means over users, with `_se`; `chance@k`; `users`, `pairs`, `items`: how many.
    """
    users, of_user = np.unique(cold.user, return_inverse=True)
    candidates, count = vectors[cold.rows], np.bincount(of_user)
    rng = np.random.default_rng(seed)
    below = np.empty(len(of_user), int)  # how many are ranked below the one that is taken
    for start in range(0, len(users), _BATCH):
        score = query(users[start : start + _BATCH]) @ candidates.T
        # far below any difference that unit vectors have; for each user another order: with one for
        # all, towers that tell nothing apart would be as good as a single draw of a list
        score += rng.random(score.shape, np.float32) * 1e-5
        chosen = np.flatnonzero((of_user >= start) & (of_user < start + _BATCH))
        places = np.argsort(np.argsort(score, 1), 1)
        below[chosen] = places[of_user[chosen] - start, cold.place[chosen]]
    values = {f"recall@{k}": below >= len(cold.rows) - k for k in KS}
    values["auc"] = below / max(len(cold.rows) - 1, 1)
    out: dict[str, float] = {"users": len(users), "pairs": len(cold.user), "items": len(cold.rows)}
    for name, value in values.items():
        mean = np.bincount(of_user, value) / count
        out |= {name: float(mean.mean()), f"{name}_se": float(mean.std() / np.sqrt(len(users)))}
    return out | {f"chance@{k}": min(1.0, k / len(cold.rows)) for k in KS}


def rank_by_text(
    protocol: Protocol, row_of: np.ndarray, vectors: np.ndarray, index: np.ndarray
) -> dict[str, dict[str, float]]:
    """How well text vectors alone find cold items.

    Args:
      protocol: what is asked for.
      row_of: int [items of the log], catalogue rows.
      vectors: float32 [T, E], unit vectors of the texts.
      index: int [V], which of them each item has.

    Returns:
      kind -> measures of :func:`rank`.
    """
    past = protocol.past
    known = row_of[past.item] > 0
    text = index[row_of[past.item[known]]]
    had = text_groups.purchases(past.user[known], text, len(past.users), len(vectors))

    def query(users: np.ndarray) -> np.ndarray:
        total = np.asarray(had[users] @ vectors)
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)

    return {kind: rank(cold, query, vectors[index]) for kind, cold in protocol.cold.items()}


def train_towers(
    run: run_models.RunModels,
    protocol: Protocol,
    categories: bool,
    text: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, Any]:
    """Trains two towers without the held-out items, and ranks the cold ones by them.

    Args:
      run: what the pipeline's towers learned from.
      protocol: what is taken away, and what is asked for.
      categories: whether the towers see the items' categories.
      text: (float32 [T, E] vectors, int [V] which of them each item has), or None without texts.

    Returns:
      {"tower_seconds", "cold": {kind: measures of :func:`rank`}}.
    """
    items = run.factory.items
    seen = items if categories else dataclasses.replace(items, categorical={})
    if text is None:
        text = np.zeros((1, 1), np.float32), np.zeros(len(items), np.int32)
    held_out = set(protocol.held_out)
    # an id that the catalogue lacks: the item is no target and in no history
    vocabulary = [f"held out: {item}" if item in held_out else item for item in run.item_vocabulary]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "text.npz")
        arrays.save(path, {"vectors": text[0], "index": text[1]})
        inputs = retrieval.Inputs(
            run.transformed_folders,
            seen,
            vocabulary,
            run.factory.vocabularies,
            EventKinds.of(run.config),
            path,
            run.windows.label_starts(run.config.ranking)[0],
        )
        retrieval.run(
            inputs,
            run.config.retrieval,
            run.config.candidates.collaborative,
            folder,
            str(Path(folder) / "run"),
        )
        seconds = time.monotonic() - started
        towers = tf.saved_model.load(artifacts.model_folder(folder))
        vectors = arrays.load(str(Path(folder) / "item_vectors.npz"))["vectors"]
    length = run.config.candidates.history_length
    parser = RequestParser(items, run.factory.vocabularies, run.config.retrieval.history_length)

    def query(users: np.ndarray) -> np.ndarray:
        inputs = protocol.past.histories(users, run.windows.cutoff, length)
        inputs[F.CONTEXT_TIMESTAMP] = np.full(len(users), run.windows.cutoff)
        request = parser({name: tensor(value) for name, value in inputs.items()})
        del request["now"]  # the towers know a moment by its weekday and hour
        return towers.query(request).numpy()

    return {
        "tower_seconds": seconds,
        "cold": {kind: rank(cold, query, vectors) for kind, cold in protocol.cold.items()},
    }


def recall(cold: dict[str, float], k: int) -> str:
    """Recall and its standard error."""
    return f"{cold[f'recall@{k}']:.4f} ±{cold[f'recall@{k}_se']:.4f}"


def measure(run: run_models.RunModels, modes: list[str], held_out: float, console: Console) -> dict[str, Any]:
    """Trains the towers with less and with more to go by, the text encoder in every mode.

    Args:
      run: a finished run.
      modes: of the text encoder.
      held_out: share of the candidates that is held out.
      console: told about every system as soon as it is measured.

    Returns:
      {"dtype", "held_out": how many items are held out, "systems": {name: {"cold": kind ->
      measures of :func:`rank`}}}; towers also have `tower_seconds`, text alone `seconds` and
      `encoding_seconds` of the text encoder, its best `step` and measures on held-out pairs.
    """
    if not run.windows.by_time:
        raise UserError("split.strategy: cold items are those before a cut-off; leave_one_out has none")
    items, config = run.factory.items, run.config.text_encoder
    protocol = Protocol.of(
        run.log, items, run.windows, run.config.candidates.min_events, held_out, config.seed
    )
    if not protocol.cold:
        raise UserError("nobody takes an item without a past in the window, and none is held out")
    texts, index = text_encoder.distinct_texts(items.text)
    index = index.astype(np.int32)
    dtype = text_encoder.dtype_here() if config.dtype == "auto" else config.dtype
    until = run.windows.label_starts(run.config.ranking)[0]
    searches = Searches.read(run.folders[: len(run.windows.past)]).without(protocol.held_out)
    behaviour = Behaviour.of(protocol.past, searches, items, index, until)
    row_of = np.maximum(run.log.item_rows(items.item_id), 0)
    systems: dict[str, Any] = {}

    def add(name: str, row: dict[str, Any]) -> None:
        systems[name] = row
        found = [f"{kind} items, recall@100 {recall(cold, 100)}" for kind, cold in row["cold"].items()]
        console.print("; ".join([name, *found]))

    add(IDENTITIES, train_towers(run, protocol, False, None))
    add(CATEGORIES, train_towers(run, protocol, True, None))
    untrained: dict[str, float] = {}  # the encoder on held-out pairs before any step
    for mode in modes:
        chosen = config.model_copy(update={"mode": mode})
        started = time.monotonic()
        if mode == "frozen":
            encoder = text_encoder.TextEncoder(config.preset, config.sequence_length, dtype)
            vectors = text_encoder.encode_all(encoder.function(), texts, config.batch_size, encoder.lengths)
            encoding, pairs = time.monotonic() - started, {}
        else:
            strategy = make_strategy(config.strategy)
            _, vectors, fitted, encoding = executor.tune(texts, index[1:], behaviour, chosen, dtype, strategy)
            untrained, pairs = fitted.history[0], fitted.best
        seconds = {"seconds": time.monotonic() - started, "encoding_seconds": encoding}
        add(f"{TEXT} {mode}", seconds | pairs | {"cold": rank_by_text(protocol, row_of, vectors, index)})
        add(f"{ALL} {mode}", train_towers(run, protocol, True, (vectors, index)))
    if "frozen" in modes:
        systems[f"{TEXT} frozen"] |= untrained
    return {"dtype": dtype, "held_out": len(protocol.held_out), "systems": systems}


def show(found: dict[str, Any], console: Console) -> None:
    """Prints the table."""
    systems = found["systems"]
    kinds = systems[IDENTITIES]["cold"]
    caption = "; ".join(
        f"{kind} items: {row['pairs']:,} purchases of {row['users']:,} households, ranked among "
        f"{row['items']:,}, chance @100 {row['chance@100']:.4f}"
        for kind, row in kinds.items()
    )
    table = Table(title=f"Cold items, text encoder in {found['dtype']}", caption=caption)
    columns = ["", "encoder s", "of them\nencoding", "towers s", "best\nstep", "pairs\nMRR"]
    columns += ["pairs\nrecall@10"]
    for kind in kinds:
        columns += [f"{kind} items\nrecall@100", "x ids", "recall@500", "AUC"]
    for name in columns:
        table.add_column(name, justify="right" if name else "left")

    def number(row: dict[str, float], name: str, digits: int) -> str:
        return f"{row[name]:.{digits}f}" if name in row else ""

    for name, row in systems.items():
        cells = [number(row, key, 0) for key in ("seconds", "encoding_seconds", "tower_seconds", "step")]
        cells += [number(row, key, 3) for key in ("holdout_mrr", "holdout_recall@10")]
        for kind, base in kinds.items():
            cold = row["cold"][kind]
            times = cold["recall@100"] / max(base["recall@100"], 1e-9)
            cells += [recall(cold, 100), f"{times:.1f}", recall(cold, 500)]
            cells.append(f"{cold['auc']:.4f} ±{cold['auc_se']:.4f}")
        table.add_row(name, *cells)
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; the exit status is 1 where it cannot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run_models.add_arguments(parser)
    parser.add_argument("--modes", default=",".join(MODES), help="comma-separated; default: %(default)s")
    parser.add_argument(
        "--held-out", type=float, default=0.05, help="share of the candidates; default: %(default)s"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    modes = options.modes.split(",")
    try:
        unknown = [mode for mode in modes if mode not in MODES]
        if unknown:
            raise UserError(f"--modes: '{unknown[0]}' is not one of {', '.join(MODES)}")
        if not 0 <= options.held_out < 1:
            raise UserError(f"--held-out: {options.held_out} is not a share from 0 to below 1")
        run = run_models.RunModels.read(options, with_ranker=False)
        console = Console(width=None if sys.stdout.isatty() else 180)
        found = measure(run, modes, options.held_out, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(found, console)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
