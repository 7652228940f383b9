import functools
import gc
import os
import re
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

gc.disable()  # until everything is imported: it would find nothing, and take a tenth of the time

import shelfwise_env  # noqa: E402, F401  (for checkouts that are not installed)
from tests.shops import cache  # noqa: E402, F401  (its version is of the code before any of it is imported)

_TESTS = Path(__file__).resolve().parent
# The tests of a group share what takes each process seconds: servers, the tiny shop's loaded servable.
_SERVABLE = re.compile(r"tiny_shop\.built\(\)|tiny_funnel\.make\(")
# Groups and files by how long they take, the longest first; what is not named comes last, as it lies.
# The second process that needs the servable comes to it when the first one has built it.
_LONGEST = (
    *("e2e/test_whole_pipeline.py", "serving", "servable of components", "serving/test_benchmark.py"),
    "text/test_training.py",
    *("servable of models", "components/test_data_pipeline.py", "components/test_movielens.py"),
    *("kubeflow/test_compile.py", "pipeline/test_local_runs.py", "common/test_fingerprint.py"),
    *("retrieval/test_two_tower.py", "components/test_text_encoder_trainer.py", "text/test_encoder.py"),
    *("ranking/test_ranker.py", "run/test_signals.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest groups begin first: with `--no-loadscope-reorder` no process ends on one of them alone."""
    items.sort(key=lambda item: _place(item.path))


def pytest_collection_finish() -> None:
    """What the imports made stays: the collector need not look through it again and again."""
    gc.enable()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """For `-n N --dist loadgroup`: a file's tests share a process, as do those of a group.

    pytest-xdist 3.8 marks groups in a way that pytest 9.2 does not see: each test would go anywhere.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        """By file or group of files."""

        def _split_scope(self, nodeid: str) -> str:
            return _group(config.rootpath / nodeid.partition("::")[0])

    return GroupScheduling(config, log)


@functools.cache
def _group(path: Path) -> str:
    parts = path.relative_to(_TESTS).parts
    if parts[0] == "serving" and path.name != "test_benchmark.py":
        return "serving"
    if _SERVABLE.search(path.read_text(encoding="utf-8")):
        return f"servable of {parts[0]}"
    return str(path)


@functools.cache
def _place(path: Path) -> int:
    group = _group(path)
    return next((place for place, name in enumerate(_LONGEST) if group.endswith(name)), len(_LONGEST))
