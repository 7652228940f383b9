"""Every input of the corpus goes through its decoder without a fault; `make fuzz` begins with them."""

import pytest

from tests.fuzz import decoders


@pytest.fixture(scope="module")
def ready():
    return {"grpc": decoders._grpc(), "rest": decoders._rest(), "http": decoders._http()}


@pytest.mark.parametrize("target", decoders.TARGETS)
def test_nothing_is_found_in_the_corpus(ready, target):
    files = sorted((decoders.CORPUS / target).iterdir())
    assert len(files) >= 8
    for file in files:
        ready[target](file.read_bytes())
    ready[target](b"")


def test_a_server_s_own_fault_is_found(ready, monkeypatch):
    from serving.model_server.http_api import json_values

    def broken(body):
        raise KeyError(body)

    monkeypatch.setattr(json_values, "parse", broken)
    with pytest.raises(AssertionError, match="500: .*internal error: KeyError"):
        ready["rest"](b"\0{}")
