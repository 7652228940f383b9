"""Whether the statistics of experiments keep what they promise: simulations with a known truth.

    python -m benchmarks.experiments              # all; about three minutes of one core
    python -m benchmarks.experiments --only bandit

Every figure of docs/experiments.md is printed here; a seed makes them the same each time.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.simulated_lists import World
from benchmarks.simulated_shoppers import LISTS, REVENUE, Shoppers
from schema.config.experiments import Exploration
from serving.experiments import inference, off_policy, replay, sample_ratio, sequential
from serving.experiments.report import MIN_OUTCOMES

_LEVEL = 0.05
_BATCH = 100  # experiments simulated at a time
_METRICS = {"revenue per user": (0, ()), "revenue per list": (LISTS, ()), "per user, CUPED": (0, (1,))}
_WORLDS = {
    "heavy tail": Shoppers(users=500),
    "heavier tail": Shoppers(users=500, tail=1.8),
    "fewer users": Shoppers(users=250),
    "frequent users": Shoppers(users=500, visits=1.5),
}


def _lifts(shoppers: Shoppers, count: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Metric -> log lifts, variances and variance reductions, each [count, days]; NaN where the report
    would say that there are too few outcomes.
    """
    parts: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in _METRICS}
    for batch in range(count // _BATCH):
        moments = shoppers.experiments(_BATCH, np.random.default_rng([seed, batch]))
        for name, (denominator, covariates) in _METRICS.items():
            found = inference.ratios(moments, REVENUE, denominator, covariates)
            lift = inference.lift(found, 1)
            enough = found.outcomes.min(axis=0) >= MIN_OUTCOMES
            parts[name].append(
                (np.where(enough, lift.log, np.nan), lift.variance, found.reduction.mean(axis=0))
            )
    return {name: tuple(map(np.concatenate, zip(*found, strict=True))) for name, found in parts.items()}


def peeking(count: int) -> list[str]:
    """A/A experiments: how often something is found that is not there."""
    tau = sequential.mixture_sd(0.5)
    lines = [
        f"A/A, {count} experiments each, 28 daily looks, level 5 %: share with a false positive",
        f"{'':34}t-test, last day   t-test daily   sequential daily   its worst mixture",
    ]
    for seed, (world, shoppers) in enumerate(_WORLDS.items()):
        for name, (log, variance, _) in _lifts(shoppers, count, seed).items():
            daily = inference.Lift(log, variance).p_value()
            ever = [
                np.mean(
                    sequential.p_values(sequential.log_likelihood_ratio(log, variance, each))[:, -1] < _LEVEL
                )
                for each in (tau, 0.02, 0.1, 0.4, 0.8)
            ]
            lines.append(
                f"{world + ', ' + name:34}{np.mean(daily[:, -1] < _LEVEL):>15.1%}"
                f"{np.mean(np.fmin.reduce(daily, axis=1) < _LEVEL):>15.1%}{ever[0]:>19.1%}{max(ever):>20.1%}"
            )
    return lines


def coverage(count: int) -> list[str]:
    """Intervals of a lift of 50 %, at the last day, and confidence sequences at all days."""
    truth = 0.5
    tau = sequential.mixture_sd(truth)
    lines = [
        f"lift of {truth:+.0%}, {count} experiments each: share in which the truth is inside (95 % wanted), "
        "and in which a lift is found",
        f"{'':34}interval, last day   sequence, all days   found by t-test, last day   by sequence   "
        "variance taken off",
    ]
    for seed, (world, shoppers) in enumerate(_WORLDS.items()):
        lifted = dataclasses.replace(shoppers, lift=truth)
        for name, (log, variance, reduction) in _lifts(lifted, count, 100 + seed).items():
            said = np.isfinite(log[:, -1])
            low, high = inference.Lift(log[said, -1], variance[said, -1]).interval(_LEVEL)
            radius = sequential.radius(variance, tau, _LEVEL)
            outside = (np.abs(log - np.log1p(truth)) > radius).any(axis=1)
            lines.append(
                f"{world + ', ' + name:34}{np.mean((low <= truth) & (high >= truth)):>18.1%}"
                f"{1 - outside.mean():>21.1%}{np.sum(low > 0) / len(said):>28.1%}"
                f"{(log > radius).any(axis=1).mean():>14.1%}{reduction[:, -1].mean():>21.0%}"
            )
    return lines


def sizes(count: int) -> list[str]:
    """The check of the arms' sizes: 400 new users a day for 28 days, half to each arm."""
    lines = [
        f"arms' sizes, {count} experiments each, daily looks: share that is called wrong",
        f"{'users lost of one arm':34}chi-square daily, 5 %   always valid, 5 %   always valid, 0.1 %",
    ]
    random = np.random.default_rng(1)
    for lost in (0.0, 0.02, 0.04, 0.06, 0.1):
        first = np.cumsum(random.binomial(400, (1 - lost) / (2 - lost), (count, 28)), axis=1)
        users = np.stack([first, 400 * np.arange(1, 29) - first], axis=-1)
        always = sample_ratio.p_values(users, np.ones(2))[:, -1]
        naive = sample_ratio.one_look(users, np.ones(2)).min(axis=1)
        lines.append(
            f"{lost:<34.0%}{np.mean(naive < 0.05):>21.1%}{np.mean(always < 0.05):>20.1%}"
            f"{np.mean(always < 0.001):>22.1%}"
        )
    return lines


def estimates(count: int) -> list[str]:
    """Off-policy estimates of a new policy."""
    lines = []
    for users in (200, 2000):
        random = np.random.default_rng(users)
        world = World.of(random)
        found: dict[str, list[tuple[float, float, bool, float]]] = {}
        logged = []
        for _ in range(count):
            log, item, kind = world.log(random, users, 4)
            predicted, expected = world.reward_model(log, item, kind)
            for name, one in (
                ("IPS", off_policy.ips(log)),
                ("IPS clipped at 3", off_policy.ips(log, clip=3.0)),
                ("SNIPS", off_policy.snips(log)),
                ("doubly robust", off_policy.doubly_robust(log, predicted, expected)),
            ):
                low, high = one.interval()
                found.setdefault(name, []).append(
                    (one.value, one.error, low <= world.value <= high, one.effective)
                )
            logged.append(log.reward.sum() / (4 * users))
        lines += [
            f"off-policy, {count} logs of {4 * users} lists of {users} users: clicks of a list; the truth is "
            f"{world.value:.4f}, the log had {np.mean(logged):.4f}",
            f"{'':34}bias      standard deviation   mean error   95 % covers   effective rows",
        ]
        for name, rows in found.items():
            value, error, covered, effective = np.array(rows, float).T
            lines.append(
                f"{name:34}{value.mean() - world.value:+.4f}{value.std():>22.4f}{error.mean():>13.4f}"
                f"{covered.mean():>14.1%}{effective.mean():>14.0f} of {12 * users}"
            )
    return lines


def bandit(count: int) -> list[str]:
    """Thompson sampling on uniform logs of new items."""
    runs = max(count // 50, 4)
    lines = [
        f"bandit, {runs} replays of 100,000 uniform showings, 20 new items, updates every 1,000: clicks "
        "a showing",
        f"{'rates of the items':34}best     uniform   bandit    regret of uniform's   smallest share",
    ]
    settings = Exploration(uniform_share=0.1)
    for name, (a, b) in {"Beta(1, 30)": (1.0, 30.0), "Beta(4, 120), much alike": (4.0, 120.0)}.items():
        random = np.random.default_rng(int(b))
        rows = []
        for _ in range(runs):
            rates = random.beta(a, b, 20)
            chosen = random.integers(20, size=100_000)
            clicked = (random.random(100_000) < rates[chosen]).astype(float)
            one = replay.thompson(chosen, clicked, 20, settings, 1000, random)
            rows.append((rates.max(), rates.mean(), one.reward, one.probability.min()))
        best, uniform, reward, least = np.mean(rows, axis=0)
        lines.append(
            f"{name:34}{best:.4f}{uniform:>10.4f}{reward:>10.4f}{(best - reward) / (best - uniform):>18.0%}"
            f"{least:>21.4f}"
        )
    return lines


_PARTS: dict[str, Callable[[int], list[str]]] = {
    "peeking": peeking,
    "coverage": coverage,
    "sizes": sizes,
    "estimates": estimates,
    "bandit": bandit,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what the simulations say; returns the exit status."""
    parser = argparse.ArgumentParser(description="Validates the statistics of experiments by simulation.")
    parser.add_argument("--only", choices=_PARTS, help="one part")
    parser.add_argument("--count", type=int, default=1000, help="experiments of each kind (default: 1000)")
    args = parser.parse_args(argv)
    for name, part in _PARTS.items():
        if args.only in (None, name):
            print("\n".join(part(max(args.count, _BATCH))), end="\n\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
