"""Runs the pipeline on this machine.

As a command::

    python -m pipeline.local_runner --config pipeline/configs/complete_journey.yaml

and as the file that the TFX command line registers and runs::

    tfx pipeline create --engine=local --pipeline_path=pipeline/local_runner.py
    tfx run create --engine=local --pipeline_name=complete_journey

Everything of a run lies in ``<runs dir>/<pipeline name>/``: report.html, summary.json, run.log,
metadata.sqlite, artifacts/, serving/. Running again re-uses every component whose inputs,
configuration and code are unchanged, which is also how a run that was killed continues.
"""

from __future__ import annotations

import argparse
import datetime as dt
import fcntl
import functools
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

_ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    # Run as a file (the TFX command line does), the first place to import from is this folder,
    # where `pipeline` would be pipeline.py instead of the package.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT / "pipeline"]
    sys.path.insert(0, str(_ROOT))

import yaml  # noqa: E402

from schema import config as config_lib  # noqa: E402
from schema.errors import ConfigError, UserError, find_user_error  # noqa: E402

DEFAULT_CONFIG = _ROOT / "pipeline" / "configs" / "complete_journey.yaml"
_PROG = "python -m pipeline.local_runner"

if TYPE_CHECKING:
    from pipeline.run.dag_runner import ProgressDagRunner
    from pipeline.run.progress import MemorySampler, OutputToLog
    from pipeline.run.record import RunRecord

# (config, pipeline_root=..., metadata_path=..., serving_dir=...) -> tfx.v1.dsl.Pipeline
PipelineFactory = Callable[..., Any]


