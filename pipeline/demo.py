"""The whole way once: runs the pipeline, serves the model it pushed, asks it over gRPC.

Recommendations for three users, then one search by two of them and by a stranger.

::

    python -m pipeline.demo                # The Complete Journey, all of it
    python -m pipeline.demo --sample 200   # 200 of its households: minutes

Takes the arguments of `pipeline.local_runner` and passes them on. Every step is the command that
a person would type, in a process of its own, and is shown before it runs. Ends with the exit
status of the first step that failed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.report import summary as run_summary
from pipeline.run import command as runner
from schema import config as config_lib
from schema.errors import UserError
from serving.model_server.process import child

RECENT_ITEMS = 8
_LOOK_SECONDS = 1.0  # between two looks at whether a signal has come


class StepFailed(UserError):
    """A step ended with an error; `status` is the exit status to end with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def main(argv: Sequence[str] | None = None) -> int:
    """The command.

    Args:
      argv: arguments without the program's name; those of the process if None.

    Returns:
      The exit status: 0, that of the first step that failed, 130 or 143 when interrupted.
    """
    started = time.monotonic()
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        config = runner.load_config(args)
        run_dir = Path(args.runs_dir) / config.name
        _run(_python("pipeline.local_runner", *_runner_arguments(args)), "the pipeline")
        base_path = run_dir / "serving" / "shelfwise"
        if not any((version / "saved_model.pb").exists() for version in base_path.glob("[0-9]*")):
            raise StepFailed(
                f"{base_path}: no model was blessed and pushed yet; {run_dir}/report.html says why", 1
            )
        with _server(base_path, run_dir / "model_server.log") as port:
            asked = _ask(config, run_dir, port, args)
        _close(run_dir, base_path, asked, _shop(args), started)
    except StepFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = runner.parser()  # its arguments are ours
    parser.prog = "python -m pipeline.demo"
    parser.description = "Runs the pipeline, serves the model that it pushed and asks it over gRPC."
    parser.add_argument(
        "--users", nargs="+", metavar="ID", help="recommend to these (default: three of the data)"
    )
    parser.add_argument("--query", help="search for this (default: a word of what two users bought)")
    parser.add_argument("--k", type=int, default=10, help="how many recommendations each (default: 10)")
    return parser


def _runner_arguments(args: argparse.Namespace) -> list[str]:
    arguments = ["--config", args.config, "--runs-dir", args.runs_dir]
    if args.sample is not None:
        arguments += ["--sample", args.sample]
    if args.name is not None:
        arguments += ["--name", args.name]
    return arguments + [part for setting in args.set for part in ("--set", setting)]


def _shop(args: argparse.Namespace) -> list[str]:
    """The command that serves this run with the shop's pages: `make serve` where that does."""
    arguments = _runner_arguments(args)
    if arguments == ["--config", args.config, "--runs-dir", "runs"] and Path("Makefile").exists():
        default = Path(args.config).resolve() == runner.DEFAULT_CONFIG
        return ["make", "serve", *([] if default else [f"CONFIG={args.config}"])]
    return _python("pipeline.serve", *arguments)


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _typed(command: Sequence[str]) -> str:
    """`command` as a person would type it."""
    python = os.path.relpath(command[0])
    return shlex.join([command[0] if python.startswith("..") else python, *command[1:]])


def _run(command: Sequence[str], what: str) -> None:
    """Runs `command` on this terminal until it ends, also when Ctrl-C makes it end.

    Raises:
      StepFailed: it ended with a status other than 0.
      KeyboardInterrupt: it ended after Ctrl-C.
    """
    print(f"\n$ {_typed(command)}", flush=True)
    interrupted = False
    with subprocess.Popen(command) as process:
        try:
            while process.poll() is None:
                try:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(_LOOK_SECONDS)  # an endless wait might not hear of a signal
                except KeyboardInterrupt:  # the terminal has told the child as well: let it tidy up
                    interrupted = True
        finally:
            if process.poll() is None:
                process.terminate()
    status = process.returncode
    if interrupted:
        raise KeyboardInterrupt
    if status:
        raise StepFailed(
            f"{what} ended with status {status}, see above", status if status > 0 else 128 - status
        )


@contextlib.contextmanager
def _server(base_path: Path, log_path: Path, program: Sequence[str] = child.OURS) -> Iterator[int]:
    """A model server of the newest version below `base_path`; yields its port.

    Raises:
      StepFailed: it ended or did not serve in time; the message has its last words.
    """
    with child.ModelServer(base_path, log_path, program=program) as server:
        shown = [part for part in server.command if "port_file=" not in part]
        print(f"\n$ {_typed(shown)} &", flush=True)
        try:
            version = server.wait_serving()
            port = server.port
        except child.NotServing as error:
            raise StepFailed(
                f"the model server did not serve the model: {error} (all of it in {log_path})",
                max(error.exit_status or 0, 1),
            ) from error
        print(f"serving shelfwise version {version} on port {port}", flush=True)
        yield port


