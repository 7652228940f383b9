"""One run of a plan: which task is next, its process, its attempts, and what the terminal shows."""

from __future__ import annotations

import collections
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from google.protobuf import json_format

from kubeflow.local import task as tasks
from kubeflow.local.cache import Cache, key
from kubeflow.local.plan import Plan, Task
from kubeflow.local.task import Values
from schema.errors import ConfigError, UserError, find_user_error
from serving.model_server.process.child import start_guard

# What a task's process has of the caller's environment; a container would have nothing of it. These say how
# many processors and which devices there are, and where the system's libraries and credentials lie.
_INHERITED = (
    *("LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL"),
)
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_LOG = "executor-logs.txt"
_TAIL = 12  # lines of a failed task's log that are shown
_POLL_SECONDS = 0.05


class LocalRun:
    """Runs each task of a plan as a process of its own, where all that they depend on has succeeded.

    A task has a working directory of its own, which is removed, and nothing of this process's environment
    but `_INHERITED`. Its artifacts lie below ``<root>/<pipeline>/<run>/<task>-<attempt>``, and so does its
    log. Executions that succeeded are found again by later runs below the same root, see
    `kubeflow.local.cache`; that is also how a run that was killed is resumed.

    Args:
      plan: the pipeline.
      root: folder that stands for the bucket.
      project: folder that holds the packages which the commands import, as the image's project folder.
      jobs: tasks that run at the same time.
      out: where progress is printed.
    """

    def __init__(self, plan: Plan, root: Path, project: Path, jobs: int = 2, out: IO[str] = sys.stdout):
        self._plan = plan
        self._root = root
        self._project = project
        self._jobs = jobs
        self._out = out
        self._id = f"{dt.datetime.now():%Y%m%d-%H%M%S-%f}"
        self.folder = root / plan.name / self._id
        self._cache = Cache(root / ".cache" / plan.name)
        self._done: dict[str, Values] = {}
        self._running: dict[str, _Execution] = {}
        self._attempts = collections.Counter[str]()
        self._states: dict[str, dict[str, Any]] = {}

    def run(self, arguments: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Runs the plan.

        Args:
          arguments: values of the pipeline's own parameters; the others have their defaults.

        Returns:
          Task -> ``succeeded`` or ``cached``. It is also in ``run.json`` in the run's folder, with the
          seconds and folder of each.

        Raises:
          ConfigError: an argument that the pipeline does not have.
          UserError: a task failed as often as it may be tried. What ran at the same time was waited for.
        """
        given = self._arguments(arguments or {})
        waiting = list(self._plan.tasks)
        failed: list[str] = []
        self.folder.mkdir(parents=True)
        try:
            while self._running or (waiting and not failed):
                while not failed and len(self._running) < self._jobs:
                    ready = next((task for task in waiting if task.upstream <= set(self._done)), None)
                    if ready is None:
                        break
                    waiting.remove(ready)
                    self._start(ready, given)
                for execution in [each for each in self._running.values() if each.ended]:
                    failed += self._finish(execution)
                time.sleep(_POLL_SECONDS if self._running else 0)
        finally:
            for execution in self._running.values():
                execution.kill()
            self._write(given)
        if failed:
            raise UserError("; ".join(failed))
        return {name: state["state"] for name, state in self._states.items()}

    def _arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(given) - set(self._plan.defaults)):
            known = ", ".join(self._plan.defaults) or "none"
            raise ConfigError(f"--parameter {unknown[0]}: the pipeline has no such parameter; known: {known}")
        return self._plan.defaults | dict(given)

    def _start(self, task: Task, arguments: Mapping[str, Any]) -> None:
        """Starts an attempt, or takes the outputs of an earlier execution."""
        self._attempts[task.name] += 1
        folder = self.folder / f"{task.name}-{self._attempts[task.name]}"
        found = tasks.inputs(task, self._done, arguments)
        planned = tasks.executor_input(task, found, folder)
        cache_key = key(task, found, planned)
        if task.cached and (outputs := self._cache.find(cache_key)):
            self._done[task.name] = outputs
            self._say(task.name, "cached", 0.0, folder=None)
            return
        command = tasks.command(task, planned, pipeline=self._plan.name, run=self._id, root=str(self._root))
        self._running[task.name] = _Execution(
            task, planned, folder, command, self._environment(task), cache_key, arguments
        )

    def _finish(self, execution: _Execution) -> list[str]:
        """Takes the outputs of a process that ended, or starts it again; what went wrong for good."""
        task = execution.task
        del self._running[task.name]
        execution.clean()
        if execution.status == 0:
            outputs = tasks.outputs(task, execution.planned, execution.folder, self._root)
            self._done[task.name] = outputs
            self._cache.keep(execution.cache_key, outputs)
            self._say(task.name, "succeeded", execution.seconds, execution.folder)
            return []
        self._say(task.name, "failed", execution.seconds, execution.folder)
        if self._attempts[task.name] < task.attempts:
            self._start(task, execution.arguments)
            return []
        log = execution.folder / _LOG
        return [f"{task.name}: {_reason(log, execution.status)} (log: {log})"]

    def _environment(self, task: Task) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}:{_SYSTEM_PATH}",  # the spec's command is plain `python`
            "PYTHONPATH": str(self._project),
            "PYTHONUNBUFFERED": "1",
            **tasks.environment(task),
        }

    def _say(self, name: str, state: str, seconds: float, folder: Path | None) -> None:
        self._states[name] = {"state": state, "seconds": round(seconds, 1), "folder": folder and str(folder)}
        took = f" {seconds:7.1f} s" if state != "cached" else ""
        count = f"[{len(self._done):2}/{len(self._plan.tasks)}]"
        print(f"{count} {name:<24} {state:<9}{took}", file=self._out, flush=True)

    def _write(self, arguments: Mapping[str, Any]) -> None:
        tree = {"pipeline": self._plan.name, "arguments": dict(arguments), "tasks": self._states}
        (self.folder / "run.json").write_text(json.dumps(tree, indent=1), encoding="utf-8")


class _Execution:
    """An attempt of a task: its process and its folders."""

    def __init__(
        self,
        task: Task,
        planned: Any,
        folder: Path,
        command: list[str],
        environment: Mapping[str, str],
        cache_key: str,
        arguments: Mapping[str, Any],
    ):
        self.task, self.planned, self.folder = task, planned, folder
        self.cache_key, self.arguments = cache_key, arguments
        self._work = Path(tempfile.mkdtemp(prefix=f"{task.name}-"))
        (self._work / "tmp").mkdir()
        (folder / "parameters").mkdir(parents=True)
        (folder / "executor_input.json").write_text(json_format.MessageToJson(planned), encoding="utf-8")
        self._began = time.monotonic()
        with open(folder / _LOG, "wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._work,
                env={**environment, "HOME": str(self._work), "TMPDIR": str(self._work / "tmp")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which then ends the tasks
            )
        try:  # a run that is killed leaves no task behind
            self._guard = start_guard(self._process.pid, 0, [self._work])
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    @property
    def status(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        return self._process.wait()

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began

    def kill(self) -> None:
        """Ends the process and those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.clean()

    def clean(self) -> None:
        """Removes the working directory, once the process has ended."""
        self._guard.kill()
        self._guard.communicate()
        shutil.rmtree(self._work, ignore_errors=True)


def _reason(log: Path, status: int) -> str:
    """Why a task failed: the project's own message if there is one, else the last lines of its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    said = find_user_error(RuntimeError("\n".join(lines)))
    return said or "\n".join([f"exit status {status}", *lines[-_TAIL:]])
