"""What is kept for later processes: built once, whole or not at all, and never of other code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shops import cache

_PROCESS = """
import json, os, sys, time
from pathlib import Path
from tests.shops import cache
cache.FOLDER = Path(sys.argv[1])
cache.VERSION = sys.argv[2]
cache.version = lambda: sys.argv[3]

@cache.kept
def number(folder):
    (folder / "built").write_text("half")
    print("builds", flush=True)
    if sys.argv[4] == "waits":
        time.sleep(60)
    (folder / "built").write_text("whole")
    return {"pid": os.getpid()}

folder, made = number()
assert number() is number()
print(json.dumps([str(folder), (folder / "built").read_text(), made["pid"] == os.getpid()]))
"""


def start(folder, version="v1", at_the_end=None, pace="hurries"):
    return subprocess.Popen(
        [sys.executable, "-c", _PROCESS, str(folder), version, at_the_end or version, pace],
        cwd=cache.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def result(process):
    """(folder, what it holds, whether this process built it)."""
    out, _ = process.communicate(timeout=1800)
    assert process.returncode == 0
    folder, content, mine = json.loads(out.splitlines()[-1])
    assert ("builds" in out.splitlines()) == mine
    return Path(folder), content, mine


def test_one_of_several_processes_builds_and_later_ones_find_it(tmp_path):
    found = [result(process) for process in [start(tmp_path) for _ in range(3)]]
    assert sorted(mine for _, _, mine in found) == [False, False, True]
    assert {found[:2] for found in found} == {(tmp_path / "v1" / "number", "whole")}
    assert result(start(tmp_path)) == (tmp_path / "v1" / "number", "whole", False)


def test_what_a_killed_process_left_is_built_anew(tmp_path):
    process = start(tmp_path, pace="waits")
    assert process.stdout.readline() == "builds\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "v1" / "number").exists()
    assert result(start(tmp_path)) == (tmp_path / "v1" / "number", "whole", True)


def test_other_code_finds_nothing_and_old_versions_go(tmp_path):
    for place, version in enumerate(["v1", "v2", "v3"]):
        assert result(start(tmp_path, version))[2]
        os.utime(tmp_path / version, (place, place))
    process = start(tmp_path, "v4", pace="waits")  # it uses the folder that is now the oldest but one
    assert process.stdout.readline() == "builds\n"
    os.utime(tmp_path / "v4", (1.5, 1.5))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["v2", "v3", "v4"]
    assert result(start(tmp_path, "v5"))[2]
    assert result(start(tmp_path, "v6"))[2]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["v3", "v4", "v5", "v6"]
    process.kill()
    process.communicate()
    assert not result(start(tmp_path, "v3"))[2]


def test_what_is_built_while_the_code_changes_is_of_one_process_only(tmp_path):
    folder, content, _ = result(start(tmp_path, at_the_end="v2"))
    assert (folder.parent, content) == (tmp_path / "v1", "whole")
    assert folder.name != "number"
    assert result(start(tmp_path)) == (tmp_path / "v1" / "number", "whole", True)


@pytest.mark.parametrize("changed", ["models/data/a.py", "components/new.py", "tests/shops/tiny_shop.py"])
def test_the_version_follows_the_code(tmp_path, monkeypatch, changed):
    for name in (*cache.SOURCES, "docs", "models/data"):
        if not name.endswith(".py"):
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
    for name in ("models/data/a.py", "tests/shops/tiny_shop.py", "shelfwise_env.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    first = cache.version()
    (tmp_path / "docs" / "page.md").write_text("more")
    assert cache.version() == first
    (tmp_path / changed).write_text("x = 2\n")
    assert cache.version() != first


def test_the_version_follows_the_packages(tmp_path, monkeypatch):
    first = cache.version()
    (tmp_path / "tensorflow-9.9.dist-info").mkdir()
    monkeypatch.setattr(cache.sysconfig, "get_path", lambda name: str(tmp_path))
    assert cache.version() != first
