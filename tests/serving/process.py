"""The real server as a process, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A running `python -m serving.model_server`; output goes to files in `folder`."""

    def __init__(self, base_path: Path, folder: Path, *flags: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.base_path = base_path
        self.out, self.log, self.port_file = folder / "stdout.txt", folder / "stderr.txt", folder / "port.txt"
        self.rest_port_file = folder / "rest_port.txt"
        command = [
            *(sys.executable, "-m", "serving.model_server", "--model_name=shelfwise"),
            *(f"--model_base_path={base_path}", "--file_system_poll_wait_seconds=0.2"),
            *("--tensorflow_intra_op_parallelism=1", f"--port_file={self.port_file}"),
            f"--rest_api_port_file={self.rest_port_file}",
            *(flags if any(flag.startswith("--port=") for flag in flags) else ("--port=0", *flags)),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        with open(self.out, "wb") as out, open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=log, env=environment)

    @property
    def port(self) -> int:
        wait_until(self.port_file.exists, self)
        return int(self.port_file.read_text())

    @property
    def rest_port(self) -> int:
        wait_until(self.rest_port_file.exists, self)
        return int(self.rest_port_file.read_text())

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def wait_serving(self, version: int) -> Server:
        line = f"serving shelfwise version {version} on port {self.port}"
        wait_until(lambda: line in self.out.read_text().splitlines(), self)
        return self

    def wait_log(self, text: str) -> None:
        wait_until(lambda: text in self.log.read_text(), self)

    def terminate(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wait_until(condition: Callable[[], bool], server: Server, seconds: float = 60) -> None:
    """Waits for `condition`; a server that died or was too slow fails the test with its log."""
    end = time.monotonic() + seconds
    while not condition():
        if server.process.poll() is not None or time.monotonic() > end:
            raise AssertionError(
                f"server status {server.process.poll()}; its log:\n{server.log.read_text()[-5000:]}"
            )
        time.sleep(0.02)
