"""Experiments on shoppers: who sees what, what counts as better, and how much is left to chance."""

from __future__ import annotations

import datetime as dt

import pydantic
from pydantic import Field

from schema import names as F
from schema.config.base import Name, Section

# Inputs of a request that an arm may set.
PARAMETERS = (F.DIVERSITY, F.DROP_BOUGHT_DAYS)


class Arm(Section):
    """One of the things that are compared."""

    name: Name
    """Name of the arm in logs and reports."""
    weight: float = Field(1.0, gt=0)
    """Share of the experiment's users, relative to the other arms.

    It stays as it is while the experiment runs: another weight would move users who already have an arm.
    To show an arm to more users, raise `traffic`.
    """
    label: str | None = Field(None, min_length=1)
    """Version label of the model that answers, such as stable or canary; the gateway's own if not given."""
    parameters: dict[str, float] = {}
    """Inputs of the request that the arm sets: diversity, drop_bought_days."""

    @pydantic.field_validator("parameters")
    @classmethod
    def _known(cls, parameters: dict[str, float]) -> dict[str, float]:
        for name, value in parameters.items():
            if name not in PARAMETERS:
                raise ValueError(f"'{name}' is no parameter of an arm; known are {', '.join(PARAMETERS)}")
            if not 0 <= value <= (1 if name == F.DIVERSITY else float("inf")):
                raise ValueError(f"{name} {value:g} is out of range")
        return parameters


class RampStep(Section):
    """A share of traffic from a moment on."""

    at: dt.datetime
    """When the step begins; UTC if no offset is given."""
    traffic: float = Field(ge=0, le=1)
    """Share of users in the experiment from then on."""

    @pydantic.field_validator("at")
    @classmethod
    def _with_zone(cls, at: dt.datetime) -> dt.datetime:
        return at if at.tzinfo else at.replace(tzinfo=dt.UTC)


class Guardrail(Section):
    """A metric that must not get worse."""

    metric: Name
    """One of the report's metrics."""
    margin: float = Field(0.02, ge=0, lt=1)
    """Relative loss that is tolerated: 0.02 is 2 %."""


class Experiment(Section):
    """One experiment: its arms, who is in it, and what it is decided by."""

    name: Name
    """Name in logs and reports. Another name gives another, independent division of the users."""
    arms: list[Arm] = Field(min_length=2)
    """What is compared; the first is the control."""
    traffic: float = Field(1.0, ge=0, le=1)
    """Share of users in the experiment before the first step of `ramp`.

    When it grows, those who are in it stay in it, in their arms.
    """
    ramp: list[RampStep] = []
    """Steps that raise the traffic at given moments."""
    layer: Name | None = None
    """Exclusion group: a user is in at most one experiment of a layer. None: independent of all others."""
    layer_slice: tuple[float, float] = (0.0, 1.0)
    """Part of the layer's users, from (included) to (excluded), that this experiment may have."""
    surfaces: list[str] = []
    """Lists that the arms change, such as home.for_you or search.results; empty: all."""
    stopped: bool = False
    """Kill switch: everybody gets what they would get without the experiment."""
    primary_metric: Name = "revenue_per_user"
    """The metric that the decision rests on; the others only describe."""
    guardrails: list[Guardrail] = []
    """Metrics that must not get worse; a breach ends the experiment's case."""
    expected_lift: float = Field(0.05, gt=0, le=1)
    """Relative effect that the sequential test is most sensitive to.

    It sets the width of the test's mixture before the data are seen. Any value keeps the false positives at
    the level; one of the right order finds an effect soonest.
    """
    level: float = Field(0.05, gt=0, le=0.2)
    """False positives that are allowed over the whole experiment, however often one looks."""
    attribution_days: float = Field(7.0, gt=0)
    """An outcome counts for the latest list that showed the item within this many days before it."""

    @property
    def control(self) -> str:
        """Name of the arm that the others are compared with."""
        return self.arms[0].name

    @pydantic.model_validator(mode="after")
    def _one_meaning(self) -> Experiment:
        names = [arm.name for arm in self.arms]
        if len({*names}) < len(names):
            raise ValueError(f"arms: {names} has a name twice; give each arm its own")
        low, high = self.layer_slice
        if not 0 <= low < high <= 1:
            raise ValueError(f"layer_slice: ({low:g}, {high:g}) is no part of 0 to 1; give from < to")
        if self.layer is None and (low, high) != (0, 1):
            raise ValueError("layer_slice: means nothing without a layer; give layer, or use traffic")
        steps = [self.traffic, *(step.traffic for step in self.ramp)]
        if steps != sorted(steps):
            raise ValueError(
                f"ramp: the traffic {steps} falls, which takes users out of their arms; set stopped to end it"
            )
        times = [step.at for step in self.ramp]
        if any(later <= earlier for earlier, later in zip(times, times[1:], strict=False)):
            raise ValueError("ramp: its moments do not ascend; order the steps by `at`")
        return self


class Exploration(Section):
    """What is left to chance to learn about new items (Thompson sampling)."""

    share: float = Field(0.0, ge=0, le=0.5)
    """Share of a list's places for exploration; 0 switches it off."""
    uniform_share: float = Field(0.1, gt=0, le=1)
    """Share of the draws that are uniform: of N choices, each is drawn with at least uniform_share / N.

    It bounds the weights of off-policy estimates, and keeps looking at what was unlucky at first.
    """
    prior_successes: float = Field(1.0, gt=0)
    """Clicks that a new item is taken to have had already (Beta prior)."""
    prior_failures: float = Field(20.0, gt=0)
    """Times shown without a click that a new item is taken to have had already."""
    days: float = Field(28.0, gt=0)
    """Days for which a showing counts."""
    max_choices: int = Field(50, ge=2, le=200)
    """New items at most among which it is drawn; the model's order says which."""


def check_together(experiments: list[Experiment]) -> list[Experiment]:
    """Whether experiments can run at the same time.

    Raises:
      ValueError: two have one name, share users of a layer, or change the same list without a layer
        that keeps their users apart.
    """
    for index, one in enumerate(experiments):
        for other in experiments[index + 1 :]:
            if one.name == other.name:
                raise ValueError(f"'{one.name}' is the name of two experiments; give each its own")
            apart = one.layer is not None and one.layer == other.layer
            first, second = sorted([one, other], key=lambda either: either.layer_slice)
            if apart and second.layer_slice[0] < first.layer_slice[1]:
                raise ValueError(
                    f"'{first.name}' {list(first.layer_slice)} and '{second.name}' "
                    f"{list(second.layer_slice)} share users of layer '{one.layer}'; give them slices "
                    f"that do "
                    "not overlap"
                )
            same = {*one.surfaces} & {*other.surfaces} or not one.surfaces or not other.surfaces
            if same and not apart:
                raise ValueError(
                    f"'{one.name}' and '{other.name}' change the same list, which is logged for one "
                    f"experiment; "
                    "put them into one layer with slices, or give them different surfaces"
                )
    return experiments
