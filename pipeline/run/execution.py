"""One run, from the first import to the report."""

from __future__ import annotations

import datetime as dt
import functools
import gc
import os
import shutil
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.run import signals
from pipeline.run.lock import lock
from schema.config import Config
from schema.errors import UserError, find_user_error

if TYPE_CHECKING:
    from pipeline.record import RunRecord
    from pipeline.run.dag_runner import ProgressDagRunner
    from pipeline.run.progress import MemorySampler, OutputToLog

# (config, pipeline_root=..., metadata_path=..., serving_dir=...) -> tfx.v1.dsl.Pipeline
PipelineFactory = Callable[..., Any]
INTERRUPTED = "interrupted; run the same command again to continue from here"


def run(
    config: Config,
    runs_dir: Path,
    *,
    config_path: str | None = None,
    create_pipeline: PipelineFactory | None = None,
    refresh: bool = False,
) -> int:
    """Runs the pipeline of `config` in ``runs_dir/<config.name>``.

    Args:
      config: the shop.
      runs_dir: folder of the runs.
      config_path: where `config` was read from.
      create_pipeline: builds the pipeline.
      refresh: train nothing (see `pipeline.run.refresh`).

    Returns:
      The exit status: 0, 1 after an error, 130 or 143 when interrupted.

    Raises:
      UserError: the folder is in use by another run or cannot be written, or a shop without events
        asks for a refresh. Whatever goes wrong after that is printed, logged and recorded, and gives
        status 1.
    """
    from pipeline.run import progress

    if refresh and config.events is None:
        raise UserError(
            "--refresh-index: a shop without events has no towers to keep; run the pipeline without it, "
            "which re-runs what another catalogue changes"
        )
    run_dir = Path(os.path.abspath(runs_dir)) / config.name
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        keep_private(run_dir)
    except OSError as error:
        raise UserError(
            f"{run_dir}: cannot be created ({error.strerror}); choose another folder with --runs-dir"
        ) from error
    with (
        lock(run_dir),
        progress.OutputToLog(run_dir / "run.log") as output,
        progress.MemorySampler() as memory,
        signals.as_exceptions() as interruption,
    ):
        try:
            one = _Run(config, config_path, run_dir, output, memory, interruption, refresh)
            return one.execute(create_pipeline)
        except Exception as error:  # e.g. no space left for the summary
            traceback.print_exc()
            print(f"error: {error_message(error, _shown(run_dir / 'run.log'))}", file=output.terminal_error)
            return 1


def keep_private(folder: Path) -> None:
    """Takes a folder's permissions from everybody but its owner and its group.

    A run holds what users bought: in the examples, in the histories and in every model. Nobody else
    comes past this folder, whatever the permissions below it are; a container that mounts one of the
    folders below it is not concerned.
    """
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & stat.S_IRWXO:
        with suppress(PermissionError):  # a folder of somebody else, who has decided
            folder.chmod(mode & ~stat.S_IRWXO)


def registering() -> bool:
    """Whether the TFX command line executes the runner's file only to register the pipeline.

    It then has replaced ``LocalDagRunner.run`` by a wrapper that runs nothing, so no run folder
    is locked or written.
    """
    module = sys.modules.get("tfx.orchestration.local.local_dag_runner")
    return module is not None and hasattr(module.LocalDagRunner.run, "__wrapped__")


def register(config: Config, runs_dir: Path, create_pipeline: PipelineFactory | None) -> int:
    """Hands the pipeline to the TFX command line; returns the exit status."""
    from pipeline.run import dag_runner, progress

    runner = dag_runner.ProgressDagRunner(
        lambda names: progress.Progress(sys.stdout, names), progress.MemorySampler()
    )
    run_dir = Path(os.path.abspath(runs_dir)) / config.name
    runner.run(build_pipeline(config, run_dir, create_pipeline))
    return 0


