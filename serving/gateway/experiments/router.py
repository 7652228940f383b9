"""`/v1/experiments`."""

from __future__ import annotations

from fastapi import APIRouter

from serving.experiments.assignment import traffic
from serving.gateway.errors import responses
from serving.gateway.keys import allowed
from serving.gateway.lists.schemas import Answer
from serving.gateway.services import ServicesDep

router = APIRouter(tags=["experiments"], responses=responses(), dependencies=[allowed("operator")])


class ArmAnswer(Answer):
    """One of the things that are compared; the first is the control."""

    name: str
    weight: float
    label: str | None
    parameters: dict[str, float]


class ExperimentAnswer(Answer):
    """One experiment."""

    name: str
    running: bool
    """False if it was stopped, by the configuration or by hand."""
    stopped_at: float | None
    """Unix seconds at which it was stopped by hand."""
    traffic: float
    """Share of its users that are in it now."""
    layer: str | None
    surfaces: list[str]
    """Lists that it changes; all if empty."""
    arms: list[ArmAnswer]


class ExperimentsAnswer(Answer):
    """All experiments of the configuration."""

    experiments: list[ExperimentAnswer]


@router.get("/v1/experiments")
async def experiments(services: ServicesDep) -> ExperimentsAnswer:
    """The experiments, whether they run, and with how many users."""
    stopped, now = services.experiments.stopped, services.clock.now()
    return ExperimentsAnswer(
        experiments=[
            ExperimentAnswer(
                name=each.name,
                running=services.experiments.runs(each),
                stopped_at=stopped.get(each.name),
                traffic=traffic(each, now),
                layer=each.layer,
                surfaces=each.surfaces,
                arms=[
                    ArmAnswer(
                        name=arm.name, weight=arm.weight, label=arm.label, parameters=dict(arm.parameters)
                    )
                    for arm in each.arms
                ],
            )
            for each in services.settings.experiments
        ]
    )
