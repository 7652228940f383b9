"""Fixtures: an exported model, and servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving.model_server.conformance.export import write_config
from tests.serving.postgres import Cluster, binaries
from tests.serving.process import Server

MAX_BYTES = 300_000  # longest request that the server with everything reads

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two exported models, the second with every score 1 higher. Copy, do not change them."""
    from tests.serving import overlap_model  # TensorFlow: only for tests that need it

    folder = tmp_path_factory.mktemp("exports")
    model = overlap_model.export(str(folder / "1"), boost=0)
    overlap_model.export(str(folder / "2"), boost=1, model=model)
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


@pytest.fixture(scope="session")
def rest(
    start: Callable[..., Server], exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """A server with versions 1 and 2, labels, REST, metrics and limits, that no test changes."""
    folder = tmp_path_factory.mktemp("rest")
    (folder / "model").mkdir()
    for version in (1, 2):
        (folder / "model" / str(version)).symlink_to(exports[version])
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    write_config(folder / "models.config", folder / "model")
    server = start(
        folder,
        "--rest_api_port=-1",
        f"--model_config_file={folder}/models.config",
        "--allow_version_labels_for_unavailable_models",
        f"--monitoring_config_file={folder}/monitoring.config",
        f"--max_request_bytes={MAX_BYTES}",
        "--max_concurrent_requests_per_model=3",
        "--rest_api_timeout_in_ms=5000",
        "--rest_api_enable_cors_support",
        "--log_format=json",
        "--grpc_max_threads=8",
    )
    return server.wait_serving(1).wait_serving(2)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server for tests that do not kill it."""
    folder = binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    cluster = Cluster(folder)
    yield cluster
    cluster.stop()
