"""Progress lines, the redirection of output, and the memory sampler."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.formats import format_seconds
from pipeline.run import progress

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.04, "0.0 s"), (12.34, "12.3 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s")]
    + [(185, "3 min 05 s"), (3599.6, "1 h 00 min"), (3720, "1 h 02 min")],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


def test_format_line_aligns_columns():
    short = progress.format_line(3, 24, "Pusher", 10, 1.0, "", "pushed")
    long = progress.format_line(12, 24, "Validators", 10, 185.0, "cached", "no anomalies")
    assert short == " 3/24  Pusher             1.0 s          pushed"
    assert long == "12/24  Validators    3 min 05 s  cached  no anomalies"
    assert short.index("pushed") == long.index("no anomalies")
    assert progress.format_line(1, 9, "A", 1, 0.1, "failed", "").endswith("failed")


def test_plain_progress_writes_one_line_a_component():
    out = io.StringIO()
    shown = progress.Progress(out, ["First", "Second"])
    with shown.running(1):
        pass
    shown.finished(1, 0.5, "", "a finding " * 30)
    with shown.running(2):
        pass
    shown.finished(2, 0.0, "cached", "[bold]not markup[/bold]")
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("1/2  First")
    assert lines[0].endswith("a finding")
    assert "\x1b" not in out.getvalue()
    assert lines[1].endswith("cached  [bold]not markup[/bold]")


def _say_everything():
    print("from print")
    sys.stderr.write("from sys.stderr\n")
    os.write(1, b"from descriptor 1\n")
    os.write(2, b"from descriptor 2\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    logging.getLogger("some.library").info("from a logger")


EVERYTHING = ("print", "sys.stderr", "descriptor 1", "descriptor 2", "a child", "a logger")


def test_output_goes_to_the_log_and_comes_back(tmp_path, capfd):
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.stdout, sys.stderr)
    print("before")
    with progress.OutputToLog(tmp_path / "run.log") as output:
        _say_everything()
        print("for the person", file=output.terminal)
        print("error: for the person", file=output.terminal_error)
    print("after")
    os.write(2, b"after on stderr\n")
    out, err = capfd.readouterr()
    assert out.splitlines() == ["before", "for the person", "after"]
    assert err.splitlines() == ["error: for the person", "after on stderr"]
    log = (tmp_path / "run.log").read_text()
    for source in EVERYTHING:
        assert f"from {source}\n" in log, source
    assert "for the person" not in log
    assert (root.handlers[:], root.level, sys.stdout, sys.stderr) == before


# In a process of its own, as what follows: descriptors and memory of this one are also other tests'.
_THREE_TIMES = """
import os, sys
from pathlib import Path
from pipeline.run import progress

def interrupted():
    with progress.OutputToLog(Path(sys.argv[1])):
        print("inside")
        raise KeyboardInterrupt

descriptors = os.listdir("/proc/self/fd")
for _ in range(3):
    try:
        interrupted()
    except KeyboardInterrupt:
        print("interrupted")
assert os.listdir("/proc/self/fd") == descriptors
"""


def test_output_comes_back_after_an_exception_and_log_is_appended(tmp_path):
    (tmp_path / "run.log").write_text("earlier run\n")
    command = [sys.executable, "-c", _THREE_TIMES, tmp_path / "run.log"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "interrupted\n" * 3
    assert (tmp_path / "run.log").read_text() == "earlier run\n" + "inside\n" * 3


_MEASURED = """
import subprocess, sys, time
import psutil
from pipeline.run import progress

with progress.MemorySampler(interval=0.02) as memory:
    alone = memory.stage_peak()
    code = "import time; block = b'x' * 120_000_000; print(len(block), flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        end = time.monotonic() + 60
        while memory.peak_bytes - alone < 110_000_000 and time.monotonic() < end:
            time.sleep(0.01)  # its thread takes the sample
        child.kill()
    with_child = memory.stage_peak()
assert with_child - alone > 110_000_000
assert memory.peak_bytes >= with_child
assert psutil.Process().memory_info().rss * 0.5 < alone
"""


def test_memory_sampler_sees_its_process_and_the_children():
    subprocess.run([sys.executable, "-c", _MEASURED], cwd=ROOT, check=True)


def test_importing_the_progress_code_needs_no_tensorflow():
    code = (
        "import sys, pipeline.run.progress, pipeline.local_runner\n"
        "import pipeline.report.page, pipeline.report.summary\n"
        "assert not {'tfx', 'tensorflow', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
