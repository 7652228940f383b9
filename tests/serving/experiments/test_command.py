"""`shelfwise experiments` on a store: what was logged is what is reported."""

import time
from pathlib import Path

import pytest
import yaml

from schema import config
from serving.experiments import command
from serving.experiments.assignment import assign
from serving.store import EventStore, Shown, ShownList, StoredEvent

CONFIG = Path(__file__).resolve().parents[3] / "pipeline" / "configs" / "complete_journey.yaml"
DAY = 86_400.0
USERS = [f"user-{number}" for number in range(240)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A configuration and its store, in which users saw two lists each and the canary's were clicked more."""
    folder = tmp_path_factory.mktemp("shop")
    tree = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    tree["gateway"] = {
        "store": f"sqlite:///{folder / 'store.sqlite'}",
        "labels": ["canary"],
        "experiments": [
            {
                "name": "canary",
                "arms": [{"name": "stable"}, {"name": "canary", "label": "canary"}],
                "primary_metric": "ctr",
                "guardrails": [{"metric": "latency_ms", "margin": 0.5}],
                "surfaces": ["home.for_you"],
                "expected_lift": 0.5,
            },
            {
                "name": "words",
                "arms": [{"name": "a"}, {"name": "b"}],
                "surfaces": ["search.results"],
                "stopped": True,
            },
        ],
    }
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    experiment = config.load(path).gateway.experiments[0]
    start = (time.time() // DAY - 5) * DAY
    lists, events = [], []

    def event(user, item, kind, at, list_id="", value=None):
        events.append(StoredEvent(f"e{len(events)}", user, item, kind, at, at, list_id=list_id, value=value))

    for number, user in enumerate(USERS):
        arm = assign(experiment, user, start).arm
        event(user, "old", "purchase", start - DAY, value=float(number % 7))
        for visit in range(2):
            at, list_id = start + visit * DAY + number, f"{user}-{visit}"
            lists.append(
                ShownList(
                    list_id=list_id,
                    request_id=list_id,
                    user_id=user,
                    surface="home.for_you",
                    arm=arm.name,
                    experiment="canary",
                    model_version=1,
                    label=arm.label or "",
                    fallback=number % 50 == 0,
                    shown_at=at,
                    query="",
                    items=[Shown(item, place, 1.0, "two_tower") for place, item in enumerate("xyz")],
                    latency_ms=10.0 + number % 3,
                )
            )
            if number % (2 if arm.name == "canary" else 4) == 0:
                event(user, "x", "click", at + 60, list_id)
                event(user, "x", "purchase", at + 3600, value=2.5)  # at the till, without the list
    store = EventStore(tree["gateway"]["store"])
    store.write(events, lists)
    yield path, store, lists, start
    store.close()


def run(capsys, *arguments):
    status = command.main([str(each) for each in arguments])
    return status, *capsys.readouterr()


def test_the_report_counts_what_was_logged(shop, capsys, tmp_path):
    path, store, lists, start = shop
    status, out, err = run(capsys, "report", "canary", "--config", path, "--output", tmp_path / "canary.html")
    assert (status, err) == (0, "")
    assert "canary: Better: can be rolled out" in out
    assert str(tmp_path / "canary.html") in out
    assert (tmp_path / "canary.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    experiment = config.load(path).gateway.experiments[0]
    report = command.report(store, experiment, 0.0, time.time())
    for arm, each in (("stable", 4), ("canary", 2)):
        members = [number for number, user in enumerate(USERS) if lists[2 * number].arm == arm]
        assert report.users[arm] == len(members)
        clicks = 2 * sum(number % each == 0 for number in members)
        for metric, expected in (
            ("ctr", clicks / (6 * len(members))),
            ("conversion", clicks / (6 * len(members))),
            ("fallback_share", sum(number % 50 == 0 for number in members) / len(members)),
            ("latency_ms", 10 + sum(number % 3 for number in members) / len(members)),
        ):
            one = next(found for found in report.comparisons if found.metric.name == metric)
            value = one.value if arm == "canary" else one.control_value
            if metric in ("fallback_share", "latency_ms"):  # CUPED moves the clicks' ratios a little
                assert value == pytest.approx(expected, rel=0.05)
            else:
                assert value == pytest.approx(expected, rel=0.1)
    assert next(one for one in report.comparisons if one.metric.name == "latency_ms").guardrail == "held"


def test_money_before_the_first_list_is_the_covariate(shop):
    _, store, _, start = shop
    later = store.exposures("canary", start + DAY, time.time())  # the second visits
    assert len(later["unit"]) == len(USERS)
    for user, money in zip(later["unit"], later["covariate"], strict=True):
        assert money == int(user.removeprefix("user-")) % 7  # not what the first lists sold


def test_a_period_without_lists_and_wrong_arguments_are_one_line(shop, capsys, tmp_path):
    path = shop[0]
    for arguments, said in (
        (["report", "canary", "--until", "2020-01-01"], "no list was shown in the period"),
        (["report", "canary", "--since", "2021-01-02", "--until", "2021-01-01"], "is after --until"),
        (
            ["report", "cannery"],
            "there is no experiment 'cannery' in gateway.experiments; known are canary, words",
        ),
        (["stop", "cannery"], "there is no experiment 'cannery'"),
    ):
        status, out, err = run(capsys, *arguments, "--config", path)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert said in err
    with pytest.raises(SystemExit):
        command.main(["report", "canary", "--config", str(path), "--since", "yesterday"])
    assert "'yesterday' is no day" in capsys.readouterr().err


def test_the_kill_switch_is_in_the_store(shop, capsys):
    path, store, *_ = shop
    assert run(capsys, "list", "--config", path)[1].splitlines() == [
        "canary: canary against stable; home.for_you; 100% of users",
        "words: b against a; search.results; stopped by the configuration",
    ]
    assert run(capsys, "stop", "canary", "--config", path)[1] == "canary: stopped\n"
    assert run(capsys, "stop", "canary", "--config", path)[1] == "canary: was stopped before\n"
    assert list(store.stopped()) == ["canary"]
    assert (
        "canary against stable; home.for_you; stopped by hand on 20"
        in run(capsys, "list", "--config", path)[1]
    )
    assert run(capsys, "resume", "canary", "--config", path)[1] == "canary: goes on\n"
    assert run(capsys, "resume", "canary", "--config", path)[1] == "canary: was not stopped\n"
    assert store.stopped() == {}
