"""What a bandit would have earned, from a log of uniformly random choices."""

from __future__ import annotations

import dataclasses

import numpy as np

from schema.config.experiments import Exploration
from schema.errors import DataError
from serving.experiments.bandit import Beliefs, mixed, probability_best


@dataclasses.dataclass(frozen=True)
class Replayed:
    """How the bandit did.

    Attributes:
      reward: mean reward of the rows that it would have chosen too.
      error: its standard error.
      uniform: mean reward of all rows.
      matched: number of rows that it would have chosen too.
      probability: of each choice at the end, float64 [N].
    """

    reward: float
    error: float
    uniform: float
    matched: int
    probability: np.ndarray


def thompson(
    chosen: np.ndarray,
    reward: np.ndarray,
    choices: int,
    settings: Exploration,
    batch: int,
    random: np.random.Generator,
) -> Replayed:
    """Replays a log through Thompson sampling.

    A row whose logged choice is the one that the bandit draws is kept, and the bandit learns from it; the
    others are as if they had never been. If the log chose uniformly, the kept rows are distributed as if
    the bandit had made them (Li, Chu, Langford and Wang, "Unbiased offline evaluation of
    contextual-bandit-based news article recommendation algorithms", WSDM 2011).

    Args:
      chosen: logged choice of each row, int [E], 0 to N - 1.
      reward: 0 or 1, [E].
      choices: N.
      settings: the prior and the uniform share.
      batch: rows of the log between updates of the posteriors.
      random: draws the bandit's choices.

    Raises:
      DataError: no row was matched, or a reward is neither 0 nor 1.
    """
    reward = np.asarray(reward, np.float64)
    if not np.isin(reward, (0, 1)).all():
        raise DataError("reward: a bandit of clicks needs 0 or 1; give whether there was a click")
    successes, showings = np.zeros(choices), np.zeros(choices)
    kept = []
    for start in range(0, len(chosen), batch):
        probability = mixed(
            probability_best(Beliefs.of(successes, showings, settings)), settings.uniform_share
        )
        rows = slice(start, start + batch)
        drawn = random.choice(choices, size=len(chosen[rows]), p=probability)
        match = drawn == chosen[rows]
        arms, rewards = chosen[rows][match], reward[rows][match]
        showings += np.bincount(arms, minlength=choices)
        successes += np.bincount(arms, rewards, minlength=choices)
        kept.append(rewards)
    earned = np.concatenate(kept) if kept else np.zeros(0)
    if not len(earned):
        raise DataError("replay: the bandit matches no row of the log; give a longer log")
    return Replayed(
        reward=float(earned.mean()),
        error=float(earned.std() / np.sqrt(len(earned))),
        uniform=float(reward.mean()),
        matched=len(earned),
        probability=mixed(
            probability_best(Beliefs.of(successes, showings, settings)), settings.uniform_share
        ),
    )
