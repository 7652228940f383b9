"""Arms for the lists of users, with a kill switch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from schema import names as F
from schema.config.experiments import Experiment
from serving.experiments.assignment import assign_list


class Arm(NamedTuple):
    """How a list is made, where an experiment decides it.

    Attributes:
      experiment, arm: names; "" for none.
      label: version label of the model; "" for the default.
      diversity, drop_bought_days: of `recommend`; None for the shop's own.
    """

    experiment: str = ""
    arm: str = ""
    label: str = ""
    diversity: float | None = None
    drop_bought_days: float | None = None


class Experiments:
    """The experiments of a gateway.

    Args:
      experiments: of the configuration.
      now: gives unix seconds.

    Attributes:
      stopped: those that were stopped by hand, and since when (unix seconds); the app reads them again
        every two seconds, and keeps them while the store does not answer.
    """

    def __init__(self, experiments: Sequence[Experiment], now: Callable[[], float]) -> None:
        self._experiments, self._now = experiments, now
        self.stopped: Mapping[str, float] = {}

    def arm_of(self, user_id: str, surface: str) -> Arm:
        """The arm that a list is made for; none for somebody unknown, or in no experiment."""
        found = assign_list(self._experiments, user_id, surface, self._now(), self.stopped)
        if found is None:
            return Arm()
        own = found.arm.parameters
        return Arm(
            found.experiment,
            found.arm.name,
            found.arm.label or "",
            own.get(F.DIVERSITY),
            own.get(F.DROP_BOUGHT_DAYS),
        )

    def runs(self, experiment: Experiment) -> bool:
        """Whether an experiment is stopped neither by its configuration nor by hand."""
        return not experiment.stopped and experiment.name not in self.stopped
