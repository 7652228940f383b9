"""The command: a gateway on this machine, in front of a model server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog
import uvicorn
import uvloop

from schema import config as config_lib
from schema.config import Gateway
from schema.config.loading import parse_settings
from schema.errors import UserError
from serving.gateway import logs
from serving.gateway.app import create_app
from serving.gateway.catalogue import Catalogue
from serving.gateway.histories import Histories
from serving.gateway.metrics import Metrics
from serving.gateway.models import Models
from serving.gateway.release import Release
from serving.gateway.services import Clock, Services
from serving.store import EventStore

_GRACE_SECONDS = 20  # that requests in work have after SIGTERM
_LOOK_SECONDS = 30.0  # between two looks for a newer version
_log = structlog.get_logger("shelfwise.gateway")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m serving.gateway") -> int:
    """Runs a gateway until it is told to stop.

    Args:
      argv: arguments without the program's name; those of the process if None.
      prog: the program's name in its help.

    Returns:
      The exit status: 0, or 1 after a mistake (one line on stderr).
    """
    args = _parser(prog).parse_args(argv)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Serves recommendations, search and events of a shop over HTTP."
    )
    parser.add_argument("--config", required=True, help="YAML configuration of the shop, with `gateway:`")
    parser.add_argument(
        "--run", type=Path, help="folder of a finished run: its newest pushed version has the catalogue"
    )
    parser.add_argument("--catalogue", type=Path, help="Parquet file of items, instead of the run's")
    parser.add_argument(
        "--histories", type=Path, help="Parquet file of users' histories, instead of the run's"
    )
    parser.add_argument(
        "--host", default="localhost", help="name or address to listen at (default: localhost)"
    )
    parser.add_argument("--port", type=int, default=8080, help="port; 0 picks a free one (default: 8080)")
    parser.add_argument("--port_file", type=Path, help="file to write the port to, when it listens")
    parser.add_argument(
        "--wait_for_model",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="listen only when the model's protocol is loaded and the model was asked once; else events are "
        "taken seconds earlier, and lists are slow at first",
    )
    parser.add_argument("--log_format", choices=("json", "text"), default="json")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="overrides a setting, as for `run`"
    )
    return parser


async def _serve(args: argparse.Namespace) -> int:
    config = config_lib.load(args.config, parse_settings(args.set))
    settings = config.gateway
    check_host(args.host, settings)
    shop = _shop(args, settings)
    logs.configure(args.log_format == "json")
    store = EventStore(settings.store)
    models = Models.of(settings, Metrics())
    app = create_app(
        settings,
        store=store,
        model=models.default,
        labels=models.labels,
        catalogue=shop.catalogue,
        histories=shop.histories,
        clock=shop.clock,
        reasons=config.serving.reasons,
        pushed=args.run / "serving" / settings.model_name if args.run else None,
    )
    if args.wait_for_model:  # an import that takes seconds would hold up every request
        await models.warm()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            http="httptools",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    with contextlib.closing(store), listener(args.host, args.port) as bound:
        port = bound.getsockname()[1]
        serving = asyncio.create_task(server.serve([bound]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.02)
        if server.started:
            print(f"serving the shop at http://{args.host}:{port}/ (API: /docs)", flush=True)
            if args.port_file:
                _write(args.port_file, str(port))
        following = asyncio.create_task(_follow(args, settings, app.state.services, shop.version))
        await serving
        following.cancel()
    return 0


class _Shop(NamedTuple):
    """What a run or files say of the shop; `version` is 0 without a run."""

    catalogue: Catalogue
    histories: Histories | None
    clock: Clock
    version: int


def _shop(args: argparse.Namespace, settings: Gateway) -> _Shop:
    if args.run is None:
        if args.catalogue is None:
            raise UserError("give --run, the folder of a finished run, or --catalogue, a file of items")
        if args.histories is not None:
            raise UserError("--histories: needs --run, whose model says when the ages count from")
        return _Shop(Catalogue.read(args.catalogue), None, Clock(), 0)
    release = Release.newest(args.run / "serving" / settings.model_name)
    catalogue = Catalogue.read(args.catalogue) if args.catalogue else release.catalogue()
    path, histories = args.histories or args.run / "histories.parquet", None
    if args.histories or path.exists():  # a shop without events has none
        histories = release.histories(path, settings)
    return _Shop(catalogue, histories, release.clock(settings), release.version)


async def _follow(args: argparse.Namespace, settings: Gateway, services: Services, version: int) -> None:
    """Takes the cards, histories and time of each version that the run pushes from now on."""
    while args.run is not None:
        await asyncio.sleep(_LOOK_SECONDS)
        try:
            newest = Release.newest(args.run / "serving" / settings.model_name).version
            if newest == version:
                continue
            shop = await asyncio.to_thread(_shop, args, settings)
        except UserError as error:  # what is there goes on being used
            _log.error("the newest version cannot be read", reason=str(error))
            continue
        version = shop.version
        services.catalogue, services.clock = shop.catalogue, shop.clock
        services.histories = shop.histories or Histories.none()
        _log.info("follows a new version", version=version, items=len(shop.catalogue))


def check_host(host: str, settings: Gateway) -> None:
    """Refuses to open a gateway without keys to other machines.

    Raises:
      UserError: no key is configured, and the host is not this machine only.
    """
    if settings.api_keys or _is_local(host):
        return
    raise UserError(
        f"--host {host}: whoever reaches the port could read and erase the data of users; configure "
        "gateway.api_keys, or listen at localhost"
    )


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listener(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
      UserError: the address is taken or none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(512)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot be listened at ({error.strerror}); give another port"
        ) from error
    return bound


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)
