"""Fixtures: an exported model, and servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving.process import Server

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two exported models, the second with every score 1 higher. Copy, do not change them."""
    from tests.serving import overlap_model  # TensorFlow: only for tests that need it

    folder = tmp_path_factory.mktemp("exports")
    for version in (1, 2):
        overlap_model.export(str(folder / str(version)), boost=version - 1)
    return {version: folder / str(version) for version in (1, 2)}


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """start(base_path, *flags) -> Server; all of them are stopped at the end."""
    servers: list[Server] = []

    def run(base_path: Path, *flags: str) -> Server:
        servers.append(Server(base_path, tmp_path_factory.mktemp("server"), *flags))
        return servers[-1]

    yield run
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def server(
    exports: dict[int, Path], start: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """A server with version 1 that no test changes."""
    base_path = tmp_path_factory.mktemp("models")
    shutil.copytree(exports[1], base_path / "1")
    return start(base_path).wait_serving(1)
