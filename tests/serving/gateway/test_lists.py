"""Recommendations, search, similar items: from the model, and without it."""

from __future__ import annotations

import asyncio
import time

import pyarrow as pa
import pytest
import sqlalchemy as sa

from serving.client import AsyncClient
from serving.gateway.histories import Histories
from serving.gateway.services import Arm, Clock
from tests.serving import overlap_model


def run(body):
    return asyncio.run(body())


def event(number, kind, item="", **more):
    return {"event_id": f"event-{number:04d}", "user_id": "u1", "event_type": kind, "item_id": item, **more}


def ids(answer):
    return [item["item_id"] for item in answer["items"]]


def test_the_next_list_reflects_the_last_click(gateway):
    async def body():
        async with gateway() as (client, _):
            before = (await client.get("/v1/recommend", params={"user_id": "u1", "k": 5})).json()
            posted = await client.post("/v1/events", json=event(1, "click", "103"))
            assert posted.json()["accepted"] == 1
            after = (await client.get("/v1/recommend", params={"user_id": "u1", "k": 5})).json()
        scores = overlap_model.expected_scores([("103", 0.0)], 0)
        best = sorted(range(50), key=lambda place: -scores[place])[:5]
        assert ids(before) == ["149", "148", "147", "146", "145"]
        assert ids(after) == [overlap_model.ITEMS[place] for place in best]
        assert not after["fallback"]
        assert after["model_version"] == 1
        assert after["items"][0]["title"] == overlap_model.TEXTS[best[0]]

    run(body)


def test_search(gateway):
    async def body():
        async with gateway() as (client, _):
            found = (await client.get("/v1/search", params={"query": "café 7", "user_id": "u1"})).json()
            assert found["total"] > 0
            assert found["surface"] == "search.results"
            said = (await client.get("/v1/suggest", params={"prefix": "pro"})).json()
            assert [each["text"] for each in said["suggestions"]] == ["pro", "pros", "pro set"]

    run(body)


def test_a_model_that_is_away_is_replaced_and_said_so(gateway):
    async def body():
        async with gateway(model="localhost:1") as (client, app):
            await client.post("/v1/events", json=event(1, "view", "149"))
            await client.post("/v1/events", json=event(2, "not_interested", "148"))
            answer = (await client.get("/v1/recommend", params={"user_id": "u1", "k": 3})).json()
            assert (answer["fallback"], answer["fallback_reason"]) == (True, "model_unreachable")
            assert ids(answer) == ["147", "146", "145"]
            assert answer["model_version"] == 0
            found = (await client.get("/v1/search", params={"query": "café 7", "k": 2})).json()
            assert found["fallback"]
            assert ids(found) == ["147", "137"]
            await app.state.services.writer.in_turn()
            counts = app.state.services.store.shown_counts("u1", time.time() - 60)
            assert counts == {"147": 1, "146": 1, "145": 1}

    run(body)


def test_what_was_shown_often_and_never_wanted_sinks(gateway):
    async def body():
        now = [1.7e9]
        impressions = {"visit_minutes": 30, "free": 1, "decay": 0.3, "floor": 0.01}
        more = {"clock": Clock(wall=lambda: now[0])}
        async with gateway(impressions=impressions, more=more) as (client, app):
            ask = {"user_id": "u1", "k": 3}
            seen = []
            for _ in range(4):
                seen.append(ids((await client.get("/v1/recommend", params=ask)).json()))
                await app.state.services.writer.in_turn()
                now[0] += 3600
            await client.post("/v1/events", json=event(1, "click", "149"))
            wanted = ids((await client.get("/v1/recommend", params=ask)).json())
        assert seen[0] == seen[1] == ["149", "148", "147"]
        assert set(seen[3]).isdisjoint(seen[0][1:])  # others took their places
        assert wanted[0] == "149"  # a click, and it is where it was

    run(body)


def test_a_robots_events_are_kept_and_used_for_nothing(gateway):
    async def body():
        async with gateway(bots={"events_per_minute": 2}) as (client, app):
            batch = [event(number, "click", str(100 + number)) for number in range(4)]
            assert (await client.post("/v1/events", json=batch)).json()["accepted"] == 4
            kept = app.state.services.store
            assert [each.item_id for each in kept.recent("u1", 9, 4e9)] == ["100", "101"]
            assert [row["suspect"] for row in kept.export("u1")["events"]] == [False, False, True, True]

    run(body)


