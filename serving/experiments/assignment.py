"""Who is in which arm: a function of the experiment, the user and the moment, and of nothing else.

A user's points on [0, 1) are hashes, so every gateway gives the same answer and nothing has to be stored:

* the *layer* point says which experiment of an exclusion group the user may be in: the one whose
  `layer_slice` holds it;
* the *entry* point says whether the user is in: while it is below the traffic. A larger traffic adds
  users and moves nobody (nested ramps);
* the *arm* point says which arm: arms divide [0, 1) in their order by weight.

The three have salts of their own, so they are independent of each other, and so are two experiments
that are not in one layer (Tang et al., "Overlapping experiment infrastructure", KDD 2010).
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime as dt
import functools
import hashlib
import itertools
import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from schema.config.experiments import Arm, Experiment


@dataclasses.dataclass(frozen=True)
class Assignment:
    """The arm of a user in one experiment.

    Attributes:
      experiment: its name.
      arm: the arm.
    """

    experiment: str
    arm: Arm


def point(salt: str, unit: str) -> float:
    """A unit's point on [0, 1), uniform over units and independent between salts.

    The first 53 bits of BLAKE2b (RFC 7693) of the unit in UTF-8, keyed by BLAKE2b of the salt: a
    float64 holds them exactly, so the point is the same on every machine, and never 1.

    Args:
      salt: what is decided; any text.
      unit: who it is decided for, such as a user id.
    """
    digest = hashlib.blake2b(unit.encode(), digest_size=8, key=_key(salt)).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


@functools.lru_cache(maxsize=1024)
def _key(salt: str) -> bytes:
    return hashlib.blake2b(salt.encode(), digest_size=32).digest()


def points(salt: str, units: Iterable[str]) -> np.ndarray:
    """:func:`point` of several units, float64 [U]."""
    return np.array([point(salt, unit) for unit in units], np.float64)


def traffic(experiment: Experiment, now: float) -> float:
    """Share of its users that an experiment has at a moment.

    Args:
      experiment: the experiment.
      now: unix seconds.
    """
    share = experiment.traffic
    for step in experiment.ramp:
        if step.at.timestamp() <= now:
            share = step.traffic
    return share


def assign(experiment: Experiment, unit: str, now: float, stopped: Collection[str] = ()) -> Assignment | None:
    """The arm of a user.

    Args:
      experiment: the experiment.
      unit: the user's id.
      now: unix seconds.
      stopped: names of experiments that the kill switch ended.

    Returns:
      The assignment; None if the user is not in the experiment or unknown (""), or it was stopped.
    """
    if not unit or experiment.stopped or experiment.name in stopped:
        return None
    if experiment.layer is not None:
        low, high = experiment.layer_slice
        if not low <= point(f"layer:{experiment.layer}", unit) < high:
            return None
    if point(f"entry:{experiment.name}", unit) >= traffic(experiment, now):
        return None
    place = bisect.bisect_right(_bounds(experiment.arms), point(f"arm:{experiment.name}", unit))
    return Assignment(experiment.name, experiment.arms[place])


def assign_list(
    experiments: Sequence[Experiment],
    unit: str,
    surface: str,
    now: float,
    stopped: Collection[str] = (),
) -> Assignment | None:
    """The experiment and arm that a list is made for: one at most.

    Args:
      experiments: the experiments, of which no two can claim the same list of a user (`check_together`).
      unit: the user's id.
      surface: the list, such as home.for_you.
      now: unix seconds.
      stopped: names of experiments that the kill switch ended.

    Returns:
      The assignment; None if the user is in none of them.
    """
    for experiment in experiments:
        if not experiment.surfaces or surface in experiment.surfaces:
            found = assign(experiment, unit, now, stopped)
            if found is not None:
                return found
    return None


def moved(old: Experiment, new: Experiment) -> str | None:
    """Why a change of the configuration moves users who already have an arm; None if it moves nobody.

    Args:
      old: the experiment as it ran.
      new: the experiment of the same name as it is to run.
    """
    if _part(old) != _part(new):
        return f"{new.name}.layer: it was {old.layer} {list(old.layer_slice)}; keep it, or give a new name"
    if [arm.name for arm in old.arms] != [arm.name for arm in new.arms]:
        return f"{new.name}.arms: they were {[arm.name for arm in old.arms]}; keep them, or give a new name"
    if not np.allclose(_bounds(old.arms), _bounds(new.arms), rtol=0, atol=1e-12):
        return f"{new.name}.arms: their weights changed; keep them and change traffic, or give a new name"
    at = sorted({0.0, *(step.at.timestamp() for one in (old, new) for step in one.ramp)})
    for moment in at:
        if traffic(new, moment) < traffic(old, moment):
            when = dt.datetime.fromtimestamp(moment, dt.UTC)
            return (
                f"{new.name}.traffic: {traffic(new, moment):g} is less than the {traffic(old, moment):g} it "
                f"had from {when:%Y-%m-%d %H:%M} on; users would lose their arms. Set stopped to end it"
            )
    return None


def _part(experiment: Experiment) -> tuple[str | None, tuple[float, float]]:
    """The layer and its slice; all of a layer is the same as none."""
    whole = experiment.layer_slice == (0, 1)
    return None if whole else experiment.layer, experiment.layer_slice


def _bounds(arms: Sequence[Arm]) -> list[float]:
    """Upper ends of the arms on [0, 1], without the last, [A - 1]."""
    total = math.fsum(arm.weight for arm in arms)
    return [end / total for end in itertools.accumulate(arm.weight for arm in arms[:-1])]
