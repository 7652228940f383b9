"""The local runner's command line: arguments, configuration, exit status.

Importing it is cheap: TFX is imported when the arguments are right.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from pipeline.run import execution
from schema import config as config_lib
from schema.config.loading import parse_settings
from schema.errors import ConfigError, UserError, find_user_error

DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "complete_journey.yaml"


def main(
    argv: list[str] | None = None,
    create_pipeline: execution.PipelineFactory | None = None,
    *,
    prog: str = "python -m pipeline.local_runner",
) -> int:
    """The command.

    Args:
      argv: arguments without the program's name; those of the process if None.
      create_pipeline: builds the pipeline; `pipeline.pipeline.create_pipeline` if None.
      prog: the program's name in its help.

    Returns:
      The exit status: 0, 1 after an error (one line on stderr), 130 or 143 when interrupted.
    """
    args = parser(prog).parse_args(argv)
    try:
        config = load_config(args)
        if execution.registering():
            return execution.register(config, Path(args.runs_dir), create_pipeline)
        return execution.run(
            config,
            Path(args.runs_dir),
            config_path=args.config,
            create_pipeline=create_pipeline,
            refresh=args.refresh_index,
        )
    except Exception as error:  # other than UserError and OSError: only while TFX registers the pipeline
        print(f"error: {error_line(error)}", file=sys.stderr)
    return 1


def error_line(error: Exception) -> str:
    """What the terminal shows of an exception that ended a command."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return find_user_error(error) or f"{type(error).__name__}: {error}"


def load_config(args: argparse.Namespace) -> config_lib.Config:
    """The configuration that the arguments ask for.

    Raises:
      ConfigError: a wrong file, key or value.
    """
    overrides = parse_settings(args.set)
    if args.sample is not None:
        try:
            overrides["data.sample_users"] = int(args.sample)
        except ValueError as error:
            raise ConfigError(f"--sample {args.sample}: expected a number of users, e.g. 200") from error
    if args.name is not None:
        overrides["name"] = args.name
    try:
        return config_lib.load(args.config, overrides)
    except (AttributeError, TypeError) as error:  # an override below a key that holds no section
        keys = ", ".join(overrides)
        raise ConfigError(f"{args.config}: one of {keys} goes below a value that is no section") from error


class Parser(argparse.ArgumentParser):
    """Errors are one line, and the exit status is 1."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with one line."""
        print(f"error: {message} (try --help)", file=sys.stderr)
        raise SystemExit(1)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that :func:`load_config` reads."""
    parser.add_argument(
        "--config",
        default=os.environ.get("SHELFWISE_CONFIG") or str(DEFAULT_CONFIG),
        help="YAML configuration of the shop (default: The Complete Journey)",
    )
    parser.add_argument(
        "--sample",
        metavar="N",
        default=os.environ.get("SHELFWISE_SAMPLE") or None,
        help="use the events of N users only, for a quick run",
    )
    parser.add_argument(
        "--set",
        metavar="KEY.PATH=VALUE",
        action="append",
        default=[],
        help="replace a value of the configuration, e.g. retrieval.epochs=2; can be repeated",
    )
    parser.add_argument("--name", help="pipeline name in place of the configuration's `name`")


def parser(prog: str = "python -m pipeline.local_runner") -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = Parser(
        prog=prog,
        description="Runs the pipeline on this machine, from the shop's files to a pushed model.",
        epilog="SHELFWISE_CONFIG, SHELFWISE_SAMPLE and SHELFWISE_RUNS_DIR in the environment are the "
        "defaults of --config, --sample and --runs-dir; `tfx run create` is configured by them.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--runs-dir",
        metavar="DIR",
        default=os.environ.get("SHELFWISE_RUNS_DIR") or "runs",
        help="folder of the runs; this one goes to DIR/<pipeline name> (default: runs)",
    )
    parser.add_argument(
        "--refresh-index",
        action="store_true",
        help="train nothing: a new index and servable of today's catalogue, with the models of the latest "
        "run that pushed one",
    )
    return parser