def build_pipeline(config: Config, run_dir: Path, create_pipeline: PipelineFactory | None) -> Any:
    """The pipeline with the local layout below `run_dir` (absolute)."""
    if create_pipeline is None:
        from pipeline.pipeline import create_pipeline
    return create_pipeline(
        config,
        pipeline_root=str(run_dir / "artifacts"),
        metadata_path=str(run_dir / "metadata.sqlite"),
        serving_dir=str(run_dir / "serving" / "shelfwise"),
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection while TensorFlow and TFX are imported, and none of what was imported.

    Their millions of objects live as long as the process: the collector would look through them again
    and again as more are imported, and then as graphs are traced.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


class _Run:
    """One run, from the first import to the report."""

    def __init__(
        self,
        config: Config,
        config_path: str | None,
        run_dir: Path,
        output: OutputToLog,
        memory: MemorySampler,
        interruption: signals.Interruption,
        refresh: bool,
    ):
        self._refresh = refresh
        self._config = config
        self._config_path = config_path
        self._dir = run_dir
        self._output = output
        self._memory = memory
        self._interruption = interruption
        self._error: dict[str, str] | None = None

    def execute(self, create_pipeline: PipelineFactory | None) -> int:
        from pipeline.run import state as state_of_folder

        started = dt.datetime.now(dt.UTC)
        clock = time.monotonic()
        log = _shown(self._dir / "run.log")
        self._say(f"pipeline {self._config.name}: loading TensorFlow and TFX; the full log is {log}")
        print(f"===== run of {self._config.name} started at {started.isoformat()}, pid {os.getpid()}")
        runner = None
        state, status = "complete", 0
        try:
            state_of_folder.clear_interrupted(self._dir)
            with _uncollected():
                pipeline = build_pipeline(self._config, self._dir, create_pipeline)
                runner = self._make_runner(pipeline)
            runner.run(pipeline)
        except (KeyboardInterrupt, Exception) as error:
            traceback.print_exc()
            # a library may have wrapped the exception of the signal into its own
            if isinstance(error, KeyboardInterrupt) or self._interruption.signal is not None:
                state, status = "interrupted", self._interruption.status
                self._fail(runner, INTERRUPTED)
                with suppress(Exception):
                    state_of_folder.clear_interrupted(self._dir)
            else:
                state, status = "failed", 1
                self._fail(runner, error_message(error, log))
        with signals.ignored():  # a second Ctrl-C must not cost the summary
            self._finish(runner, state, started, time.monotonic() - clock)
        return status

    def _make_runner(self, pipeline: Any) -> ProgressDagRunner:
        from pipeline.run import dag_runner, progress

        mark = None
        if self._refresh:
            from pipeline.run import refresh
            from pipeline.stages.nodes import rebuilt_ids

            mark = functools.partial(
                refresh.mark,
                rebuilt=rebuilt_ids(pipeline),
                metadata_path=self._dir / "metadata.sqlite",
            )
        return dag_runner.ProgressDagRunner(
            lambda names: progress.Progress(self._output.terminal, names), self._memory, mark
        )

    def _fail(self, runner: ProgressDagRunner | None, message: str) -> None:
        failed = [stage.name for stage in runner.stages if stage.state == "failed"] if runner else []
        self._error = {"message": message}
        if failed:
            self._error["component"] = failed[-1]

    def _finish(
        self, runner: ProgressDagRunner | None, state: str, started: dt.datetime, seconds: float
    ) -> None:
        """Writes the summary and the report, and says how the run ended."""
        from pipeline import record as run_record
        from pipeline.report import board, history, summary
        from pipeline.report import page as report

        record = None
        if runner is not None and runner.run_id is not None:
            try:
                record = run_record.read_run(self._dir / "metadata.sqlite", runner.run_id)
            except Exception:
                traceback.print_exc()
        if record is not None:
            publish_histories(record, self._dir)
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
        result["configuration"] = self._config.model_dump(mode="json")
        summary.write(self._dir / "summary.json", result)
        history.keep(self._dir, result)
        if record is not None:
            board.publish(record, self._dir, history.stamp(result))
        shown = None
        try:
            shown = _shown(report.write(self._dir))
        except Exception:  # the run's own result counts more than its report
            traceback.print_exc()
        for line in summary.closing_lines(result, shown):
            self._say(line)
        if self._error is not None:
            print(f"error: {self._error['message']}", file=self._output.terminal_error, flush=True)

    def _say(self, text: str) -> None:
        print(text, file=self._output.terminal, flush=True)


def publish_histories(record: RunRecord, run_dir: Path) -> None:
    """Copies the users' request states of a pushed model into the run's folder."""
    pushed = [node.first("pushed_model") for node in record.of_kind("Pusher")]
    if any(model is not None and model.properties.get("pushed") == 1 for model in pushed):
        for _, path in record.find_file("histories", "histories.parquet"):
            partial = run_dir / ".histories.parquet.part"
            partial.unlink(missing_ok=True)
            partial.touch(mode=0o640)  # its own too: it may be copied from here
            shutil.copyfile(path, partial)
            partial.replace(run_dir / "histories.parquet")


def error_message(error: BaseException, log: str) -> str:
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


def _shown(path: Path) -> str:
    """A path as a person wants to read it: relative to the working directory if below it."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
