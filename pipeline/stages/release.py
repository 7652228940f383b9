"""From a servable to a pushed version: measured, compared, tried on a server, pushed."""

from __future__ import annotations

from dataclasses import dataclass

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.types import BaseChannel

from components.common.fingerprint import code_version
from components.evaluator.component import Evaluator
from components.funnel_evaluator import settings as funnel_evaluator
from components.funnel_evaluator.component import FunnelEvaluator
from components.infra_validator import settings as infra_validator
from components.infra_validator.component import InfraValidator
from components.model_registry.component import BaselineModel
from components.pusher.component import Pusher
from pipeline.stages import evaluation
from pipeline.stages.data import Tables
from pipeline.stages.models import Candidates, Model
from pipeline.stages.nodes import rebuilt
from pipeline.stages.search import SearchQuality
from schema.config import Config


@dataclass(frozen=True)
class Baseline:
    """The pushed version that a new one is compared with: who looks for it, and the answer."""

    nodes: list[BaseNode]
    version: Placeholder


@dataclass(frozen=True)
class Quality:
    """Both evaluators, and their blessings: of the ranking head, and of the whole funnel (which counts)."""

    nodes: list[BaseNode]
    ranking_blessing: BaseChannel
    blessing: BaseChannel


@dataclass(frozen=True)
class Infra:
    """InfraValidator, and its blessing."""

    nodes: list[BaseNode]
    blessing: BaseChannel


@dataclass(frozen=True)
class Pushed:
    """The Pusher, and the artifact that records what it pushed."""

    nodes: list[BaseNode]
    pushed_model: BaseChannel


def find_baseline(servable: Model, serving_dir: str) -> Baseline:
    """The version below `serving_dir` that the servable must not fall behind."""
    baseline = BaselineModel(
        model=servable.model,
        destination=serving_dir,
        code_version=code_version("components.model_registry"),
    )
    return Baseline([rebuilt(baseline)], baseline.outputs["version"].future()[0].value)


def evaluate(
    config: Config, tables: Tables, lists: Candidates, servable: Model, baseline: Baseline
) -> Quality:
    """Measures the ranking head candidate by candidate, then the whole funnel on the whole catalogue."""
    ranking = Evaluator(
        examples=lists.candidates,
        model=servable.model,
        baseline=baseline.version,
        eval_config=evaluation.eval_config(config),
        code_version=code_version("components.evaluator"),
    )
    funnel = FunnelEvaluator(
        **tables.raw_sessions,
        **tables.raw_users,
        candidates=lists.candidates,
        model=servable.model,
        ranking_blessing=ranking.outputs["blessing"],
        baseline=baseline.version,
        config=funnel_evaluator.Settings.of(config).to_json(),
        code_version=code_version("components.funnel_evaluator"),
    )
    return Quality(
        [rebuilt(ranking), rebuilt(funnel)], ranking.outputs["blessing"], funnel.outputs["blessing"]
    )


def try_serving(config: Config, servable: Model) -> Infra:
    """Starts a real model server on the servable and asks it."""
    infra = InfraValidator(
        model=servable.model,
        config=infra_validator.Settings.of(config).to_json(),
        code_version=code_version("components.infra_validator"),
    )
    return Infra([rebuilt(infra)], infra.outputs["blessing"])


def push(
    servable: Model, quality: Quality | None, search: SearchQuality, infra: Infra, serving_dir: str
) -> Pushed:
    """Pushes the servable below `serving_dir` if all verdicts bless it; `quality` is None without events."""
    blessings = dict(search.blessing)
    if quality is not None:
        blessings |= {"model_blessing": quality.blessing, "ranking_blessing": quality.ranking_blessing}
    pusher = Pusher(
        model=servable.model,
        **blessings,
        infra_blessing=infra.blessing,
        destination=serving_dir,
        code_version=code_version("components.pusher"),
    )
    return Pushed([rebuilt(pusher)], pusher.outputs["pushed_model"])
