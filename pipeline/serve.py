"""Serves a finished run on this machine: its model, and the shop's pages and API in front of it.

::

    python -m pipeline.serve                # The Complete Journey's newest pushed model
    python -m pipeline.serve --port 9000

Starts the model server and the gateway, each a process of its own, prints where the shop is, and ends
both at Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.run import command as runner
from schema import config as config_lib
from schema.errors import UserError
from serving.model_server.process import child

_LOOK_SECONDS = 1.0  # between two looks at whether a signal has come
_STOP_SECONDS = 30.0  # the gateway lets requests end


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m pipeline.serve") -> int:
    """The command.

    Args:
      argv: arguments without the program's name; those of the process if None.
      prog: the program's name in its help.

    Returns:
      The exit status: that of the gateway, 1 if the model server did not start, 130 or 143 when interrupted.
    """
    args = _parser(prog).parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        config = runner.load_config(args)
        run_dir = Path(args.runs_dir) / config.name
        base_path = run_dir / "serving" / config.gateway.model_name
        if not any((version / "saved_model.pb").exists() for version in base_path.glob("[0-9]*")):
            raise UserError(
                f"{base_path}: no model was pushed yet; run `make demo`, or name another --runs-dir"
            )
        with _model_server(base_path, run_dir / "model_server.log") as address:
            return _gateway(gateway_command(args, config, run_dir, address))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def gateway_command(
    args: argparse.Namespace, config: config_lib.Config, run_dir: Path, address: str
) -> list[str]:
    """The gateway's command line.

    Args:
      args: of this command.
      config: the shop.
      run_dir: the run's folder, where the store stands unless the configuration says where.
      address: of the model server.
    """
    command = [sys.executable, "-m", "serving.gateway", "--config", args.config, "--run", str(run_dir)]
    command += ["--host", args.host, "--port", str(args.port), "--log_format", args.log_format]
    settings = [*args.set, f"gateway.model_server={address}"]
    if "store" not in config.gateway.model_fields_set:
        settings.append(f"gateway.store=sqlite:///{run_dir / 'gateway.sqlite'}")
    if "runs_dir" not in config.gateway.page.model_fields_set:  # for the operations page
        settings.append(f"gateway.page.runs_dir={args.runs_dir}")
    return command + [part for setting in settings for part in ("--set", setting)]


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = runner.Parser(prog=prog, description="Serves a finished run: its model, its pages and its API.")
    runner.add_config_arguments(parser)
    parser.add_argument(
        "--runs-dir",
        metavar="DIR",
        default=os.environ.get("SHELFWISE_RUNS_DIR") or "runs",
        help="folder of the runs (default: runs)",
    )
    parser.add_argument(
        "--host", default="localhost", help="name or address of the pages (default: localhost)"
    )
    parser.add_argument("--port", type=int, default=8080, help="port of the pages (default: 8080)")
    parser.add_argument("--log_format", choices=("json", "text"), default="text")
    return parser


@contextlib.contextmanager
def _model_server(base_path: Path, log_path: Path) -> Iterator[str]:
    """A model server of the newest version; yields its address.

    Raises:
      UserError: it ended, or does not serve the model.
    """
    with child.ModelServer(base_path, log_path) as server:
        print(f"starting the model server (its log: {log_path})", flush=True)
        try:
            version = server.wait_serving()
            address = server.address
        except child.NotServing as error:
            raise UserError(
                f"the model server did not serve the model: {error} (all of it in {log_path})"
            ) from error
        print(f"serving shelfwise version {version} at {address}", flush=True)
        yield address


def _gateway(command: Sequence[str]) -> int:
    """Runs the gateway until it ends or this process is told to."""
    print(f"$ {shlex.join(command)}", flush=True)
    process = subprocess.Popen(command)
    try:
        while True:
            # Not endless: a signal that the kernel gives to a thread of gRPC's would not end it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_SECONDS)
    finally:  # after Ctrl-C the terminal has told it as well; after SIGTERM nobody has
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
