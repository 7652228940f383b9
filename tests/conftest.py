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
from tests.shops import cache  # noqa: E402, F401  (its version is of the code before any of it is imported)

# What builds the tiny shop up to its towers or further: 30 s that one process spends once.
_BUILDS = ("tiny_shop.towers()", "tiny_shop.factory()", "tiny_shop.built()")
_LONGEST = ("e2e", "pipeline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first: with `--no-loadscope-reorder` no process ends on one of them alone."""
    items.sort(key=lambda item: not any(name in item.path.parts for name in _LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """For `-n N --dist loadgroup`: a file's tests share a process, as do those of the tiny shop and those
    that ask a server, whose start takes longer than they do.

    pytest-xdist 3.8 marks groups in a way that pytest 9.2 does not see: each test would go anywhere.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        """By file, and the files that share what is dear."""

        def _split_scope(self, nodeid: str) -> str:
            return _group(config.rootpath / nodeid.partition("::")[0])

    return GroupScheduling(config, log)


@functools.cache
def _group(path: Path) -> str:
    if "serving" in path.parts and path.name != "test_benchmark.py":
        return "serving"
    text = path.read_text(encoding="utf-8")
    return "tiny shop" if any(call in text for call in _BUILDS) else str(path)
