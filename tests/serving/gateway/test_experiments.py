"""Arms of experiments in the lists that the gateway makes, and the kill switch."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from schema.config.experiments import Experiment, Exploration
from serving.client import AsyncClient
from serving.experiments import command
from serving.experiments.assignment import assign
from serving.gateway import app as gateway_app
from serving.gateway.experiments import arms, exploration
from serving.gateway.experiments.exploration import Explorer
from serving.gateway.lists.schemas import Item

RELEASE = {
    "name": "release",
    "arms": [{"name": "stable"}, {"name": "canary", "label": "canary"}],
    "surfaces": ["home.for_you"],
    "primary_metric": "ctr",
}
USERS = [f"u{number}" for number in range(12)]


def run(body):
    return asyncio.run(body())


async def arm(client, user, surface="home.for_you"):
    answer = await client.get("/v1/recommend", params={"user_id": user, "k": 3, "surface": surface})
    return answer.json()["experiment"], answer.json()["arm"]


def settings(server):
    """Of a gateway whose model has a canary: the same model here, by a client of its own."""
    canary = AsyncClient(server.address, timeout=20, max_attempts=1)
    return {"experiments": [RELEASE], "labels": ["canary"], "more": {"labels": {"canary": canary}}}


def test_lists_are_made_and_logged_for_the_arm_of_the_user(gateway, server):
    experiment = Experiment.model_validate(RELEASE)
    expected = {user: assign(experiment, user, time.time()).arm.name for user in USERS}
    assert {*expected.values()} == {"stable", "canary"}

    async def body():
        async with gateway(**settings(server)) as (client, app):
            asked = []
            canary = app.state.services.models.labels["canary"]
            recommend = canary.recommend

            async def counted(state, **more):
                asked.append(state.user_id)
                return await recommend(state, **more)

            canary.recommend = counted
            for user in USERS:
                assert await arm(client, user) == ("release", expected[user])
            assert asked == [user for user in USERS if expected[user] == "canary"]
            assert await arm(client, USERS[0], "home.offers") == ("", "")
            assert await arm(client, "") == ("", "")
            await app.state.services.writer.in_turn()
            store = app.state.services.store
            logged = store.exposures("release", 0, time.time() + 1)
            assert dict(zip(logged["unit"], logged["arm"], strict=True)) == expected
            assert (logged["latency_ms"] > 0).all()
            report = command.report(store, experiment, 0, time.time() + 1)
            assert report.lists == {name: [*expected.values()].count(name) for name in ("stable", "canary")}

    run(body)


def test_parameters_of_an_arm_are_those_of_the_request():
    arm = {"name": "varied", "parameters": {"diversity": 0.9, "drop_bought_days": 3}}
    both = Experiment.model_validate({"name": "variety", "arms": [{"name": "plain"}, arm]})
    found = {arms.Experiments([both], time.time).arm_of(user, "") for user in USERS}
    assert found == {
        arms.Arm("variety", "plain"),
        arms.Arm("variety", "varied", diversity=0.9, drop_bought_days=3),
    }


def test_a_stop_reaches_the_gateway_and_a_resume_gives_everybody_their_arm_back(gateway, server, monkeypatch):
    monkeypatch.setattr(gateway_app, "_SWITCH_SECONDS", 0.01)

    async def until(client, running):
        for _ in range(2000):
            found = (await client.get("/v1/experiments")).json()["experiments"][0]
            if found["running"] is running:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"never {running}")

    async def body():
        async with gateway(**settings(server)) as (client, app):
            before = [await arm(client, user) for user in USERS]
            found = await until(client, True)
            assert (found["stopped_at"], found["traffic"], found["surfaces"]) == (None, 1, ["home.for_you"])
            assert [each["label"] for each in found["arms"]] == [None, "canary"]
            assert app.state.services.store.stop("release")
            assert (await until(client, False))["stopped_at"] > 0
            assert [await arm(client, user) for user in USERS] == [("", "")] * len(USERS)
            assert app.state.services.store.resume("release")
            await until(client, True)
            assert [await arm(client, user) for user in USERS] == before

    run(body)


def items(count, new):
    """Items i0, i1, ...; those of numbers in `new` are new."""
    return [
        Item.model_construct(item_id=f"i{number}", source="new_items" if number in new else "trending")
        for number in range(count)
    ]


def test_new_items_are_drawn_into_their_places_with_the_propensity_that_is_logged():
    settings = Exploration(share=0.2, uniform_share=0.2, max_choices=5)
    explorer = Explorer(settings, np.random.default_rng(0).random)
    explorer.learn({"i15": (200, 30), "i16": (200, 2), "i17": (200, 1)})
    given = items(30, new={3, 15, 16, 17, 18, 19, 20})
    seen, said = {}, {}
    for _ in range(1200):
        found, propensity = explorer.filled(given, 10)
        ids = [item.item_id for item in found]
        assert len({*ids}) == 10
        assert [ids[place] for place in (0, 1, 3, 4, 5, 6, 8, 9)] == [f"i{number}" for number in range(8)]
        assert {ids[2], ids[7]} == {*propensity} <= {f"i{number}" for number in range(15, 20)}
        assert {found[2].source, found[7].source} == {"exploration"}
        for place in (2, 7):
            seen[ids[place], place] = seen.get((ids[place], place), 0) + 1
            said[ids[place], place] = propensity[ids[place]]
    for key, count in seen.items():
        assert abs(count / 1200 - said[key]) < 0.05, key
    assert said["i15", 2] == max(said.values())  # the best so far
    assert said["i18", 2] > said["i16", 2]  # nothing is known of it: worth more of a try than a bad one
    assert min(said["i16", 2], said["i17", 2]) >= 0.2 / 5


@pytest.mark.parametrize(
    ("share", "new", "drawn"), [(0, {15, 16, 17}, 0), (0.2, set(), 0), (0.2, {15}, 0), (0.2, {15, 16}, 1)]
)
def test_without_a_choice_the_list_is_the_model_s(share, new, drawn):
    explorer = Explorer(Exploration(share=share), np.random.default_rng(0).random)
    found, propensity = explorer.filled(items(20, new), 10)
    assert len(found) == 10
    assert len(propensity) == drawn
    assert [item.item_id for item in found if item.item_id not in propensity] == [
        f"i{number}" for number in range(10 - drawn)
    ]


def test_drawn_places_are_logged_and_their_clicks_learned_from(gateway, monkeypatch):
    monkeypatch.setattr(gateway_app, "_EXPLORE_SECONDS", 0.01)
    monkeypatch.setattr(exploration, "_NEW", ("overlap",))  # the source of all of this model's items

    async def body():
        async with gateway(exploration={"share": 0.2}) as (client, app):
            store = app.state.services.store
            answer = (await client.get("/v1/recommend", params={"user_id": "u1", "k": 5})).json()
            (drawn,) = [item for item in answer["items"] if item["source"] == "exploration"]
            click = {"event_id": "event-0001", "user_id": "u1", "event_type": "click"}
            click |= {"item_id": drawn["item_id"], "list_id": answer["list_id"]}
            assert (await client.post("/v1/events", json=click)).json()["accepted"] == 1
            await app.state.services.writer.in_turn()
            assert store.explored(0) == {drawn["item_id"]: (1, 1)}
            assert store.explored(time.time() + 1) == {}
            for _ in range(2000):
                if app.state.services.explorer._weights:
                    break
                await asyncio.sleep(0.01)
            assert [*app.state.services.explorer._weights] == [drawn["item_id"]]
            # who asks for one source gets the model's list
            params = {"user_id": "u1", "k": 5, "source": "overlap"}
            answer = (await client.get("/v1/recommend", params=params)).json()
            assert {item["source"] for item in answer["items"]} == {"overlap"}

    run(body)
