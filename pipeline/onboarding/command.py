"""Looks at a shop's files and writes the configuration, tables and schemas that a run needs.

`shelfwise init --events orders.csv --items products.csv --output my_shop.yaml` asks what it cannot tell.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.onboarding import derive, facts, files, prepare, proposal, schemas, telling, writing
from pipeline.onboarding.proposal import Plan
from pipeline.onboarding.questions import Answers
from schema import config as configuration
from schema.errors import ConfigError, DataError, UserError

TABLES = ("events", "items", "users", "promotions")
_KEY = "pseudonym.key"
_OTHERS = ("other_events", "learn from the events that are no purchases too, or drop them")
_UNKNOWN = 0.5  # share of events with unknown items at which a run ends


def main(arguments: list[str] | None = None, *, prog: str = "python -m pipeline.onboarding.command") -> int:
    """The command line, called `prog` in its help; returns the exit status."""
    options = _parser(prog).parse_args(arguments)
    try:
        init(options, print, input)
    except EOFError:
        print("error: nobody is there to answer; give --yes, or the answers by --answer", file=sys.stderr)
        return 1
    except (UserError, OSError, pa.ArrowException) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def init(options: argparse.Namespace, say: Callable[[str], None], ask: Callable[[str], str]) -> None:
    """Looks, asks, prepares and writes.

    Args:
      options: of the command line.
      say: shows a line.
      ask: shows a question and reads the answer.

    Raises:
      UserError: what cannot be done, and what to do about it.
    """
    given = {table: getattr(options, table) for table in TABLES if getattr(options, table)}
    if not given.keys() & {"events", "items"}:
        raise ConfigError("give --events or --items: files or folders of the shop")
    for table in ("users", "promotions"):
        if table in given and "events" not in given:
            raise ConfigError(
                f"--{table}: means nothing without --events; give the events too, or leave it out"
            )
    output = Path(options.output)
    name = re.sub(r"[^a-z0-9_]+", "_", output.stem.lower()).strip("_") or "shop"
    name = name if name[0].isalpha() else f"shop_{name}"
    folder = output.with_suffix("")
    if folder == output:
        raise ConfigError(f"--output {output}: give a file that ends with .yaml; the tables go next to it")
    answers = Answers(_given_answers(options.answer), None if options.yes else ask, say)
    if answers.get("overwrite") != "yes" and output.exists():  # a person may have worked on it
        again = answers.choose("overwrite", f"{output} is there; write it anew", None, ("yes", "no"))
        if again == "no":
            raise ConfigError(f"{output} is there; give another --output")

    sources = {table: files.find(paths, f"--{table}") for table, paths in given.items()}
    plans = proposal.plans(sources, answers)
    for plan in plans.values():
        say("\n".join(telling.plan_lines(plan)))
    zone = proposal.zone_of(plans, answers)
    choices = _choices(plans, zone, folder, answers, say)
    for key in ("guests", "dates"):  # asked when the rows are counted, and where there is a doubt
        answers.get(key)
    answers.check_used()

    folder.mkdir(parents=True, exist_ok=True)
    _prepare(plans, choices, folder, output, name, answers, say)
    config = f"shelfwise run --config {output}"
    say(f"\n{output}: written, with tables and schemas in {folder}/; read both, then:\n\n    {config}\n")


def _prepare(
    plans: Mapping[str, Plan],
    choices: prepare.Choices | None,
    folder: Path,
    output: Path,
    name: str,
    answers: Answers,
    say: Callable[[str], None],
) -> None:
    remarks = telling.head(plans)
    events = plans.get("events")
    zone = choices.zone if choices else "UTC"
    catalogue = derive.Catalogue(events) if events and "items" not in plans else None
    items = pa.table({"item_id": pa.array([], pa.string())})
    if "items" in plans:
        items, out = derive.items(plans["items"], zone)
        say(telling.left_out("items", items.num_rows, out))
    if events is not None and choices is not None:
        report = prepare.events(events, choices, folder / "events.parquet", catalogue)
        say("\n".join(telling.report_lines(report)))
        if catalogue is not None:
            items = catalogue.table()
            say(f"items: {items.num_rows:,} made from the events ({', '.join(items.schema.names)})")
    if not items.num_rows:
        raise DataError("items: no row names an item; name the column by --answer items.item_id=COLUMN")
    _write(folder / "items.parquet", items)
    made: dict[str, Any] = {
        "learned": "purchase",
        "kept": ("purchase",),
        "guests": "refuse",
        "time_zone": zone,
    }
    seen = None
    if events is not None and choices is not None:
        seen = facts.of_events(
            folder / "events.parquet",
            items,
            bool(events.format and events.format.ordered_only),
            choices.learned,
        )
        _check_known(seen)
        made |= {"learned": choices.learned, "kept": choices.kept}
        made["guests"] = _guests(seen, answers, say)
        say("\n".join(telling.fact_lines(seen)))
    users = None
    if "users" in plans and plans["users"].attributes and seen is not None:
        users, out = derive.users(plans["users"], choices.key if choices else b"")
        say(telling.left_out("users", users.num_rows, out))
        _write(folder / "users.parquet", users)
    if "promotions" in plans and seen is not None:
        with prepare.writer(folder / "promotions.parquet") as write:
            count = derive.promotions(plans["promotions"], zone, write)
        say(f"promotions: {count:,} rows")
    written = pq.read_schema(folder / "events.parquet").names if seen else []
    kept = {table: plan for table, plan in plans.items() if table != "users" or users is not None}
    tree = writing.sections(name, str(folder), kept, items, seen, written, made)
    part = output.with_name(f".{output.name}.part")
    try:
        writing.write(part, tree, remarks)
        config = configuration.load(part)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    schema_dir = folder / "schema"
    schema_dir.mkdir(exist_ok=True)
    (schema_dir / "items.pbtxt").write_text(schemas.items(config, items), encoding="utf-8")
    if users is not None:
        (schema_dir / "users.pbtxt").write_text(schemas.users(config, users), encoding="utf-8")
    if seen is not None:
        (schema_dir / "events.pbtxt").write_text(schemas.events(config, seen), encoding="utf-8")


def _choices(
    plans: Mapping[str, Plan], zone: str, folder: Path, answers: Answers, say: Callable[[str], None]
) -> prepare.Choices | None:
    events = plans.get("events")
    if events is None:
        return None
    counts = prepare.event_types(events)
    types = prepare.types_of(counts, events, answers.starting("type."))
    learned = prepare.learned(events, counts, types)
    kept = prepare.kept(types, learned)
    if len(kept) > 1 and answers.choose(*_OTHERS, "keep", ("keep", "drop")) == "drop":
        kept = (learned,)
    for line in telling.type_lines(counts, types, learned, kept):
        say(line)
    found = prepare.currencies(events)
    currency = answers.get("currency")
    if len(found) > 1 and currency is None:
        currency = answers.choose(
            "currency", "money is in several currencies; keep the rows in", None, sorted(found)
        )
    pseudonyms = any(plan.pseudonyms for plan in plans.values())
    return prepare.Choices(zone, _key(folder) if pseudonyms else b"", types, learned, kept, currency)


def _guests(seen: facts.Facts, answers: Answers, say: Callable[[str], None]) -> str:
    if not seen.guests:
        return "refuse"
    if seen.no_session:
        say(f"guests: {seen.guests:,} rows have no user, and not every row an order; they are left out")
        return "drop"
    question = (
        f"{seen.guests:,} of {seen.rows:,} rows have no user: leave them out, or make each order a user"
    )
    return answers.choose("guests", question, "drop", ("drop", "own"))


def _check_known(seen: facts.Facts) -> None:
    if seen.unknown > _UNKNOWN:
        raise DataError(
            f"items: {seen.unknown:.0%} of the events are of items that this table lacks; name the column of "
            "the ids that events have by --answer items.item_id=COLUMN (or events.item_id), or leave --items "
            "out: items are then made from the events"
        )


def _key(folder: Path) -> bytes:
    """The secret key of pseudonyms: made once, then the same, so that users keep theirs."""
    path = folder / _KEY
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), encoding="ascii")
    return bytes.fromhex(path.read_text(encoding="ascii"))


def _write(path: Path, table: pa.Table) -> None:
    with prepare.writer(path) as write:
        write(table)


def _given_answers(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise ConfigError(f"--answer {text}: expected KEY=VALUE, e.g. time_zone=Europe/Paris")
        found[key] = value
    return found


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    helps = {
        "events": "orders, order lines or a log of events",
        "items": "the catalogue; made from the events if not given",
        "users": "attributes of users",
        "promotions": "what was promoted, where and when",
    }
    for table in TABLES:
        parser.add_argument(
            f"--{table}",
            nargs="+",
            metavar="PATH",
            help=f"{helps[table]}: files, folders, URLs (CSV, TSV, JSON Lines, Parquet; gzip, zstd)",
        )
    parser.add_argument("--output", default="shop.yaml", help="the YAML to write (default: shop.yaml)")
    parser.add_argument("--yes", action="store_true", help="ask nothing: take what is proposed")
    parser.add_argument(
        "--answer",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an answer in advance, e.g. events.user_id=COLUMN, time_zone=Europe/Paris, guests=own, "
        "dates=day_first, decimal=comma, type.NAME=purchase, currency=EUR; can be repeated",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
