"""Starting, waiting for and stopping a server's process; the server itself is tested elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from serving.model_server.process.child import OURS, ROOT, ModelServer, NotServing


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    with (
        ModelServer(tmp_path, tmp_path / "log", program=program("raise SystemExit('no port')")) as server,
        pytest.raises(NotServing, match="^it ended with status 1: no port$") as raised,
    ):
        server.wait(lambda: False)
    assert raised.value.exit_status == 1


def test_a_server_that_takes_too_long(tmp_path: Path) -> None:
    busy = program("import time; print('loading', flush=True); time.sleep(600)")
    with ModelServer(tmp_path, tmp_path / "log", program=busy) as server:
        server.wait(lambda: "loading" in server.log.read_text())
        with pytest.raises(NotServing, match="^not available after 0.1 s: loading$") as raised:
            server.wait(lambda: False, seconds=0.1)
    assert raised.value.exit_status is None
    assert server.process.returncode == -15  # SIGTERM was enough


def test_a_server_that_does_not_end_is_killed(tmp_path: Path) -> None:
    deaf = program(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); "
        "time.sleep(600)"
    )
    server = ModelServer(tmp_path, tmp_path / "log", program=deaf, out_path=tmp_path / "out")
    server.wait(lambda: server.out.read_text() == "1\n")
    assert server.stop(grace_seconds=0.2) == -9
    assert server.stop() == -9
    assert server.log.read_text() == ""


_STARTER = """
import sys, time
from serving.model_server.process.child import ModelServer
server = ModelServer(
    sys.argv[1], sys.argv[1] + "/log", program=(sys.executable, "-c", sys.argv[2]), scratch=["scratch"]
)
server.wait(lambda: "ready" in server.log.read_text())
print(server.process.pid, server._folder.name, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("deaf", [False, True])
def test_a_server_ends_with_a_starter_that_is_killed(deaf: bool, tmp_path: Path) -> None:
    text = "import signal, time\n"
    starter = _STARTER
    if deaf:
        text += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        starter = "from serving.model_server.process import child; child.STOP_SECONDS = 0.1\n" + starter
    text += "print('ready', flush=True); time.sleep(600)"
    (tmp_path / "scratch" / "1").mkdir(parents=True)
    command = [sys.executable, "-c", starter, str(tmp_path), text]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        pid, folder = process.stdout.readline().split()
        server = psutil.Process(int(pid))
        assert server.is_running()
        assert Path(folder).is_dir()
        process.kill()
    end = time.monotonic() + 60
    left = [Path(folder), tmp_path / "scratch"]
    while (any(one.exists() for one in left) or _runs(server)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _runs(server)
    assert not any(one.exists() for one in left)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_guard_ends_with_the_server(tmp_path: Path) -> None:
    with ModelServer(tmp_path, tmp_path / "log", program=program("import time; time.sleep(600)")) as server:
        both = [psutil.Process(started.pid) for started in (server.process, server._guard)]
        while not (command := both[1].cmdline()):  # between fork and exec it has none
            time.sleep(0.01)
        assert str(server.process.pid) in command
        assert all(_runs(process) for process in both)
    assert not any(process.is_running() for process in both)  # nor is one left as a zombie


def test_the_flags_of_each_program(tmp_path: Path) -> None:
    """TensorFlow Serving gets a port that is free, and no flag that it does not know."""
    show = program("import sys; print(*sys.argv[1:])")
    with ModelServer(tmp_path, tmp_path / "log", "--more", program=show, model_name="m") as server:
        server.process.wait()
    assert server.log.read_text().split() == [
        *(f"--port={server.port}", "--model_name=m", f"--model_base_path={tmp_path}", "--more")
    ]
    assert server.address == f"localhost:{server.port}"
    with ModelServer(tmp_path, tmp_path / "log", "--port=7", "--nonsense") as ours:
        assert ours.command[: len(OURS)] == list(OURS)
        assert ours.command.count("--port=7") == 1
        assert ours.process.wait() == 2
        assert ours.states() == {}  # nobody listens before the models are loaded
    assert "unrecognized arguments: --nonsense" in ours.log.read_text()


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ModelServer(tmp_path, tmp_path / "log", program=(str(tmp_path / "none"),))


def test_import_is_light() -> None:
    code = (
        "import sys, serving.model_server.process.child\n"
        "heavy = {'tensorflow', 'tensorflow_serving', 'grpc', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
