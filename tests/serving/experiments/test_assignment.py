"""Who is in which arm: uniform, sticky, independent; and what a configuration may not say."""

import datetime as dt
import hashlib

import numpy as np
import pytest
from scipy import stats

from schema import config
from schema.config.experiments import Arm, Experiment, RampStep, check_together
from serving.experiments.assignment import assign, assign_list, moved, point, points, traffic

USERS = [f"user-{number}" for number in range(4_000)]
NOW = 1.8e9


def experiment(**settings):
    given = {"name": "canary", "arms": [{"name": "stable"}, {"name": "canary", "label": "canary"}]}
    return Experiment.model_validate(given | settings)


def arms_of(one, users=USERS, now=NOW):
    found = [assign(one, user, now) for user in users]
    return np.array([each.arm.name if each else "" for each in found])


def test_points_are_the_documented_hash_and_uniform():
    key = hashlib.blake2b(b"salt", digest_size=32).digest()
    digest = hashlib.blake2b("Zoë".encode(), digest_size=8, key=key).digest()
    assert point("salt", "Zoë") == int.from_bytes(digest, "big") // 2**11 / 2**53
    found = points("salt", USERS)
    assert found.min() >= 0
    assert found.max() < 1
    assert stats.kstest(found, "uniform").pvalue > 0.01
    # independent between salts, also for salts that end as the unit begins
    assert abs(np.corrcoef(found, points("salt2", USERS))[0, 1]) < 4 / np.sqrt(len(USERS))
    assert point("a", "bc") != point("ab", "c")


def test_arms_have_their_weights_and_do_not_depend_on_the_traffic():
    one = experiment(arms=[{"name": "a", "weight": 1}, {"name": "b", "weight": 2}, {"name": "c"}])
    counts = [np.sum(arms_of(one) == name) for name in "abc"]
    assert stats.chisquare(counts, np.array([1, 2, 1]) / 4 * len(USERS)).pvalue > 0.01


def test_a_ramp_adds_users_and_moves_nobody():
    day = dt.datetime(2027, 1, 15, tzinfo=dt.UTC)
    one = experiment(
        traffic=0.05, ramp=[{"at": day, "traffic": 0.3}, {"at": day + dt.timedelta(days=1), "traffic": 1}]
    )
    before = arms_of(one, now=day.timestamp() - 1)
    for step, share in ((0, 0.3), (86_400, 1.0)):
        after = arms_of(one, now=day.timestamp() + step)
        assert np.mean(after != "") == pytest.approx(share, abs=0.03)
        assert (after[before != ""] == before[before != ""]).all()
        before = after
    assert traffic(one, day.timestamp()) == 0.3
    assert RampStep(at=dt.datetime(2027, 1, 15), traffic=1).at == day


def test_experiments_of_a_layer_share_no_user_and_others_are_independent():
    layered = [
        experiment(name="first", layer="ranker", layer_slice=(0, 0.5), surfaces=["home.for_you"]),
        experiment(name="second", layer="ranker", layer_slice=(0.5, 1), surfaces=["home.for_you"]),
    ]
    first, second = (arms_of(one) != "" for one in layered)
    assert not (first & second).any()
    assert (first | second).all()
    other = arms_of(experiment(name="other"))
    table = [
        [np.sum((arms_of(layered[0]) == a) & (other == b)) for a in ("stable", "canary")]
        for b in ("stable", "canary")
    ]
    assert stats.chi2_contingency(table).pvalue > 0.01
    for user, in_first in zip(USERS[:200], first, strict=False):
        assert assign_list(layered, user, "home.for_you", NOW).experiment == (
            "first" if in_first else "second"
        )
    assert assign_list(layered, USERS[0], "search.results", NOW) is None


def test_nobody_is_in_a_stopped_experiment_and_the_unknown_are_in_none():
    assert assign(experiment(), "u", NOW) is not None
    assert assign(experiment(stopped=True), "u", NOW) is None
    assert assign(experiment(), "u", NOW, stopped={"canary"}) is None
    assert assign(experiment(), "", NOW) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"traffic": 0.6}, None),
        ({"traffic": 0.4}, "canary.traffic: 0.4 is less than the 0.5"),
        ({"arms": [{"name": "stable", "weight": 9}, {"name": "canary"}]}, "weights changed"),
        ({"arms": [{"name": "stable", "weight": 3}, {"name": "canary", "weight": 3}]}, None),
        ({"arms": [{"name": "canary"}, {"name": "stable"}]}, "they were ['stable', 'canary']"),
        ({"layer": "ranker"}, None),
        ({"layer": "ranker", "layer_slice": (0, 0.5)}, "canary.layer: it was None"),
    ],
)
def test_a_change_that_moves_users_is_named(change, said):
    old, new = experiment(traffic=0.5), experiment(**{"traffic": 0.5, **change})
    found = moved(old, new)
    assert (found is None) if said is None else (said in found)
    users = USERS[:2000]
    before, after = arms_of(old, users), arms_of(new, users)
    if said is None:  # and it is true
        assert (after[before != ""] == before[before != ""]).all()
    else:
        assert (after[before != ""] != before[before != ""]).any()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"arms": [{"name": "a"}]}, "at least 2"),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "has a name twice"),
        (
            {"traffic": 0.5, "ramp": [{"at": "2027-01-01T00:00", "traffic": 0.2}]},
            "takes users out of their arms",
        ),
        ({"layer_slice": (0, 0.5)}, "means nothing without a layer"),
        ({"layer": "x", "layer_slice": (0.5, 0.5)}, "is no part of 0 to 1"),
        ({"arms": [{"name": "a"}, {"name": "b", "parameters": {"k": 3}}]}, "'k' is no parameter"),
        (
            {"arms": [{"name": "a"}, {"name": "b", "parameters": {"diversity": 2}}]},
            "diversity 2 is out of range",
        ),
        (
            {"traffic": 0, "ramp": [{"at": f"2027-01-0{day}T00:00", "traffic": 1} for day in (2, 1)]},
            "do not ascend",
        ),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        experiment(**wrong)


def test_experiments_that_would_meet_are_refused():
    def two(first, second):
        return [experiment(name="one", **first), experiment(name="two", **second)]

    lists = {"surfaces": ["home.for_you"]}
    check_together(two(lists, {"surfaces": ["search.results"]}))
    check_together(two({"layer": "x", "layer_slice": (0, 0.5)}, {"layer": "x", "layer_slice": (0.5, 1)}))
    with pytest.raises(ValueError, match="change the same list"):
        check_together(two(lists, {}))
    with pytest.raises(ValueError, match="share users of layer 'x'"):
        check_together(two({"layer": "x", "layer_slice": (0.4, 1)}, {"layer": "x", "layer_slice": (0, 0.5)}))
    with pytest.raises(ValueError, match="is the name of two"):
        check_together([experiment(surfaces=["a"]), experiment(surfaces=["b"])])
    with pytest.raises(ValueError, match="asks for label 'canary', which is not one of labels"):
        config.Gateway(experiments=[experiment()])
    assert config.Gateway(experiments=[experiment()], labels=["canary"]).experiments[0].control == "stable"
    assert Arm(name="a").weight == 1
