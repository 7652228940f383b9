"""Off-policy estimates against the truth of a simulated shop, and what the log must support."""

import dataclasses

import numpy as np
import pytest

from benchmarks.simulated_lists import World
from schema.errors import DataError
from serving.experiments import off_policy


@pytest.fixture(scope="module")
def simulated():
    """Estimates of a new policy from 150 logs of 300 users with 4 lists each: name -> list of Estimate."""
    random = np.random.default_rng(5)
    world = World.of(random)
    found = {"ips": [], "clipped": [], "snips": [], "robust": []}
    naive = []
    for _ in range(150):
        log, item, kind = world.log(random, 300, 4)
        predicted, expected = world.reward_model(log, item, kind)
        found["ips"].append(off_policy.ips(log))
        found["clipped"].append(off_policy.ips(log, clip=2.0))
        found["snips"].append(off_policy.snips(log))
        found["robust"].append(off_policy.doubly_robust(log, predicted, expected))
        naive.append(log.reward.sum() / 1200)
    return world.value, found, np.mean(naive)


@pytest.mark.parametrize("name", ["ips", "snips", "robust"])
def test_estimates_are_right_on_average_and_their_intervals_cover(simulated, name):
    truth, found, naive = simulated
    values = np.array([one.value for one in found[name]])
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(150) + 0.002
    assert abs(naive - truth) > 0.05  # the log's own clicks are no estimate
    errors = np.array([one.error for one in found[name]])
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)
    covered = [low <= truth <= high for low, high in (one.interval() for one in found[name])]
    assert 0.90 <= np.mean(covered) <= 0.99


def test_clipping_trades_variance_for_bias(simulated):
    truth, found, _ = simulated
    values = {name: np.array([one.value for one in found[name]]) for name in found}
    assert values["clipped"].std() < values["ips"].std()
    assert values["clipped"].mean() < truth - 0.01
    assert values["robust"].std() < values["ips"].std()


def test_the_same_policy_is_what_was_seen():
    world = World.of(np.random.default_rng(6))
    log, _, _ = world.log(np.random.default_rng(7), 50, 3)
    same = dataclasses.replace(log, target=log.logged)
    seen = log.reward.sum() / 150
    for found in (off_policy.ips(same), off_policy.snips(same)):
        assert found.value == pytest.approx(seen)
        assert found.effective == pytest.approx(len(log.reward))
        assert found.support == pytest.approx(1)
    # a standard error over users, computed again in plain loops
    by_user = np.bincount(log.user, log.reward)
    expected = np.sqrt(50 / 49 * np.sum((by_user - by_user.mean()) ** 2)) / 150
    assert off_policy.ips(same).error == pytest.approx(expected)


def test_robust_is_exact_where_the_model_is():
    world = World.of(np.random.default_rng(8))
    log, item, kind = world.log(np.random.default_rng(9), 100, 3)
    looked = np.array([0.9, 0.6, 0.4])
    truth = np.sum(world.target * world.liking[..., None] * looked, axis=(1, 2))
    exact = world.liking[kind[log.list], item] * looked[log.place]
    # rewards that are what the model says: no variance is left but that of who came
    found = off_policy.doubly_robust(dataclasses.replace(log, reward=exact), exact, truth[kind])
    assert found.value == pytest.approx(truth[kind].mean())


def good_log():
    world = World.of(np.random.default_rng(6))
    return world.log(np.random.default_rng(7), 50, 3)[0]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("logged", 0.0, "row 3 of 'logged': .*0.0.* is no propensity; it must be above 0"),
        ("logged", np.nan, "row 3 of 'logged'"),
        ("target", 1.5, "row 3 of 'target': .*1.5.* is no propensity"),
        ("reward", np.inf, "row 3 of 'reward' is not finite"),
    ],
)
def test_what_is_no_propensity_is_refused(column, value, said):
    log = good_log()
    values = getattr(log, column).copy()
    values[3] = value
    with pytest.raises(DataError, match=said):
        off_policy.ips(dataclasses.replace(log, **{column: values}))


def test_a_policy_that_the_log_cannot_speak_of_is_refused():
    log = good_log()
    # a new model that shows other items in two of five places, and was never logged with them
    unseen = np.random.default_rng(1).random(len(log.target)) < 0.4
    with pytest.raises(
        DataError, match=r"no support: the log could have shown [56]\d% of what the new policy"
    ):
        off_policy.ips(dataclasses.replace(log, target=np.where(unseen, 0, log.logged)))
    with pytest.raises(DataError, match="no support: the log could have shown 0%"):
        off_policy.snips(dataclasses.replace(log, target=np.zeros(len(log.target))))
    # all of the weight on a few rows
    few = np.where(np.arange(len(log.target)) < 12, 1.0, 0.0)
    logged = np.where(few > 0, 12 / len(few), 1.0)
    with pytest.raises(DataError, match="450 rows count as 12 without weights"):
        off_policy.ips(dataclasses.replace(log, target=few, logged=logged))


def test_columns_must_fit():
    log = good_log()
    with pytest.raises(DataError, match="target: has shape"):
        off_policy.ips(dataclasses.replace(log, target=log.target[1:]))
    with pytest.raises(DataError, match="the log has no rows"):
        off_policy.ips(off_policy.LoggedPlaces(*(np.zeros(0) for _ in range(6))))
    with pytest.raises(DataError, match="need one for each of the 450 rows and of the 150 lists"):
        off_policy.doubly_robust(log, log.reward, np.zeros(149))
    with pytest.raises(DataError, match="not all finite"):
        off_policy.doubly_robust(log, log.reward, np.full(150, np.nan))
