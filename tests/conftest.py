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

_LONGEST = ("e2e", "pipeline")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `-n N --dist loadgroup`: a file's tests share a process, as do those of the tiny shop and those
    that ask a server: its start takes longer than they do.

    The longest files begin first: with `--no-loadscope-reorder` no process ends on one of them alone.
    """
    items.sort(key=lambda item: not any(name in item.path.parts for name in _LONGEST))
    for item in items:
        asks = "serving" in item.path.parts and not item.get_closest_marker("slow")
        item.add_marker(pytest.mark.xdist_group("serving" if asks else _group(item.path)))


@functools.cache
def _group(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return "tiny shop" if any(call in text for call in _BUILDS) else str(path)
