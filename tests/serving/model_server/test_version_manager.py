"""What `VersionManager` does in its thread; its looks at the folder are in test_server_units.py."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tensorflow_serving.apis import model_pb2

from serving.model_server.core.servable import Servable
from serving.model_server.core.version_manager import VersionManager
from serving.model_server.core.versions import State


def servable(path: str, version: int) -> Servable:
    """A version without signatures: nothing here runs one."""
    return Servable(version, path, {}, {}, None)


def add(base: Path, version: int) -> None:
    (base / str(version)).mkdir()
    (base / str(version) / "saved_model.pb").write_bytes(b"graph")


def eventually(found: Callable[[], bool]) -> bool:
    """Whether it comes about; a thread that works gets there as soon as the machine lets it."""
    end = time.monotonic() + 60
    while not found() and time.monotonic() < end:
        time.sleep(0.01)
    return found()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[float], VersionManager]]:
    managers: list[VersionManager] = []

    def begin(poll_seconds: float) -> VersionManager:
        managers.append(VersionManager("shelfwise", str(tmp_path), servable, poll_seconds))
        managers[-1].start()
        return managers[-1]

    yield begin
    for manager in managers:
        manager.stop()
        manager._thread.join()


def test_it_looks_again_and_again(tmp_path: Path, start: Callable[[float], VersionManager]) -> None:
    manager = start(0.01)
    for version in (1, 2, 3):
        add(tmp_path, version)
        assert eventually(lambda version=version: manager.available() == [version])


def test_without_a_pause_it_looks_once_and_when_asked(
    tmp_path: Path, start: Callable[[float], VersionManager]
) -> None:
    add(tmp_path, 1)
    manager = start(0)
    assert eventually(lambda: manager.available() == [1])
    assert eventually(lambda: manager._looks == manager._looked == 1)
    add(tmp_path, 2)
    time.sleep(0.3)  # longer than the pauses in which it frees what requests no longer use
    assert (manager._looks, manager.available()) == (1, [1])
    before = manager.look_again()
    assert eventually(lambda: manager.looked(since=before))
    assert manager.available() == [2]


@pytest.mark.parametrize("poll_seconds", [0, 0.01])
def test_a_retired_model_goes_with_its_last_request_and_so_does_its_thread(
    tmp_path: Path, start: Callable[[float], VersionManager], poll_seconds: float
) -> None:
    add(tmp_path, 1)
    manager = start(poll_seconds)
    assert eventually(lambda: manager.available() == [1])
    spec = model_pb2.ModelSpec(name="shelfwise")
    with manager.lease(spec):
        manager.retire()
        assert manager.available() == []
        assert manager.statuses(spec)[0].state == State.UNLOADING
        assert manager._thread.is_alive()
    manager._thread.join(60)
    assert not manager._thread.is_alive()
    assert manager.statuses(spec)[0].state == State.END


def test_the_memory_of_a_version_is_free_as_soon_as_nobody_uses_it(tmp_path: Path) -> None:
    """A loaded model refers to itself in many places; the collector may not come by for minutes."""
    loaded: dict[int, weakref.ref[dict]] = {}

    class Tables(dict):
        pass

    def loader(path: str, version: int) -> Servable:
        tables = Tables()
        tables["self"] = tables
        loaded[version] = weakref.ref(tables)
        return Servable(version, path, {}, tables, None)

    manager = VersionManager("shelfwise", str(tmp_path), loader, poll_seconds=0)
    enabled = gc.isenabled()
    gc.disable()
    try:
        for version in (1, 2):
            add(tmp_path, version)
            manager.poll()
        assert manager.available() == [2]
        assert loaded[1]() is None
        assert loaded[2]() is not None
    finally:
        if enabled:
            gc.enable()
