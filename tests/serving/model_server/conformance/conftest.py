"""The server that the conformance suite asks."""

from __future__ import annotations

import dataclasses
import os

import grpc
import pytest

from tests.serving.process import Server
from tests.serving.stubs import Stubs


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("serving")
    group.addoption("--serving-address", help="host:port (gRPC) of the server to test; default: start ours")
    group.addoption("--serving-rest-address", help="host:port (REST) of the same server")


@dataclasses.dataclass
class Target:
    """The server that is tested; `server` is its process when it is ours."""

    stubs: Stubs
    rest: str | None
    server: Server | None

    @property
    def url(self) -> str:
        if self.rest is None:
            pytest.skip("no REST address was given")
        return f"http://{self.rest}/v1/models/shelfwise"


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    def option(name: str) -> str | None:
        given = request.config.getoption(f"--{name}", default=None)
        return given or os.environ.get(name.upper().replace("-", "_"))

    address = option("serving-address")
    if address:
        return Target(Stubs(channel=grpc.insecure_channel(address)), option("serving-rest-address"), None)
    server = request.getfixturevalue("rest")
    return Target(Stubs(server.port), f"localhost:{server.rest_port}", server)
