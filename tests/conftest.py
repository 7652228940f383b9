import functools
import os
import sys
from pathlib import Path

import pytest

# Before any test imports TensorFlow, and for every process that a test starts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores among them
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import shelfwise_env  # noqa: E402, F401  (for checkouts that are not installed)

# What builds the tiny shop up to its towers or further: 40 s that one process spends once.
_BUILDS = ("tiny_shop.towers()", "tiny_shop.factory()", "tiny_shop.built()")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `-n N --dist loadgroup`: a file's tests share a process, and so do those of the tiny shop."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path)))


@functools.cache
def _group(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return "tiny shop" if any(call in text for call in _BUILDS) else str(path)
