"""Arms of experiments in the lists that the gateway makes, and the kill switch."""

from __future__ import annotations

import asyncio
import time

from schema.config.experiments import Experiment
from serving.client import AsyncClient
from serving.experiments import command
from serving.experiments.assignment import assign
from serving.gateway.experiments import arms

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
    monkeypatch.setattr(arms, "_SECONDS", 0.01)

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