def _ask(config: config_lib.Config, run_dir: Path, port: int, args: argparse.Namespace) -> list[list[str]]:
    """Shows some users' recommendations, what the first of them bought lately, and a search.

    Returns:
      Arguments of the client to go on with.
    """
    asked = []
    rows = {} if config.events is None else _histories(run_dir)
    histories = run_dir / "histories.parquet"
    users = args.users or _choose(rows)
    for place, user in enumerate(users):
        if user not in rows:
            known = f"give one of {', '.join(_choose(rows))}" if rows else "this shop has no events"
            raise StepFailed(f"--users {user}: is not in {histories}; {known}", 1)
        if place == 0:
            _print_recent(config, user, rows[user])
        _run(_client(port, "recommend", *_of_user(user, histories), "--k", str(args.k)), "the client")
        asked = [["recommend", "--user", user]]
    if config.search.enabled:
        query = args.query or _word_for(config, [rows[user] for user in users[:2]])
        for user in (*users[:2], None):
            asks = _of_user(user, histories) if user else []
            _run(_client(port, "search", query, *asks, "--k", str(args.k)), "the client")
        asked += [["search", query], ["suggest", query[:2]]]
    return asked


def _histories(run_dir: Path) -> dict[str, dict[str, Any]]:
    """User -> past events, of every user of the run."""
    import pyarrow.parquet

    path = run_dir / "histories.parquet"
    if not path.exists():
        raise StepFailed(f"{path}: is missing; remove {run_dir} and run again", 1)
    table = pyarrow.parquet.read_table(path, columns=["user_id", "history_item_id", "history_age_days"])
    return {row["user_id"]: row for row in table.to_pylist()}


def _client(port: int, *arguments: str) -> list[str]:
    return _python("serving.client", *arguments, "--address", f"localhost:{port}")


def _of_user(user: str, histories: Path) -> list[str]:
    return ["--user", user, "--histories", str(histories)]


def _word_for(config: config_lib.Config, rows: Sequence[dict[str, Any]]) -> str:
    """A word to search for: one of the names of what every one of the users bought.

    Args:
      config: the shop.
      rows: of `_histories`; without any, the word is one of the catalogue.
    """
    text = config.items.text
    name = config.search.title if config.search.title in text else text[0]
    if not rows:
        return _common_word([_item_columns(config, None, [name]).values()])
    bought = [set(row["history_item_id"]) for row in rows]
    texts = _item_columns(config, sorted(set().union(*bought)), [name])
    return _common_word([[texts[item] for item in items if item in texts] for items in bought])


def _common_word(groups: Sequence[Iterable[str]]) -> str:
    """The word that the most names of every group have; of the group with the fewest.

    Args:
      groups: names of items, at least one group.
    """
    counts = [
        collections.Counter(word for name in names for word in set(re.findall(r"[^\W\d_]{4,}", name.lower())))
        for names in groups
    ]
    shared = set.intersection(*(set(count) for count in counts)) or set(counts[0])
    return min(shared, key=lambda word: (-min(count[word] for count in counts), word), default="")


def _choose(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Up to three users: one with a middling history, one with a long and one with a short one."""
    by_length = sorted(rows, key=lambda user: (len(rows[user]["history_item_id"]), user))
    places = [int(share * (len(by_length) - 1)) for share in (0.5, 0.95, 0.05)] if by_length else []
    return list(dict.fromkeys(by_length[place] for place in places))


def _print_recent(config: config_lib.Config, user: str, row: dict[str, Any]) -> None:
    recent = list(zip(row["history_item_id"], row["history_age_days"], strict=True))[: -RECENT_ITEMS - 1 : -1]
    texts = _item_texts(config, [item for item, _ in recent])
    print(f"\nuser {user}: {len(row['history_item_id'])} past events, the latest {len(recent)}:")
    for item, age in recent:
        print(f"  {age:5.0f} days ago  {item:>9}  {texts.get(item, '')}")


def _item_texts(config: config_lib.Config, items: Sequence[str]) -> dict[str, str]:
    """The text of `items` from the catalogue file, `{}` for what it does not hold."""
    return _item_columns(config, items, config.items.text)


def _item_columns(
    config: config_lib.Config, items: Sequence[str] | None, columns: Sequence[str]
) -> dict[str, str]:
    """Item -> its values of some text columns of the catalogue file, joined; of all items if None."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    path = config.data.resolve(config.items.path)
    source = ds.dataset(path, format="csv" if path.endswith(".csv") else "parquet")
    table = source.to_table(columns=list(dict.fromkeys([config.items.item_id, *columns])))
    ids = pc.cast(table[config.items.item_id], pa.string())
    table = table.append_column("item", ids)
    if items is not None:
        table = table.filter(pc.is_in(ids, pa.array(items, pa.string())))
    return {
        row["item"]: " ".join(str(row[name]) for name in columns if row[name]) for row in table.to_pylist()
    }


def _close(
    run_dir: Path, base_path: Path, asked: Sequence[Sequence[str]], shop: Sequence[str], started: float
) -> None:
    """Says what was reached, where to look and how to go on: with what was `asked` of the client, and the
    command that serves the `shop`.
    """
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    print()
    for line in run_summary.closing_lines(summary, str(run_dir / "report.html")):
        print(line)
    server = _python(
        *("serving.model_server", "--host=localhost", "--port=8500"),
        *("--model_name=shelfwise", f"--model_base_path={base_path}"),
    )
    print(f"\nAsk it yourself:\n  {_typed(server)} &")
    for arguments in asked:
        print(f"  {_typed(_python('serving.client', *arguments))}")
    print(f"\nBe a shopper (pages and API at http://localhost:8080/):\n  {_typed(shop)}")
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"\ndemo done in {minutes} min {seconds:02d} s")


if __name__ == "__main__":
    sys.exit(main())
