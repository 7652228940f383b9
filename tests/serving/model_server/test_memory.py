"""What is freed leaves the process: the system's own count of its pages is looked at."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from serving.model_server.core.servable import Servable
from serving.model_server.core.version_manager import VersionManager

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory so")

# A piece of 20 MB is freed; the next of that size lies in the heap, below one that stays, unless the
# threshold is fixed.
_LARGE = """
import psutil
from serving.model_server.core import memory
memory.give_back()
process = psutil.Process()
del (first := [bytearray(20_000_000)])[:]
before = process.memory_info().rss
second = bytearray(20_000_000)
stays = [bytearray(10_000) for _ in range(20)]
del second
print((process.memory_info().rss - before) // 1_000_000)
"""


@pytest.mark.parametrize(
    ("environment", "kept"),
    [({}, range(3)), ({"MALLOC_MMAP_THRESHOLD_": "33000000"}, range(18, 23))],
)
def test_a_large_piece_leaves_at_once_unless_the_user_wants_it_otherwise(
    environment: Mapping[str, str], kept: range
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LARGE],
        **{"cwd": ROOT, "env": {"PATH": "/usr/bin:/bin"} | environment, "check": True},
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) in kept


def test_an_unloaded_version_s_small_pieces_leave_too(tmp_path: Path) -> None:
    """Between those of what goes on living lie free pages, of which glibc would give none back."""
    stays: list[bytearray] = []

    def loader(path: str, version: int) -> Servable:
        tables: dict[int, bytearray] = {}
        for number in range(1000 if version == 1 else 0):  # 100 MB
            tables[number] = bytearray(100_000)
            stays.append(bytearray(2_000))
        return Servable(version, path, {}, tables, None)

    manager = VersionManager("shelfwise", str(tmp_path), loader, poll_seconds=0)
    process, taken = psutil.Process(), []
    for version in (1, 2):
        (tmp_path / str(version)).mkdir()
        (tmp_path / str(version) / "saved_model.pb").write_bytes(b"graph")
        manager.poll()
        taken.append(process.memory_info().rss)
    assert manager.available() == [2]
    assert taken[0] - taken[1] > 60e6
