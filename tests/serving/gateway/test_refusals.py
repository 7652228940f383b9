"""What is refused, and how: keys, limits, malformed and hostile requests. Never a 500."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pydantic
import pytest
import structlog

from schema.config import Gateway, explain
from serving.gateway import logs
from serving.gateway.keys import Bucket
from tests.serving import overlap_model

KEY, OTHER = "correct horse battery", "only reads"
INJECTIONS = [
    "' OR 1=1 --",
    "'); DROP TABLE events; --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "%00",
    "\u202e",
    "{{7*7}}",
    "a" * 200,
]


def run(body):
    return asyncio.run(body())


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


def keys(**more):
    return [
        {"name": "shop", "sha256": digest(KEY), "roles": ["shop", "events", "privacy", "operator"], **more},
        {"name": "reader", "sha256": digest(OTHER), "roles": ["shop"]},
    ]


def event(**more):
    return {"event_id": "event-0001", "user_id": "u1", "event_type": "view", "item_id": "100", **more}


def checked(answer, *statuses):
    """An error in the one shape of all errors."""
    assert answer.status_code in statuses, answer.text
    body = answer.json()
    assert body["error"]
    assert body["message"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def test_keys_open_what_they_are_for_and_nothing_else(gateway):
    async def body():
        async with gateway(api_keys=keys()) as (client, app):
            get = client.get
            for headers in (
                {},
                {"x-api-key": ""},
                {"x-api-key": KEY + "x"},
                {"authorization": f"Basic {KEY}"},
            ):
                checked(await get("/v1/recommend", headers=headers), 401)
            for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
                assert (await get("/v1/recommend", headers=headers)).status_code == 200
            reads = {"x-api-key": OTHER}
            assert (await get("/v1/items/100", headers=reads)).status_code == 200
            checked(await client.post("/v1/events", json=event(), headers=reads), 403)
            checked(await client.delete("/v1/users/u1", headers=reads), 403)
            checked(await get("/metrics", headers=reads), 403)
            assert (await get("/health/live")).status_code == 200
            erased = await client.delete("/v1/users/u1", headers={"x-api-key": KEY})
            assert erased.json()["events"] == 0
            assert [row["caller"] for row in app.state.services.store.audit("u1")] == ["shop"]

    run(body)


def test_a_key_has_its_own_limit(gateway):
    async def body():
        async with gateway(api_keys=keys(per_minute=3)) as (client, _):
            answers = [await client.get("/v1/items/100", headers={"x-api-key": KEY}) for _ in range(5)]
            assert [each.status_code for each in answers[:3]] == [200] * 3
            checked(answers[-1], 429)
            assert 1 <= int(answers[-1].headers["retry-after"]) <= 21
            assert (await client.get("/v1/items/100", headers={"x-api-key": OTHER})).status_code == 200

    run(body)


def test_a_bucket_refills_evenly():
    now = [0.0]
    bucket = Bucket(60, lambda: now[0])
    assert [bucket.take() for _ in range(60)] == [0.0] * 60
    assert bucket.take() == pytest.approx(1.0)
    now[0] = 0.5
    assert bucket.take() == pytest.approx(0.5)
    now[0] = 2.0
    assert [bucket.take() > 0 for _ in range(3)] == [False, False, True]


def test_hostile_texts_are_texts(gateway):
    async def body():
        async with gateway() as (client, app):
            for number, text in enumerate(INJECTIONS):
                given = event(event_id=f"event-{number:04d}", user_id=text, item_id=text, query=text)
                assert (await client.post("/v1/events", json=given)).json()["accepted"] == 1
                answer = await client.get("/v1/recommend", params={"user_id": text, "k": 2})
                assert answer.status_code == 200
                assert len(answer.json()["items"]) == 2
                assert answer.headers["content-type"] == "application/json"
                given = await client.get("/v1/users/" + text.replace("%", "%25").replace("/", "%2F"))
                if "/" not in text:
                    assert [row["item_id"] for row in given.json()["events"]] == [text]
                similar = await client.get("/v1/similar", params={"item_id": text, "k": 2})
                assert similar.status_code == 200
                checked(await client.get("/v1/items/unknown-" + str(number)), 404)
            assert app.state.services.store.append([]) == (0, 0)  # the tables are still there

    run(body)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"nothing", 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b"\xff\xfe", 400),
        (json.dumps(event(user_id="a\x00b")).encode(), 422),
        (b'{"event_id": "event-0001", "user_id": "\\ud800", "event_type": "view", "item_id": "1"}', 422),
        (json.dumps(event(value=float("nan"))).encode(), 422),
        (json.dumps(event(occurred_at=float("inf"))).encode(), 422),
        (json.dumps(event()).replace('"u1"', "1" * 5000).encode(), 400),
        (json.dumps(event(position=1)).replace(": 1}", ": " + "1" * 400 + "}").encode(), 422),
        (json.dumps(event(event_type="explode")).encode(), 422),
        (json.dumps(event(event_id="x")).encode(), 422),
        (json.dumps(event(unknown=1)).encode(), 422),
        (json.dumps(event(item_id="")).encode(), 422),
        (json.dumps(event(event_type="search")).encode(), 422),
        (json.dumps(event(occurred_at=1.0)).encode(), 422),
        (json.dumps([event(), {"event_id": "broken"}]).encode(), 422),
        (json.dumps("text").encode(), 422),
        (json.dumps([[event()]]).encode(), 422),
    ],
)
def test_malformed_events_are_refused_as_a_whole(gateway, content, status):
    async def body():
        async with gateway() as (client, app):
            answer = await client.post(
                "/v1/events", content=content, headers={"content-type": "application/json"}
            )
            said = checked(answer, status)
            assert "u1" not in json.dumps(said)  # no answer repeats what was sent
            assert app.state.services.store.recent("u1", 9, 2e9) == []

    run(body)


@pytest.mark.parametrize(
    "params",
    [
        {"k": "0"},
        {"k": "nan"},
        {"k": "9" * 400},
        {"diversity": "nan"},
        {"diversity": "inf"},
        {"diversity": "2"},
        {"drop_bought_days": "-1"},
        {"surface": "<b>"},
        {"user_id": "x" * 201},
        {"user_id": "a\x00"},
        {"no_such": "1"},
    ],
)
def test_wrong_parameters_name_their_field(gateway, params):
    async def body():
        async with gateway() as (client, _):
            said = checked(await client.get("/v1/recommend", params=params), 422)
            assert said["fields"][0]["where"] == f"query.{next(iter(params))}"

    run(body)


def test_what_the_model_does_not_take_is_the_callers_mistake(gateway):
    async def body():
        async with gateway() as (client, _):
            answer = await client.post("/v1/recommend", json={"context": {"moon": "full"}})
            assert "'moon' is unknown to the model" in checked(answer, 422)["message"]
            answer = await client.post("/v1/recommend", json={"context": {"store_id": "367"}, "k": 3})
            assert len(answer.json()["items"]) == 3

    run(body)


def test_long_bodies_and_batches_are_refused(gateway):
    async def chunks(count):
        for _ in range(count):
            yield b" " * 1000

    async def body():
        async with gateway(limits={"body_bytes": 5000, "batch_events": 3}) as (client, app):
            checked(await client.post("/v1/events", content=b" " * 5001), 413)
            checked(await client.post("/v1/events", content=chunks(6)), 413)  # does not say how long it is
            batch = [event(event_id=f"event-{number:04d}") for number in range(4)]
            checked(await client.post("/v1/events", json=batch), 413)
            assert (await client.post("/v1/events", json=batch[:3])).json()["accepted"] == 3
            assert len(app.state.services.store.recent("u1", 9, 4e9)) == 3

    run(body)


def test_too_many_at_once_are_told_so_and_health_still_answers(gateway):
    async def body():
        async with gateway(limits={"concurrent": 1}) as (client, app):
            entered, leave = asyncio.Event(), asyncio.Event()

            async def held(*_, **__):
                entered.set()
                await leave.wait()
                return []

            app.state.services.models.default.recommend = held
            app.state.services.models.default.served_version = 1
            first = asyncio.create_task(client.get("/v1/recommend"))
            await entered.wait()
            refused = await client.get("/v1/recommend")
            checked(refused, 503)
            assert refused.headers["retry-after"] == "1"
            assert (await client.get("/health/live")).status_code == 200
            leave.set()
            assert (await first).status_code == 200

    run(body)


def test_cors_is_for_the_shops_pages_only(gateway):
    async def body():
        async with gateway(cors_origins=["https://shop.example"]) as (client, _):
            for origin, allowed in (("https://shop.example", True), ("https://evil.example", False)):
                answer = await client.get("/v1/items/100", headers={"origin": origin})
                assert (answer.headers.get("access-control-allow-origin") == origin) == allowed
                preflight = await client.options(
                    "/v1/events", headers={"origin": origin, "access-control-request-method": "POST"}
                )
                assert (preflight.status_code == 200) == allowed

    run(body)


def test_no_line_of_the_log_says_who_or_what_for(gateway, capsys):
    async def body():
        logs.configure()
        async with gateway(model="localhost:1") as (client, _):
            await client.get("/v1/search", params={"user_id": "alice-77", "query": "secret-wish"})
            await client.get("/v1/users/alice-77")
            await client.post("/v1/events", json=event(user_id="alice-77", query="secret-wish"))
            await client.post("/v1/events", json=event(user_id="alice-77", value="secret-wish"))
            await client.get("/v1/items/alice-77", headers={"x-request-id": "mine-1"})
        structlog.get_logger().info("by mistake", user_id="alice-77", query="secret-wish")

    try:
        run(body)
    finally:
        structlog.reset_defaults()
    written = capsys.readouterr().err
    assert "alice-77" not in written
    assert "secret-wish" not in written
    lines = [json.loads(line) for line in written.splitlines()]
    told = [line for line in lines if line["event"] == "request"]
    assert [line["route"] for line in told] == [
        "/v1/search",
        "/v1/users/{user_id}",
        "/v1/events",
        "/v1/events",
        "/v1/items/{item_id}",
    ]
    assert [line["status"] for line in told] == [200, 200, 200, 422, 404]
    assert told[-1]["request_id"] == "mine-1"


def test_metrics_count_by_pattern_and_not_by_id(gateway):
    async def body():
        async with gateway() as (client, _):
            await client.get("/v1/items/100")
            await client.get("/v1/items/101")
            await client.post("/v1/events", json=event())
            await client.get("/no/such/page-77")
            text = (await client.get("/metrics")).text
            assert (
                'shelfwise_gateway_requests_total{method="GET",route="/v1/items/{item_id}",status="200"} 2.0'
                in text
            )
            assert 'shelfwise_gateway_events_total{outcome="accepted"} 1.0' in text
            assert "page-77" not in text

    run(body)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"default_k": 9, "max_k": 8}, "default_k 9 is above max_k 8"),
        ({"store": "mysql://x"}, "store: is neither"),
        ({"api_keys": [*keys(), keys()[0]]}, "two have the same name"),
        ({"api_keys": [{"name": "a", "sha256": KEY}]}, "api_keys.0.sha256"),
    ],
)
def test_wrong_settings_are_refused(settings, said):
    with pytest.raises(pydantic.ValidationError) as caught:
        Gateway.model_validate(settings)
    assert said in explain(caught.value)


def test_the_cards_of_a_list_are_the_catalogues(gateway):
    async def body():
        async with gateway() as (client, _):
            [item] = (await client.get("/v1/recommend", params={"k": 1})).json()["items"]
            card = (await client.get(f"/v1/items/{item['item_id']}")).json()
            assert {name: item[name] for name in card} == card
            assert card["title"] == overlap_model.TEXTS[-1]
            assert card["price"] == overlap_model.PRICES[-1]

    run(body)
