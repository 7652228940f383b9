"""Thompson sampling: propensities against enumeration and draws, bounds, and regret on replay."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from schema.config.experiments import Exploration
from schema.errors import DataError
from serving.experiments import bandit, replay
from serving.experiments.bandit import Beliefs
from tests.properties import drawn

COUNTS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=2, max_size=4)


@given(COUNTS)
@drawn(25)
def test_the_probability_to_be_the_best_is_the_integral(counts):
    alpha, beta = (np.array(column, float) + 1 for column in zip(*counts, strict=True))
    found = bandit.probability_best(Beliefs(alpha, beta))
    assert found.sum() == pytest.approx(1)
    levels = np.linspace(0.001, 0.999, 999)
    quantiles = [special.betaincinv(a, b, levels) for a, b in zip(alpha, beta, strict=True)]
    x = np.unique(np.concatenate([np.linspace(0, 1, 4001), *quantiles]))
    below = special.betainc(alpha[:, None], beta[:, None], x)
    for index in range(len(alpha)):
        others = np.prod(np.delete(below, index, axis=0), axis=0)
        assert found[index] == pytest.approx(integrate.trapezoid(others, below[index]), abs=2e-3)


def test_many_choices_agree_with_draws():
    random = np.random.default_rng(0)
    alpha, beta = random.gamma(2, 2, 30) + 1, random.gamma(2, 40, 30) + 1
    draws = np.bincount(random.beta(alpha, beta, (40_000, 30)).argmax(axis=1), minlength=30) / 40_000
    assert bandit.probability_best(Beliefs(alpha, beta)) == pytest.approx(draws, abs=0.012)
    assert bandit.probability_best(Beliefs(np.ones(1), np.ones(1))).tolist() == [1]


def shares(random, count):
    return bandit.mixed(random.dirichlet(np.full(count, 0.3)), 0.05)


@pytest.mark.parametrize(("count", "places"), [(2, 2), (5, 3), (6, 6)])
def test_probabilities_of_the_places_are_those_of_all_orders(count, places):
    probability = shares(np.random.default_rng(count), count)
    expected = np.zeros((count, places))
    for chosen in itertools.permutations(range(count), places):
        chance, left = 1.0, 1.0
        for item in chosen:
            chance *= probability[item] / left
            left -= probability[item]
        for place, item in enumerate(chosen):
            expected[item, place] += chance
    np.testing.assert_allclose(bandit.marginals(probability, places), expected, atol=1e-6)


def test_one_choice_that_is_nearly_sure_leaves_the_other_places_right():
    probability = np.array([0.979] + [0.021 / 20] * 20)
    found = bandit.marginals(probability, 5)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(found[1:].std(axis=0), 0, atol=1e-12)
    assert found[0, 1] == pytest.approx(20 * probability[1] * probability[0] / (1 - probability[1]), abs=1e-6)


def test_what_is_drawn_has_the_propensity_that_is_logged():
    random = np.random.default_rng(3)
    probability = shares(random, 5)
    drawn_orders = np.array([bandit.order(probability, random.random(2)) for _ in range(2000)])
    expected = bandit.marginals(probability, 2)
    for place in range(2):
        seen = np.bincount(drawn_orders[:, place], minlength=5) / 2000
        assert seen == pytest.approx(expected[:, place], abs=0.04)
    assert (drawn_orders[:, 0] != drawn_orders[:, 1]).all()
    settings = Exploration(uniform_share=0.4)
    beliefs = Beliefs.of(np.array([30, 1]), np.array([300, 300]), settings)
    picks = [bandit.variant(beliefs, settings, uniform) for uniform in (np.arange(400) + 0.5) / 400]
    for choice, propensity in set(picks):
        assert np.mean([pick == choice for pick, _ in picks]) == pytest.approx(propensity, abs=0.004)
    assert min(propensity for _, propensity in picks) >= 0.2  # 0.4 / 2


@pytest.mark.parametrize(
    ("share", "length", "places"),
    [(0, 10, []), (0.1, 10, [5]), (0.2, 10, [2, 7]), (0.5, 6, [1, 3, 5]), (0.5, 1, []), (0.09, 10, [])],
)
def test_no_more_places_are_left_to_chance_than_the_share(share, length, places):
    found = bandit.explored_places(length, Exploration(share=share)).tolist()
    assert found == places
    assert len(found) <= share * length


def uniform_log(random, rates, rows):
    chosen = random.integers(len(rates), size=rows)
    return chosen, (random.random(rows) < rates[chosen]).astype(float)


def test_on_replay_it_earns_more_than_uniform_and_what_it_says_is_unbiased():
    random = np.random.default_rng(4)
    rates = np.array([0.02, 0.03, 0.03, 0.04, 0.1])
    settings = Exploration(uniform_share=0.1, prior_failures=20)
    found = [replay.thompson(*uniform_log(random, rates, 20_000), 5, settings, 500, random) for _ in range(6)]
    earned = np.mean([one.reward for one in found])
    uniform = np.mean([one.uniform for one in found])
    assert uniform == pytest.approx(rates.mean(), abs=0.003)
    # regret against the best arm: less than half of that of uniform draws, learning included
    assert 0.1 - earned < 0.5 * (0.1 - uniform)
    assert all(one.probability.argmax() == 4 for one in found)
    assert all(one.probability.min() >= 0.1 / 5 for one in found)
    # where all choices are alike, what is kept is as good as the log
    same = replay.thompson(*uniform_log(random, np.full(5, 0.1), 20_000), 5, settings, 500, random)
    assert abs(same.reward - 0.1) < 3 * same.error


def test_what_cannot_be_replayed_is_refused():
    random = np.random.default_rng(0)
    with pytest.raises(DataError, match="needs 0 or 1"):
        replay.thompson(np.zeros(3, int), np.array([0, 2, 1]), 2, Exploration(), 2, random)
    with pytest.raises(DataError, match="matches no row"):
        replay.thompson(np.zeros(0, int), np.zeros(0), 2, Exploration(), 2, random)
