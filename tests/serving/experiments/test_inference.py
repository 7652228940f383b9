"""Sums by user, lifts and sequential tests: against plain loops, and against what simulations say."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.simulated_shoppers import LISTS, REVENUE, Shoppers
from serving.experiments import inference, sample_ratio, sequential
from serving.experiments.moments import mean_and_covariance, user_moments

LEVEL = 0.05


def random_log(random, rows=300, units=40, days=5, cells=2):
    unit = random.integers(units, size=rows)
    return {
        "cell": unit % cells,
        "unit": unit,
        "day": random.integers(days, size=rows),
        "values": random.gamma(1, 1, (rows, 2)),
        "fixed": random.normal(size=units)[unit][:, None],
        "shape": (cells, days),
    }


def test_moments_are_sums_over_users_of_their_sums_so_far():
    log = random_log(np.random.default_rng(1))
    found = user_moments(**log)
    for cell in range(2):
        for day in range(5):
            expected = np.zeros((4, 4))
            for unit in set(log["unit"][(log["cell"] == cell) & (log["day"] <= day)].tolist()):
                rows = (log["unit"] == unit) & (log["day"] <= day)
                sums = np.concatenate([[1], log["fixed"][rows][0], log["values"][rows].sum(axis=0)])
                expected += np.outer(sums, sums)
            np.testing.assert_allclose(found[cell, day], expected, rtol=1e-9)


def test_no_rows_give_no_users():
    none = {
        name: value[:0] if name != "shape" else value
        for name, value in random_log(np.random.default_rng(0)).items()
    }
    found = user_moments(**none)
    assert found.shape == (2, 5, 4, 4)
    assert not found.any()
    assert np.isnan(inference.ratios(found, 2, 3).value).all()


@pytest.mark.parametrize(("denominator", "covariates"), [(0, ()), (3, ()), (0, (1,)), (3, (1,))])
def test_the_variance_of_a_ratio_is_that_of_drawing_users_again(denominator, covariates):
    random = np.random.default_rng(2)
    units = 400
    covariate = random.gamma(1, 1, units)
    d = random.poisson(3, units) + 1.0
    sums = np.stack([np.ones(units), covariate, d * random.gamma(2, 0.5, units) + 2 * covariate, d], axis=1)

    def estimate(chosen):  # of two arms, so that the covariate has something to say
        half = units // 2
        moments = np.stack([rows.T @ rows for rows in (sums[chosen[:half]], sums[chosen[half:]])])
        return inference.ratios(moments, 2, denominator, covariates)

    found = estimate(np.arange(units))
    boots = []
    for _ in range(600):
        drawn = estimate(np.concatenate([random.integers(0, 200, 200), random.integers(200, 400, 200)]))
        boots.append(drawn.value[1] - drawn.value[0])
    assert found.variance.sum() == pytest.approx(np.var(boots), rel=0.15)
    assert (found.reduction > 0.1).all() == bool(covariates)


def test_a_covariate_that_never_varies_changes_nothing():
    random = np.random.default_rng(3)
    sums = np.concatenate([np.ones((100, 2)), random.gamma(1, 1, (100, 2))], axis=1)
    moments = np.stack([sums[:50].T @ sums[:50], sums[50:].T @ sums[50:]])
    plain, adjusted = inference.ratios(moments, 2, 3), inference.ratios(moments, 2, 3, (1,))
    np.testing.assert_allclose(adjusted.value, plain.value)
    np.testing.assert_allclose(adjusted.variance, plain.variance)
    assert mean_and_covariance(moments)[0].tolist() == [50, 50]


@pytest.fixture(scope="module")
def no_effect():
    """250 experiments without an effect: 300 users an arm, 28 days, heavy tails, users come back."""
    return Shoppers(users=300).experiments(250, np.random.default_rng(7))


def false_positives(moments, numerator, denominator, covariates=()):
    """At the last day alone, of a t-test repeated every day, and of the sequential test."""
    found = inference.lift(inference.ratios(moments, numerator, denominator, covariates), 1)
    daily = found.p_value()
    ratio = sequential.log_likelihood_ratio(found.log, found.variance, tau=0.4)
    last = sequential.p_values(ratio)[:, -1]
    return np.mean(daily[:, -1] < LEVEL), np.mean(np.nanmin(daily, axis=1) < LEVEL), np.mean(last < LEVEL)


@pytest.mark.parametrize(
    ("denominator", "covariates"), [(0, ()), (LISTS, ()), (0, (1,))], ids=["user", "list", "cuped"]
)
def test_daily_looks_keep_the_level_and_a_daily_t_test_does_not(no_effect, denominator, covariates):
    once, daily, always = false_positives(no_effect, REVENUE, denominator, covariates)
    assert once < LEVEL + 0.04
    assert daily > 4 * LEVEL  # what peeking costs
    assert always < LEVEL + 0.02


def test_an_interval_covers_the_lift_with_clusters_and_heavy_tails():
    shoppers = Shoppers(users=500, days=5, visits=1.0, lift=0.2)
    moments = shoppers.experiments(200, np.random.default_rng(8))[:, :, -1]
    for denominator, covariates in ((0, ()), (LISTS, ()), (LISTS, (1,))):
        low, high = inference.lift(inference.ratios(moments, REVENUE, denominator, covariates), 1).interval(
            LEVEL
        )
        assert 0.90 < np.mean((low <= 0.2) & (high >= 0.2)) < 0.985


def test_cuped_takes_off_the_variance_that_it_says():
    moments = Shoppers(users=300, days=14, visits=0.6, tail=0.7).experiments(200, np.random.default_rng(9))[
        :, :, -1
    ]
    plain = inference.lift(inference.ratios(moments, REVENUE, 0), 1)
    found = inference.ratios(moments, REVENUE, 0, (1,))
    adjusted = inference.lift(found, 1)
    said, seen = np.mean(found.reduction), 1 - np.var(adjusted.log) / np.var(plain.log)
    assert said > 0.3
    assert seen == pytest.approx(said, abs=0.12)
    assert abs(np.mean(adjusted.log)) < 3 * np.std(adjusted.log) / np.sqrt(200)  # and it moves nothing


@pytest.fixture(scope="module")
def walks():
    """Estimates of an effect of 0 at 200 looks, [2000, 200], and their variances [200]."""
    random = np.random.default_rng(10)
    information = np.linspace(10, 2000, 200)
    steps = random.normal(size=(2000, 200)) * np.sqrt(np.diff(information, prepend=0))
    return np.cumsum(steps, axis=1) / information, 1 / information


def test_a_confidence_sequence_is_what_its_likelihood_ratio_does_not_reject(walks):
    estimates, variance = walks
    radius = sequential.radius(variance, 0.1, LEVEL)
    ratio = sequential.log_likelihood_ratio(estimates, variance, 0.1)
    np.testing.assert_array_equal(np.abs(estimates) > radius, ratio > np.log(1 / LEVEL))
    p = sequential.p_values(ratio)
    assert (np.diff(p, axis=1) <= 0).all()
    assert 0.01 < np.mean(p[:, -1] < LEVEL) <= LEVEL  # valid, and not by being idle
    assert np.mean((np.abs(estimates) > 1.96 * np.sqrt(variance)).any(axis=1)) > 0.4


def test_the_one_sided_sequence_has_its_level_on_its_side(walks):
    estimates, variance = walks
    radius = sequential.one_sided_radius(variance, 0.1, LEVEL)
    y = radius * 0.1 / np.sqrt(variance * (variance + 0.01))
    likelihood = 2 * np.sqrt(variance / (variance + 0.01)) * np.exp(y**2 / 2) * stats.norm.cdf(y)
    np.testing.assert_allclose(likelihood, 1 / LEVEL, rtol=1e-9)
    assert 0.01 < np.mean((estimates > radius).any(axis=1)) <= LEVEL
    assert (radius < sequential.radius(variance, 0.1, LEVEL)).all()


def test_the_mixture_is_tightest_where_it_is_meant_to_be():
    lift = 0.1
    tau = sequential.mixture_sd(lift)
    variance = (np.log1p(lift) / 3) ** 2  # at 3 standard errors
    others = [sequential.radius(variance, tau * factor, LEVEL) for factor in (0.8, 0.95, 1.05, 1.25)]
    assert sequential.radius(variance, tau, LEVEL) < min(others)


def test_looks_without_data_say_nothing():
    ratio = np.array([np.nan, 1.0, np.nan, 3.5, 2.0])
    assert sequential.p_values(ratio) == pytest.approx(np.exp([0, -1, -1, -3.5, -3.5]))
    low, high = sequential.running(np.array([np.nan, -2, -3, -1]), np.array([np.nan, 5, 6, 2]))
    assert low[1:].tolist() == [-2, -2, -1]
    assert high[1:].tolist() == [5, 5, 2]
    assert np.isnan([low[0], high[0]]).all()


def test_arm_sizes_may_be_looked_at_daily_and_a_loss_of_users_is_found():
    random = np.random.default_rng(11)
    weights = np.array([1, 1])

    def daily(share, count=1000):
        first = np.cumsum(random.binomial(400, share, (count, 28)), axis=1)
        return np.stack([first, 400 * np.arange(1, 29) - first], axis=-1)

    fair = daily(0.5)
    assert np.mean(sample_ratio.p_values(fair, weights)[:, -1] < LEVEL) <= LEVEL
    one_look = sample_ratio.one_look(fair, weights)
    assert np.mean(one_look.min(axis=1) < LEVEL) > 3 * LEVEL
    assert np.mean(one_look[:, -1] < LEVEL) < LEVEL + 0.05
    lossy = daily(0.47)  # 6 % of one arm's users are lost
    assert np.mean(sample_ratio.p_values(lossy, weights)[:, -1] < 0.001) > 0.9
    assert sample_ratio.one_look(np.array([0, 0]), weights) == 1
