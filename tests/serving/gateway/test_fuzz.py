"""About a thousand requests made from the OpenAPI schema, right and wrong ones: never a 500."""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.generation import GenerationMode
from starlette.testclient import TestClient

from tests.serving.gateway.conftest import app_of

_LONGEST = 5000  # characters of a query: the client sends no URL above 64 KiB, and one may become twelve
REQUESTS = 1000  # of all operations together, half of them wrong


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """An app whose model is away: what is fuzzed is the gateway, and each list comes from the catalogue."""
    app = app_of(tmp_path_factory.mktemp("fuzz"), "localhost:1", limits={"per_minute": 10**9})
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    app.state.services.store.close()


@pytest.mark.slow
def test_requests_made_from_the_schema_are_answered_or_refused(client):
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    statuses: dict[str, dict[int, int]] = {}

    def ask(case):
        given = case.as_transport_kwargs(base_url="http://testserver")
        if "data" in given:
            given["content"] = given.pop("data")
        if len(str(given.get("params", ""))) > _LONGEST:
            hypothesis.reject()
        answer = client.request(**given)
        counts = statuses.setdefault(f"{case.method} {case.operation.path}", {})
        counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        assert "x-request-id" in answer.headers

    operations = [found.ok() for found in schema.get_all_operations()]
    examples = REQUESTS // (2 * len(operations))
    for operation in operations:
        takes = [*operation.path_parameters, *operation.query, *operation.body]
        modes = [GenerationMode.POSITIVE] + ([GenerationMode.NEGATIVE] if takes else [])
        for mode in modes:
            fuzz = hypothesis.given(operation.as_strategy(generation_mode=mode))(ask)
            fuzz = hypothesis.settings(
                max_examples=examples if takes else 2,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(fuzz)
            hypothesis.seed(15)(fuzz)()
    assert len(statuses) == len(operations) >= 18
    assert sum(sum(counts.values()) for counts in statuses.values()) > REQUESTS / 2
    # what is asked rightly is answered, and wrong requests are among them
    for name in ("POST /v1/events", "GET /v1/recommend", "POST /v1/search"):
        assert statuses[name].get(200, 0) > 5, statuses[name]
        assert statuses[name].get(422, 0) > 5, statuses[name]
