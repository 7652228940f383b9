"""Folders that take seconds to build, kept for every process and later session that runs the same code.

They lie in ``.pytest_cache/tiny_shop/<version>``, where `VERSION` stands for the source text that
builds them and for the packages it runs on: with another version nothing is found, and the folder
is built anew. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".pytest_cache" / "tiny_shop"
# First-party code that a shop can be built from.
SOURCES = ("schema", "models", "components", "tests/shops", "shelfwise_env.py")
_KEPT = 3  # versions; the others are removed


def version() -> str:
    """16 hexadecimal digits that change with the code and with the packages."""
    digest = hashlib.sha256()
    for source in SOURCES:
        path = ROOT / source
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(f"{file.relative_to(ROOT).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    installed = Path(sysconfig.get_path("purelib")).glob("*.dist-info")  # named by package and version
    digest.update("\0".join(sorted(path.name for path in installed)).encode())
    return digest.hexdigest()[:16]


# Of the moment when the tests are collected, before any of the code is imported (see tests/conftest.py).
VERSION = version()


def kept(make: Callable[[Path], Any]) -> Callable[[], tuple[Path, Any]]:
    """A function that gives the folder that `make` fills, and what `make` returns.

    The folder is named as `make` is. One process builds it, under another name, while the others
    wait; one that is killed leaves nothing that is taken for whole. Nobody may write to it afterwards.

    Args:
      make: fills the folder it is given; returns what JSON can hold.
    """

    @functools.cache
    @functools.wraps(make)
    def find() -> tuple[Path, Any]:
        done = _of_version() / make.__name__
        with _locked(done.with_suffix(".lock")):
            if not done.exists():
                part = done.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                made = make(part)
                (part / "returned.json").write_text(json.dumps(made))
                if version() != VERSION:  # somebody edits as the tests run: for this process only
                    done = done.with_suffix(f".{os.getpid()}")
                part.rename(done)
        return done, json.loads((done / "returned.json").read_text())

    return find


@functools.cache
def _of_version() -> Path:
    """The folder of this version, which no other process removes as long as this one lives."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    _hold(VERSION)
    folder = FOLDER / VERSION
    folder.mkdir(exist_ok=True)
    os.utime(folder)
    _remove_old()
    return folder


_held: list[int] = []


def _hold(name: str) -> None:
    """A lock until the process ends. Its file lies outside of the folder, so that it outlives it."""
    _held.append(os.open(FOLDER / f"{name}.lock", os.O_CREAT | os.O_RDWR))
    fcntl.flock(_held[-1], fcntl.LOCK_SH)


def _remove_old() -> None:
    """Removes all but the newest versions, unless a process uses them."""
    folders = [path for path in FOLDER.iterdir() if path.is_dir()]
    for folder in sorted(folders, key=lambda path: -path.stat().st_mtime)[_KEPT:]:
        with open(FOLDER / f"{folder.name}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that ends with the process, however it ends."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