def main(
    argv: list[str] | None = None,
    create_pipeline: PipelineFactory | None = None,
    *,
    prog: str = _PROG,
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
        if _registering():
            return _register(config, Path(args.runs_dir), create_pipeline)
        return run(
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
    overrides: dict[str, Any] = {}
    for setting in args.set:
        key, equals, text = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {setting}: expected key.path=value, e.g. retrieval.epochs=2")
        try:
            overrides[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {setting}: '{text}' is not a valid YAML value") from error
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


def run(
    config: config_lib.Config,
    runs_dir: Path,
    *,
    config_path: str | None = None,
    create_pipeline: PipelineFactory | None = None,
    refresh: bool = False,
) -> int:
    """Runs the pipeline of `config` in ``runs_dir/<config.name>``; see :func:`main`.

    Args:
      config: the shop.
      runs_dir: folder of the runs.
      config_path: where `config` was read from.
      create_pipeline: builds the pipeline.
      refresh: train nothing (see `pipeline.run.refresh`).

    Raises:
      UserError: the folder is in use by another run or cannot be written. Whatever goes wrong
        after that is printed, logged and recorded, and gives status 1.
    """
    from pipeline.run import progress

    run_dir = Path(os.path.abspath(runs_dir)) / config.name
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{run_dir}: cannot be created ({error.strerror}); choose another folder with --runs-dir"
        ) from error
    with (
        lock(run_dir),
        progress.OutputToLog(run_dir / "run.log") as output,
        progress.MemorySampler() as memory,
        _terminate_as_exception(),
    ):
        try:
            return _Run(config, config_path, run_dir, output, memory, refresh).execute(create_pipeline)
        except Exception as error:  # e.g. no space left for the summary
            traceback.print_exc()
            print(f"error: {_message(error, _shown(run_dir / 'run.log'))}", file=output.terminal_error)
            return 1


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Keeps other processes from running in `run_dir` at the same time.

    The operating system drops the lock when the process ends, however it ends. It is a POSIX
    record lock, so child processes that outlive a killed run do not keep it.

    Raises:
      UserError: another process has it; the message names its pid.
    """
    path = run_dir / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise UserError(
                f"{run_dir}: another run is using this folder (pid {holder}); "
                "wait for it to end, or choose another --name or --runs-dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


class _Run:
    """One run, from the first import to the report."""

    def __init__(
        self,
        config: config_lib.Config,
        config_path: str | None,
        run_dir: Path,
        output: OutputToLog,
        memory: MemorySampler,
        refresh: bool,
    ):
        self._refresh = refresh
        self._config = config
        self._config_path = config_path
        self._dir = run_dir
        self._output = output
        self._memory = memory
        self._error: dict[str, str] | None = None

    def execute(self, create_pipeline: PipelineFactory | None) -> int:
        started = dt.datetime.now(dt.UTC)
        clock = time.monotonic()
        log = _shown(self._dir / "run.log")
        self._say(f"pipeline {self._config.name}: loading TensorFlow and TFX; the full log is {log}")
        print(f"===== run of {self._config.name} started at {started.isoformat()}, pid {os.getpid()}")
        runner = None
        state, status = "complete", 0
        try:
            runner = self._make_runner()
            self._clear_interrupted()
            runner.run(build_pipeline(self._config, self._dir, create_pipeline))
        except KeyboardInterrupt as interrupt:
            traceback.print_exc()
            state, status = "interrupted", 143 if isinstance(interrupt, _Terminated) else 130
            self._fail(runner, "interrupted; run the same command again to continue from here")
            with suppress(Exception):
                self._clear_interrupted()
        except Exception as error:
            traceback.print_exc()
            state, status = "failed", 1
            self._fail(runner, _message(error, log))
        with _ignore_interrupts():  # a second Ctrl-C must not cost the summary
            self._finish(runner, state, started, time.monotonic() - clock)
        return status

    def _make_runner(self) -> ProgressDagRunner:
        from pipeline.run import dag_runner, progress

        mark = None
        if self._refresh:
            from pipeline.run import refresh

            mark = functools.partial(refresh.mark, metadata_path=self._dir / "metadata.sqlite")
        return dag_runner.ProgressDagRunner(
            lambda names: progress.Progress(self._output.terminal, names), self._memory, mark
        )

    def _clear_interrupted(self) -> None:
        """Removes what a killed run left half done."""
        from pipeline.run import record as run_record

        if (self._dir / "metadata.sqlite").exists():
            store = run_record.open_store(self._dir / "metadata.sqlite")
            names = run_record.cancel_abandoned(store, self._dir / "artifacts")
            if names:
                print("executions that were interrupted:", ", ".join(names))
        # A push is copied to a hidden folder, and saved_model.pb is copied last.
        serving = self._dir / "serving"
        for version in [*serving.glob("*/.[0-9]*.part"), *serving.glob("*/[0-9]*")]:
            complete = (version / "saved_model.pb").exists() and version.suffix != ".part"
            if version.is_dir() and not complete:
                print("incomplete version removed:", version)
                shutil.rmtree(version)

    def _fail(self, runner: ProgressDagRunner | None, message: str) -> None:
        failed = [stage.name for stage in runner.stages if stage.state == "failed"] if runner else []
        self._error = {"message": message}
        if failed:
            self._error["component"] = failed[-1]

    def _finish(
        self, runner: ProgressDagRunner | None, state: str, started: dt.datetime, seconds: float
    ) -> None:
        """Writes the summary and the report, and says how the run ended."""
        from pipeline.report import page as report
        from pipeline.report import summary
        from pipeline.run import record as run_record

        record = None
        if runner is not None and runner.run_id is not None:
            try:
                record = run_record.read_run(self._dir / "metadata.sqlite", runner.run_id)
            except Exception:
                traceback.print_exc()
        if record is not None:
            self._publish_histories(record)
        self._memory.sample()
        result = summary.build(
            name=self._config.name,
            config_path=str(self._config_path) if self._config_path else None,
            run_id=runner.run_id if runner else None,
            started=started.isoformat(timespec="seconds"),
            state=state,
            components=runner.components if runner else [],
            stages=runner.stages if runner else [],
            total_seconds=seconds,
            peak_memory_bytes=self._memory.peak_bytes,
            peak_memory_kind=self._memory.KIND,
            record=record,
            error=self._error,
        )
        result["primary_metric"] = self._config.quality.primary_metric
        summary.write(self._dir / "summary.json", result)
        shown = None
        try:
            shown = _shown(report.write(self._dir))
        except Exception:  # the run's own result counts more than its report
            traceback.print_exc()
        for line in closing_lines(result, shown):
            self._say(line)
        if self._error is not None:
            print(f"error: {self._error['message']}", file=self._output.terminal_error, flush=True)

    def _publish_histories(self, record: RunRecord) -> None:
        """Puts the users' request states beside the pushed model that they belong to."""
        pushed = [node.first("pushed_model") for node in record.of_kind("Pusher")]
        if any(model is not None and model.properties.get("pushed") == 1 for model in pushed):
            for _, path in record.find_file("histories", "histories.parquet"):
                partial = self._dir / ".histories.parquet.part"
                shutil.copyfile(path, partial)
                partial.replace(self._dir / "histories.parquet")

    def _say(self, text: str) -> None:
        print(text, file=self._output.terminal, flush=True)


def build_pipeline(config: config_lib.Config, run_dir: Path, create_pipeline: PipelineFactory | None) -> Any:
    """The pipeline with the local layout below `run_dir` (absolute)."""
    if create_pipeline is None:
        from pipeline.pipeline import create_pipeline
    return create_pipeline(
        config,
        pipeline_root=str(run_dir / "artifacts"),
        metadata_path=str(run_dir / "metadata.sqlite"),
        serving_dir=str(run_dir / "serving" / "shelfwise"),
    )


def closing_lines(summary: dict[str, Any], report: str | None) -> list[str]:
    """What is said at the end of a run.

    Args:
      summary: the content of summary.json.
      report: path of the report, None if it could not be written.
    """
    from pipeline.run.progress import format_bytes, format_seconds

    stages = summary["stages"]
    cached = sum(stage["cached"] for stage in stages)
    lines = [
        f"{summary['state']} after {format_seconds(summary['total_seconds'])}: "
        f"{len(stages)} of {len(stages) + len(summary['not_run'])} components, {cached} cached; "
        f"peak memory {format_bytes(summary['peak_memory_bytes'])}"
    ]
    metric = summary.get("primary_metric", "ndcg@10")
    rows = {"funnel": summary["metrics"]["funnel"], **summary["metrics"]["baselines"]}
    if summary["metrics"]["funnel"]:
        width = max(len(name) for name in rows)
        lines.append(f"{metric:<{width}}  {'all':>8}  {'novel':>8}")
        for name, tasks in rows.items():
            values = (tasks.get(task, {}).get(metric) for task in ("all", "novel"))
            shown = "  ".join(f"{'-' if value is None else format(value, '.4f'):>8}" for value in values)
            lines.append(f"{name:<{width}}  {shown}")
    if summary["blessed"] is not None:
        verdict = "blessed" if summary["blessed"] else "not blessed: nothing new is served"
        pushed = f"; pushed version {summary['pushed_version']}" if summary["pushed_version"] else ""
        lines.append(f"model {verdict}{pushed}")
    if report is not None:
        lines.append(f"report: {report}")
    return lines


def _message(error: BaseException, log: str) -> str:
    """One line about an exception that ended a run."""
    user_error = find_user_error(error)
    if user_error is not None:
        return user_error
    component = getattr(error, "component", None)
    cause = error.__cause__ if component and error.__cause__ else error
    text = str(cause).strip()
    # Beam puts whole tracebacks into its messages; their last line is the cause.
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    line = lines[-1] if "Traceback (most recent call last)" in text else lines[0]
    if cause is not error or component is None:
        line = f"{type(cause).__name__}: {line}" if line else type(cause).__name__
    where = f"component {component} failed: " if component else ""
    return f"{where}{line[:500]}; see {log}"


def _registering() -> bool:
    """Whether the TFX command line executes this file only to register the pipeline.

    It then has replaced ``LocalDagRunner.run`` by a wrapper that runs nothing, so no run folder
    is locked or written.
    """
    module = sys.modules.get("tfx.orchestration.local.local_dag_runner")
    return module is not None and hasattr(module.LocalDagRunner.run, "__wrapped__")


def _register(config: config_lib.Config, runs_dir: Path, create_pipeline: PipelineFactory | None) -> int:
    from pipeline.run import dag_runner, progress

    runner = dag_runner.ProgressDagRunner(
        lambda names: progress.Progress(sys.stdout, names), progress.MemorySampler()
    )
    run_dir = Path(os.path.abspath(runs_dir)) / config.name
    runner.run(build_pipeline(config, run_dir, create_pipeline))
    return 0


class _Terminated(KeyboardInterrupt):
    """SIGTERM: ends the run like Ctrl-C, with its summary written."""


@contextmanager
def _terminate_as_exception() -> Iterator[None]:
    def terminate(*_: object) -> NoReturn:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _shown(path: Path) -> str:
    """A path as a person wants to read it: relative to the working directory if below it."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


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


def parser(prog: str = _PROG) -> argparse.ArgumentParser:
    """The arguments of the command, which its help calls `prog`."""
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


if __name__ == "__main__":
    # The same code under its own name, so that its classes exist once.
    from pipeline.local_runner import main as _main

    sys.exit(_main())
