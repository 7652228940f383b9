"""Starts a model server in a process of its own, waits until it serves, and stops it.

The one way to start a server for the demo, InfraValidator, benchmarks and tests. It knows two programs:
`python -m serving.model_server` and TensorFlow Serving's binary, which takes the same flags.

Example::

    with ModelServer("runs/shop/serving/shelfwise", "server.log") as server:
        version = server.wait_serving()
        print(version, server.address)
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[3]
OURS = (sys.executable, "-m", "serving.model_server")
START_SECONDS = 900.0  # a machine that others use too loads slowly
STOP_SECONDS = 20.0  # between SIGTERM and SIGKILL
_GUARD = Path(__file__).with_name("guard.py")
_LOOK_SECONDS = 0.05  # between two looks at what a server does
_ASK_SECONDS = 5.0
_LAST_LINES = 3
AVAILABLE, END = 30, 50  # of GetModelStatus


class NotServing(Exception):
    """The server ended, gave the model up or was too slow; the message is one line.

    Attributes:
      exit_status: of the server; None while it runs.
    """

    def __init__(self, message: str, exit_status: int | None = None) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class ModelServer:
    """A running model server; a context manager that stops it.

    It is in a session of its own: a Ctrl-C at the terminal reaches it only through `stop`. When this
    process is killed, or forgets it, it ends too (`guard`).

    Args:
      base_path: folder of numbered version folders.
      log_path: file for what it logs and prints; replaced.
      flags: more flags; `--port=N` asks for that port, else a free one is taken.
      program: the server's command line without flags.
      model_name: the name that requests use.
      out_path: file for what it prints, if not `log_path`.
      scratch: folders of the caller's that are removed if the caller's process is killed.

    Raises:
      OSError: the program cannot be started.
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        log_path: str | os.PathLike[str],
        *flags: str,
        program: Sequence[str] = OURS,
        model_name: str = "shelfwise",
        out_path: str | os.PathLike[str] | None = None,
        scratch: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        self.base_path = Path(base_path)
        self.log = Path(log_path)
        self.out = Path(out_path or log_path)
        self._model_name = model_name
        self._folder = tempfile.TemporaryDirectory(prefix="model-server-")  # of the port files
        self._port_file = Path(self._folder.name, "port")
        self._rest_port_file = Path(self._folder.name, "rest_port")
        self._port: int | None = None
        port = next((flag for flag in flags if flag.startswith("--port=")), None)
        own = [flag for flag in flags if flag != port]
        if tuple(program) == OURS:
            port = port or "--port=0"
            own = ["--host=localhost", *own]  # nobody else's business, unless a flag says so
            own += [f"--port_file={self._port_file}", f"--rest_api_port_file={self._rest_port_file}"]
        else:
            # TensorFlow Serving does not choose a port (its port 0 is off) and writes no file.
            self._port = int(port.partition("=")[2]) if port else _free_port()
            port = f"--port={self._port}"
        self.command = [
            *program,
            port,
            f"--model_name={model_name}",
            f"--model_base_path={base_path}",
            *own,
        ]
        # It is found from wherever the caller was started.
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        together = self.out == self.log
        with (
            open(self.log, "wb") as log,
            contextlib.nullcontext(log) if together else open(self.out, "wb") as out,
        ):
            try:
                self.process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
            except OSError:
                self._folder.cleanup()
                raise
        try:
            self._guard = start_guard(self.process.pid, STOP_SECONDS, [self._folder.name, *scratch])
        except OSError:
            self.process.kill()
            self.process.wait()
            self._folder.cleanup()
            raise

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The gRPC port; waits until the server listens.

        Raises:
          NotServing: it ended or was too slow.
        """
        if self._port is None:
            self.wait(self._port_file.exists)
            self._port = int(self._port_file.read_text())
        return self._port

    @property
    def rest_port(self) -> int:
        """The REST port, with `--rest_api_port=-1`; as `port`."""
        self.wait(self._rest_port_file.exists)
        return int(self._rest_port_file.read_text())

    @property
    def address(self) -> str:
        """host:port of the gRPC port; as `port`."""
        return f"localhost:{self.port}"

    def states(self) -> dict[int, tuple[int, str]]:
        """(state as GetModelStatus numbers it, error message) by version; {} while it answers nobody."""
        if self._port is None and not self._port_file.exists():  # its first models are being loaded
            return {}
        # The messages come with TensorFlow, whose start-up lines are not for whoever waits.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import grpc
        from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model_name
        # A channel each time: one that could not connect waits before it tries again.
        with grpc.insecure_channel(self.address) as channel:
            try:
                answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
                    request, timeout=_ASK_SECONDS
                )
            except grpc.RpcError:  # not listening, or has not looked at the folder yet
                return {}
        return {
            entry.version: (int(entry.state), entry.status.error_message)
            for entry in answer.model_version_status
        }

    def wait(self, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Waits for `condition`.

        Raises:
          NotServing: the server ended, or `seconds` went by; with the log's last lines.
        """
        end = time.monotonic() + seconds
        while not condition():
            status = self.process.poll()
            if status is not None:
                raise NotServing(self._with_last_lines(f"it ended with status {status}"), status)
            if time.monotonic() > end:
                raise NotServing(self._with_last_lines(f"not available after {seconds:g} s"))
            time.sleep(_LOOK_SECONDS)

    def wait_serving(self, version: int | None = None, seconds: float = START_SECONDS) -> int:
        """Waits until a version serves.

        Args:
          version: this one; None takes any.
          seconds: how long.

        Returns:
          The version that serves, the newest of several.

        Raises:
          NotServing: the server ended, gave up every version that is waited for, or was too slow.
        """
        found: list[int] = []

        def serving() -> bool:
            states = self.states()
            if version is not None:
                states = {version: states[version]} if version in states else {}
            found.extend(number for number, (state, _) in states.items() if state == AVAILABLE)
            if states and all(state == END for state, _ in states.values()):
                raise NotServing(states[max(states)][1])
            return bool(found)

        self.wait(serving, seconds)
        return max(found)

    def stop(self, grace_seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and SIGKILL when it does not end in time; gives the exit status. May be repeated."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        status = self.process.wait()
        self._guard.kill()
        self._guard.communicate()
        self._folder.cleanup()
        return status

    def _with_last_lines(self, reason: str) -> str:
        if not self.log.is_file():  # a device, when a test wants a full disk
            return reason
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"{reason}: {' | '.join(lines[-_LAST_LINES:]) or 'it said nothing'}"


def start_guard(
    pid: int, grace_seconds: float, scratch: Sequence[str | os.PathLike[str]]
) -> subprocess.Popen[bytes]:
    """Starts the program that ends a process group when this process has ended, however that came about.

    It does so too when what is returned is forgotten. `kill` it, and wait for it, when the group has ended.

    Args:
      pid: leader of the group.
      grace_seconds: between SIGTERM and SIGKILL.
      scratch: folders that are removed with it.

    Raises:
      OSError: there is no process to be had.
    """
    command = [sys.executable, "-I", "-S", str(_GUARD), str(pid), str(grace_seconds)]
    return subprocess.Popen(
        [*command, *(os.path.abspath(folder) for folder in scratch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