def test_an_arm_decides_the_version_and_is_written_down(gateway, server):
    def arm_of(user_id, surface):
        return Arm("newer", "treated", "canary") if surface == "home.for_you" else Arm()

    async def body():
        labels = {"canary": AsyncClient(server.address, timeout=20, version_label="canary", max_attempts=1)}
        async with gateway(more={"arm_of": arm_of, "labels": labels}) as (client, app):
            treated = (await client.get("/v1/recommend", params={"user_id": "u1", "k": 2})).json()
            other = await client.get("/v1/recommend", params={"user_id": "u1", "k": 2, "surface": "home.x"})
            await app.state.services.writer.in_turn()
            lists = {row["surface"]: row for row in app.state.services.store.export("u1")["lists"]}
        # no version of this server has the label: the list says that it is a substitute
        assert (treated["experiment"], treated["arm"], treated["label"]) == ("newer", "treated", "canary")
        assert (treated["fallback"], treated["fallback_reason"]) == (True, "label_unavailable")
        assert (treated["model_version"], ids(treated)) == (1, ["149", "148"])
        assert not other.json()["fallback"]
        assert (lists["home.for_you"]["arm"], lists["home.for_you"]["fallback"]) == ("treated", True)
        assert (lists["home.x"]["experiment"], lists["home.x"]["model_version"]) == ("", 1)
        assert [item["propensity"] for item in lists["home.x"]["items"]] == [1.0, 1.0]

    run(body)


def test_a_user_who_was_erased_is_a_stranger_to_the_runs_histories_too(gateway):
    columns = {
        "user_id": ["u1"],
        "history_item_id": [["103", "103"]],
        "history_age_days": [[1.0, 0.0]],
        "history_event_type": [["purchase"] * 2],
        "context_store_id": ["367"],
    }

    async def body():
        more = {"histories": Histories(pa.table(columns), at=time.time())}
        async with gateway(more=more) as (client, _):
            ask = {"user_id": "u1", "k": 3}
            before = ids((await client.get("/v1/recommend", params=ask)).json())
            await client.post("/v1/events", json=event(1, "view", "104"))
            given = (await client.get("/v1/users/u1")).json()
            assert [each["item_id"] for each in given["history"]] == ["103", "103"]
            assert len(given["lists"]) == 1
            assert (await client.delete("/v1/users/u1")).json()["events"] == 1
            after = ids((await client.get("/v1/recommend", params=ask)).json())
            assert (await client.get("/v1/users/u1")).json()["history"] == []
        assert all(int(item) % 10 == 3 for item in before)
        assert after == ["149", "148", "147"]

    run(body)


def test_a_store_that_is_away_takes_no_events_and_lists_say_so(gateway):
    async def body():
        async with gateway() as (client, app):
            store = app.state.services.store
            with store._engine.begin() as connection:
                connection.execute(sa.text("ALTER TABLE events RENAME TO gone"))
            refused = await client.post("/v1/events", json=event(1, "view", "104"))
            assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
            answer = (await client.get("/v1/recommend", params={"user_id": "u1", "k": 2})).json()
            assert (answer["fallback"], answer["fallback_reason"]) == (True, "store_unreachable")
            assert answer["model_version"] == 1
            with store._engine.begin() as connection:
                connection.execute(sa.text("ALTER TABLE gone RENAME TO events"))
            assert (await client.post("/v1/events", json=event(1, "view", "104"))).json()["accepted"] == 1

    run(body)


def test_explain_and_similar(gateway):
    async def body():
        async with gateway() as (client, _):
            await client.post("/v1/events", json=event(1, "not_interested", "113"))
            near = (
                await client.get("/v1/similar", params={"item_id": "103", "user_id": "u1", "k": 3})
            ).json()
            assert ids(near) == ["143", "133", "123"]
            said = (
                await client.post("/v1/explain", json={"user_id": "u1", "item_id": ["103", "149"]})
            ).json()
            assert [each["item_id"] for each in said["items"]] == ["103", "149"]
            for each in said["items"]:
                assert sum(each["attribution"].values()) == pytest.approx(each["log_odds"] - each["baseline"])
            healthy = (await client.get("/health/ready")).json()
            assert (healthy["status"], healthy["model_version"], healthy["store"]) == ("ready", 1, True)
        async with gateway(model="localhost:1") as (client, _):
            answer = await client.get("/v1/explain", params={"item_id": "103"})
            assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
            assert (await client.get("/health/ready")).json()["status"] == "degraded"

    run(body)
