"""How far a line of releases may slip: a tolerated loss must not add up.

Every release may lose a little against the one before it, because a measurement is uncertain. Ten
releases of -2 % each are -18 %, and none of them was refused. So each pushed version carries, for
every figure that a gate compares, its *standing*: its quality relative to the best version of its
line, 1 for the best itself.

Numbers of different releases cannot be compared directly: another evaluation window has other users
who buy other things. Ratios can: a new model and its baseline, the version pushed before it, are scored
on the same requests and the same purchases. With the ratio r = new / baseline (baseline / new for a
figure that should be small), the standing follows release by release:

    s(first) = 1
    s(new)   = min(1, s(baseline) * r)

which is the product of all ratios since the best version. A new model is good enough if

    s(baseline) * r >= 1 - tolerance                  higher is better
    s(baseline) * r >= 1 / (1 + tolerance)            lower is better

With s(baseline) = 1 that is the comparison with the baseline alone. Each ratio has a standard error,
so a line whose quality does not change stands a little below 1 after a while; a model that measures
better lifts it again.

No version stands lower than a run tolerates, unless it was pushed under a wider tolerance. That is how
an operator accepts a loss for good (items were withdrawn that the last model still recommends): such a
version begins a new line, and counts with standing 1.
"""

from __future__ import annotations

from collections.abc import Mapping

START = 1.0
_ROUNDING = 1e-6
# Pushed with the gates wide open, a model may have lost everything; its line goes on from here.
_LEAST = 1e-3


def before(
    standings: Mapping[str, float], figure: str, tolerance: float, lower_is_better: bool = False
) -> float:
    """Standing that a baseline counts with.

    Args:
      standings: of the baseline, by figure.
      figure: whose; a figure that is new has none and begins its line.
      tolerance: relative loss that this run tolerates.
      lower_is_better: of the figure.
    """
    least = 1 / (1 + tolerance) if lower_is_better else 1 - tolerance
    found = standings.get(figure, START)
    return found if found >= least - _ROUNDING else START


def ratio(new: float, baseline: float, lower_is_better: bool = False) -> float:
    """Quality of a new model relative to its baseline; 1 where the figure to divide by is 0."""
    if lower_is_better:
        new, baseline = baseline, new
    return new / baseline if baseline > 0 else 1.0


def after(baseline: float, change: float) -> float:
    """Standing of a new model.

    Args:
      baseline: standing that its baseline counts with.
      change: from :func:`ratio`.
    """
    return min(START, max(baseline * change, _LEAST))


def floor(value: float, baseline: float, tolerance: float) -> float:
    """The least value that is good enough, of a figure that should be high.

    Args:
      value: the baseline's on the same data.
      baseline: standing that the baseline counts with.
      tolerance: relative loss that is tolerated against the best of the line.
    """
    return value * (1 - tolerance) / baseline


def least_change(baseline: float, tolerance: float) -> float:
    """The same as a relative change, (new - baseline) / baseline: above -tolerance by what was lost."""
    return -tolerance + (1 - tolerance) * (1 / baseline - 1)


def most_change(baseline: float, tolerance: float) -> float:
    """The largest relative change that is good enough, of a figure that should be low."""
    return tolerance - (1 + tolerance) * (1 - baseline)
