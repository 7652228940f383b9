"""The command line: `python -m serving.client`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from schema import names as F
from schema.errors import RequestError, UserError
from schema.events import Event, UserState
from serving.client.calls import DEFAULT_ADDRESS, MAX_ATTEMPTS
from serving.client.clients import Client
from serving.client.types import Recommendation

_TIMESTAMP = F.CONTEXT_TIMESTAMP.removeprefix(F.CONTEXT_PREFIX)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line and status 1, like every other error of this command.
        self.exit(1, f"{self.prog}: {message}; see --help\n")


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m serving.client") -> int:
    """Runs the command line.

    Args:
      arguments: without the program name; None reads `sys.argv`.
      prog: the program's name in its help.

    Returns:
      The exit status: 0, or 1 after one line on stderr.
    """
    options = _parser(prog).parse_args(arguments)
    # gRPC logs failed connections on its own; our one line says it better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        certificates = _read("ca_cert", options.ca_cert)
        key, certificate = _read("client_key", options.client_key), _read("client_cert", options.client_cert)
        with Client(
            options.address,
            options.model,
            options.timeout,
            version=options.version,
            version_label=options.label,
            max_attempts=options.attempts,
            hedge_after=options.hedge_after,
            tls=options.tls or certificates is not None or key is not None,
            root_certificates=certificates,
            client_key=key,
            client_certificate=certificate,
        ) as client:
            options.run(client, options)
    except UserError as error:
        print(f"serving.client: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--address", default=DEFAULT_ADDRESS, help="host:port of the server (%(default)s)")
    common.add_argument("--model", default="shelfwise", help="model name (%(default)s)")
    which = common.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, help="model version (the newest)")
    which.add_argument("--label", help="version label, e.g. stable")
    common.add_argument(
        "--timeout", type=float, default=10.0, help="seconds to wait, with retries (%(default)s)"
    )
    common.add_argument(
        "--attempts",
        type=int,
        default=MAX_ATTEMPTS,
        help="tries while no server answers, 1 to 5 (%(default)s)",
    )
    common.add_argument(
        "--hedge_after", type=float, metavar="SECONDS", help="ask a second time when the answer is late"
    )
    common.add_argument("--tls", action="store_true", help="encrypt the connection")
    common.add_argument("--ca_cert", metavar="PEM", help="authority to trust; implies --tls")
    common.add_argument("--client_key", metavar="PEM", help="key for mTLS, with --client_cert")
    common.add_argument("--client_cert", metavar="PEM", help="certificate for mTLS")
    common.add_argument("--json", action="store_true", help="print JSON")

    user = _Parser(add_help=False)
    user.add_argument("--user", default="", help="user id; the user's recent events come from --histories")
    user.add_argument(
        "--histories", metavar="FILE", help="histories.parquet (the newest runs/*/histories.parquet)"
    )
    user.add_argument(
        "--event",
        action="append",
        default=[],
        metavar="ITEM[:DAYS_AGO[:TYPE]]",
        help="a past event, instead of --histories; repeat for more",
    )
    user.add_argument("--context", action="append", default=[], metavar="NAME=VALUE", help="repeat for more")

    listed = _Parser(add_help=False)
    listed.add_argument("--k", type=int, default=10, help="how many (%(default)s)")
    listed.add_argument(
        "--exclude", action="append", default=[], metavar="ITEM", help="never this item; repeat for more"
    )
    listed.add_argument("--category", action="append", default=[], help="only this category; repeat for more")
    listed.add_argument("--diversity", type=float, help="0 (the ranker's order) to 1 (the shop's setting)")
    listed.add_argument(
        "--drop_bought_days", type=float, metavar="DAYS", help="nothing bought so lately (the shop's setting)"
    )

    parser = _Parser(prog=prog, description="Asks a Shelfwise model server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(
        name: str, run: Callable[[Client, argparse.Namespace], None], text: str, *more: _Parser
    ) -> _Parser:
        added = commands.add_parser(name, parents=[common, *more], help=text, description=text)
        added.set_defaults(run=run)
        return added

    command("recommend", _run_recommend, "The best items for a user.", user, listed)
    added = command("search", _run_search, "What a shopper's words find.", user, listed)
    added.add_argument("query", help="what the shopper typed")
    added.add_argument("--brand", action="append", default=[], help="only this brand; repeat for more")
    added.add_argument("--min_price", type=float, metavar="PRICE", help="only items that cost this or more")
    added.add_argument("--max_price", type=float, metavar="PRICE", help="only items that cost this or less")
    added.add_argument("--sort", default="", choices=F.SORTS, help="order of the results (relevance)")
    added = command("suggest", _run_suggest, "Completions of what a shopper types.", user)
    added.add_argument("prefix", help="what was typed so far")
    added.add_argument("--k", type=int, default=8, help="how many (%(default)s)")
    added = command("similar", _run_similar, "Items like another.")
    added.add_argument("--item", required=True, help="item id")
    added.add_argument("--k", type=int, default=10, help="how many (%(default)s)")
    added = command("rank", _run_rank, "Scores of given items for a user.", user)
    added.add_argument(
        "--candidates", nargs="+", required=True, metavar="ITEM", help="item ids, also comma-separated"
    )
    added = command("explain", _run_explain, "What speaks for and against given items.", user)
    added.add_argument(
        "--candidates", nargs="+", required=True, metavar="ITEM", help="item ids, also comma-separated"
    )
    added = command("embed-text", _run_embed_text, "The text encoder's vector of a text.")
    added.add_argument("text")
    command("status", _run_status, "State of the model's versions.")
    command("metadata", _run_metadata, "Signatures of the model.")
    return parser


def _run_recommend(client: Client, options: argparse.Namespace) -> None:
    results = client.recommend(_user_state(options), **_list_of(options))
    _print_recommendations(results, options.json)


def _list_of(options: argparse.Namespace) -> dict[str, Any]:
    """What every list of items may be told."""
    return {
        "exclude_item_id": options.exclude,
        "category": options.category,
        "k": options.k,
        "diversity": options.diversity,
        "drop_bought_days": options.drop_bought_days,
    }


def _run_search(client: Client, options: argparse.Namespace) -> None:
    result = client.search(
        options.query,
        _user_state(options),
        brand=options.brand,
        min_price=options.min_price,
        max_price=options.max_price,
        sort=options.sort,
        **_list_of(options),
    )
    rows = [
        [row.rank, row.item_id, row.item_text, "" if row.price is None else f"{row.price:.2f}"]
        + [f"{row.score:.4f}", row.source, row.reason]
        for row in result.items
    ]
    if result.notice and not options.json:
        print(result.notice)
    _print(result, ["rank", "item", "product", "price", "score", "source", "reason"], rows, options.json)
    if options.json:
        return
    print(f"{result.total:,} items match")
    for name, counts in result.facets.items():
        print(f"{name}: " + ", ".join(f"{value} ({count:,})" for value, count in counts.items()))


def _run_suggest(client: Client, options: argparse.Namespace) -> None:
    results = client.suggest(options.prefix, _user_state(options), k=options.k)
    _print(
        results, ["completion", "score"], [[row.text, f"{row.score:.4f}"] for row in results], options.json
    )


def _run_similar(client: Client, options: argparse.Namespace) -> None:
    _print_recommendations(client.similar(options.item, k=options.k), options.json)


def _run_rank(client: Client, options: argparse.Namespace) -> None:
    candidates = [item for group in options.candidates for item in group.split(",") if item]
    results = client.rank(_user_state(options), candidates)
    results = sorted(results, key=lambda item: -item.score)
    rows = [
        [place, row.item_id, f"{row.score:.4f}", f"{row.p_purchase:.4f}"]
        for place, row in enumerate(results, 1)
    ]
    _print(results, ["rank", "item", "score", "p_purchase"], rows, options.json)


def _run_explain(client: Client, options: argparse.Namespace) -> None:
    candidates = [item for group in options.candidates for item in group.split(",") if item]
    results = client.explain(_user_state(options), candidates)
    rows = [
        [row.item_id, f"{row.log_odds:.3f}", f"{row.baseline:.3f}"]
        + [f"{share:+.3f}" for share in row.attribution.values()]
        for row in results
    ]
    _print(results, ["item", "log_odds", "baseline", *results[0].attribution], rows, options.json)


def _run_embed_text(client: Client, options: argparse.Namespace) -> None:
    vector = client.embed_text(options.text)
    print(json.dumps(vector) if options.json else " ".join(f"{value:.6g}" for value in vector))


def _run_status(client: Client, options: argparse.Namespace) -> None:
    results = client.status()
    rows = [[row.version, row.state, row.error_code, row.error_message] for row in results]
    _print(results, ["version", "state", "status", "error"], rows, options.json)


def _run_metadata(client: Client, options: argparse.Namespace) -> None:
    found = client.metadata()
    rows = [
        [name, kind, key, info.dtype.removeprefix("DT_").lower(), _shape(info.shape)]
        for name, signature in sorted(found.signatures.items())
        for kind, infos in (("in", signature.inputs), ("out", signature.outputs))
        for key, info in infos.items()
    ]
    if not options.json:
        print(f"{found.name} version {found.version}")
    _print(found, ["signature", "", "tensor", "type", "shape"], rows, options.json)


def _shape(shape: tuple[int | None, ...] | None) -> str:
    return (
        "any"
        if shape is None
        else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
    )


def _print_recommendations(results: list[Recommendation], as_json: bool) -> None:
    rows = [
        [row.rank, row.item_id, row.item_text, f"{row.score:.4f}", row.source, row.reason] for row in results
    ]
    _print(results, ["rank", "item", "product", "score", "source", "reason"], rows, as_json)


def _print(results: Any, headers: list[str], rows: list[list[Any]], as_json: bool) -> None:
    if as_json:
        plain = (
            [dataclasses.asdict(row) for row in results]
            if isinstance(results, list)
            else dataclasses.asdict(results)
        )
        print(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for place, header in enumerate(headers):
        numeric = bool(rows) and all(_is_number(row[place]) for row in rows if row[place] != "")
        table.add_column(header, justify="right" if numeric and header != "item" else "left")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # Text: a product's "[x]" is no markup
    # Into a file or pipe the lines are as long as they need to be.
    Console(width=None if sys.stdout.isatty() else 240).print(table)
    if not rows:
        print("no results", file=sys.stderr)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _user_state(options: argparse.Namespace) -> UserState:
    """History and context of the request: from --event, else from histories.parquet."""
    state = UserState(options.user, [_event(text) for text in options.event])
    if options.user and not options.event:
        state = _look_up(options.user, options.histories)
    context = dict(state.context)
    for text in options.context:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise RequestError(f"--context: '{text}' is not name=value")
        context[name.removeprefix(F.CONTEXT_PREFIX)] = value
    now = None if _TIMESTAMP in context else state.now
    return UserState(options.user, state.events, context, now)


def _event(text: str) -> Event:
    item_id, *rest = text.split(":", 2)
    try:
        return Event(item_id, *(kind(value) for kind, value in zip((float, str), rest, strict=False)))
    except ValueError:
        raise RequestError(f"--event: '{rest[0]}' in '{text}' is not a number of days") from None


def _look_up(user_id: str, path: str | None) -> UserState:
    """A user's events and context from histories.parquet; says on stderr if there are none."""
    if path is None:
        found = sorted(Path("runs").glob("*/histories.parquet"), key=lambda file: file.stat().st_mtime)
        if not found:
            print("note: no runs/*/histories.parquet here; the request goes without history", file=sys.stderr)
            return UserState(user_id)
        path = str(found[-1])
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path, filters=[(F.USER_ID, "==", user_id)]).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RequestError(f"--histories: {path} cannot be read ({reason})") from error
    if not rows:
        print(f"note: user {user_id} is not in {path}; the request goes without history", file=sys.stderr)
        return UserState(user_id)
    missing = [name for name in F.HISTORY if name not in rows[0]]
    if missing:
        raise RequestError(
            f"--histories: {path} has no column '{missing[0]}'; it is not a run's histories.parquet"
        )
    return UserState.from_request(rows[0])


def _read(flag: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"--{flag}: {path} cannot be read ({error.strerror})") from error
