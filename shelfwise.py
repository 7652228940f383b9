"""The command `shelfwise`: one name for everything that is run by hand.

`shelfwise run --config my_shop.yaml` is `python -m pipeline.local_runner --config my_shop.yaml`, and
so on: each command is the `main` of the module that it names, which is imported only when it is
asked for, because TensorFlow takes seconds. It stands above all packages.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import shelfwise_env  # noqa: F401  (which Keras TensorFlow takes, before anything imports it)
from schema.errors import UserError

_BENCHMARKS = Path(__file__).resolve().parent / "benchmarks"


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
      module: has `main(arguments, *, prog) -> exit status`; a package has it in its `__main__`.
      help: what it does, in the infinitive.
    """

    module: str
    help: str


COMMANDS = {
    "init": Command("pipeline.onboarding.command", "propose a configuration for a shop's own files"),
    "run": Command(
        "pipeline.local_runner", "run the pipeline on this machine, from the files to a pushed model"
    ),
    "compile": Command("kubeflow.runner", "compile the pipeline for Kubeflow Pipelines and Vertex AI"),
    "serve": Command("serving.model_server", "serve pushed models over gRPC and REST"),
    "shop": Command(
        "pipeline.serve", "serve a finished run on this machine: its model, the shop's pages and the API"
    ),
    "gateway": Command(
        "serving.gateway", "answer a shop's pages and apps over HTTP, and keep what shoppers do"
    ),
    "ask": Command("serving.client", "ask a model server: recommendations, search, completions"),
    "report": Command("pipeline.report.page", "write a run's report.html anew"),
    "runs": Command("pipeline.report.runs", "list the runs: state, time, figures, pushed version"),
    "compare": Command("pipeline.report.compare", "show settings and figures of two runs side by side"),
    "board": Command("pipeline.report.board", "start TensorBoard on the training curves of a folder's runs"),
    "schema": Command("pipeline.infer_schema", "propose schemas of a shop's tables, for review"),
    "config-schema": Command(
        "schema.config.json_schema", "print the JSON Schema of configurations, for editors"
    ),
}
_BENCH = "measure speed and quality; without a NAME, list what can be measured (needs a checkout)"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: arguments without the program's name; those of the process if None.

    Returns:
      The exit status: that of the command; 1 after a mistake (one line on stderr).

    Raises:
      SystemExit: the command's own argument parser ended it, such as after `--help`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if not arguments:
        print(usage(), file=sys.stderr)
        return 1
    name, *rest = arguments
    try:
        if name == "bench":
            return _bench(rest)
        if name not in COMMANDS:
            raise UserError(f"unknown command '{name}'; known are {', '.join([*COMMANDS, 'bench'])}")
        return _main_of(COMMANDS[name].module)(rest, prog=f"shelfwise {name}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def usage() -> str:
    """The help of `shelfwise` itself."""
    lines = {name: command.help for name, command in COMMANDS.items()} | {"bench NAME": _BENCH}
    width = max(map(len, lines))
    return "\n".join(
        [
            "usage: shelfwise COMMAND ...",
            "",
            "Recommendations and search for a shop, from its tables to a model server.",
            "",
            *(f"  {name:<{width}}  {text}" for name, text in lines.items()),
            "",
            "`shelfwise COMMAND --help` explains the arguments of a command.",
        ]
    )


def _main_of(module: str) -> Callable[..., int]:
    """The function that `python -m <module>` runs."""
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    return found.main


def _bench(arguments: list[str]) -> int:
    """Runs one program of the folder benchmarks, or lists them."""
    if not _BENCHMARKS.is_dir():
        raise UserError(
            "bench: no folder benchmarks stands here; a checkout has it, the installed package does not"
        )
    # a program has a main(arguments); the other files are what programs share
    programs = {
        path.stem: path
        for path in sorted(_BENCHMARKS.glob("*.py"))
        if re.search(r"^def main\(\w", path.read_text(encoding="utf-8"), re.M)
    }
    if not arguments:
        print("\n".join(programs))
        return 0
    name, *rest = arguments
    if name in ("-h", "--help"):
        print(f"usage: shelfwise bench NAME ...\n\nNAME is one of {', '.join(programs)}.")
        return 0
    if name not in programs:
        raise UserError(f"bench: there is no benchmark '{name}'; known are {', '.join(programs)}")
    sys.argv[:] = [f"shelfwise bench {name}", *rest]  # their help takes its name from here
    return _main_of(f"benchmarks.{name}")(rest)


if __name__ == "__main__":
    sys.exit(main())
