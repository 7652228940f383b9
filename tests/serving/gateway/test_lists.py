"""Recommendations, search, similar items: from the model, and without it."""

from __future__ import annotations

import asyncio
import time

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
