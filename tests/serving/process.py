"""The real server as a process, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from serving.model_server.process.child import ROOT, ModelServer, NotServing

__all__ = ["ROOT", "Server", "wait_until"]


class Server(ModelServer):
    """A running `python -m serving.model_server`; output goes to files in `folder`."""

    def __init__(self, base_path: Path, folder: Path, *flags: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["PYTHONFAULTHANDLER"] = "1"  # for the server
        super().__init__(
            base_path,
            folder / "stderr.txt",
            "--file_system_poll_wait_seconds=0.2",
            "--tensorflow_intra_op_parallelism=1",
            "--enable_reload_config",
            *flags,
            out_path=folder / "stdout.txt",
        )

    def wait(self, condition: Callable[[], bool], seconds: float = 900) -> None:
        """A server that died or was too slow fails the test with its log."""
        try:
            super().wait(condition, seconds)
        except NotServing as error:
            raise AssertionError(f"{error}; its log:\n{self.log.read_text()[-5000:]}") from error

    def wait_serving(self, version: int) -> Server:
        """Waits for the line that says so: a version that does not load yet may do so later."""
        line = f"serving shelfwise version {version} on port {self.port}"
        self.wait(lambda: line in self.out.read_text().splitlines())
        return self

    def wait_log(self, text: str) -> None:
        self.wait(lambda: text in self.log.read_text())

    def terminate(self) -> int:
        """SIGTERM, and the exit status; a server that does not end fails the test with its threads."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=300)
        except subprocess.TimeoutExpired as error:
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes each thread's stack to the log
            self.process.wait(timeout=60)
            raise AssertionError(f"{error}; its log:\n{self.log.read_text()[-20000:]}") from error

    def close(self) -> None:
        self.stop(grace_seconds=0)


def wait_until(condition: Callable[[], bool], server: Server, seconds: float = 900) -> None:
    """`server.wait`, as a function."""
    server.wait(condition, seconds)
