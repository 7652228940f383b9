"""From a servable to a pushed version: measured, compared, tried on a server, pushed."""

from __future__ import annotations

from dataclasses import dataclass

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.types import BaseChannel

from components.common.fingerprint import code_version
from components.evaluator.component import Evaluator
from components.funnel_evaluator.component import FunnelEvaluator
from components.infra_validator.component import InfraValidator
from components.pusher.component import Pusher
from pipeline.stages import evaluation
from pipeline.stages.data import Tables
from pipeline.stages.latest_blessed import LatestBlessedOtherModelStrategy
from pipeline.stages.models import Candidates, Model, blessed_models
from pipeline.stages.nodes import rebuilt
from schema.config import Config, dump_sections


@dataclass(frozen=True)
class Verdict:
    """Components in order, and the last one's blessing of the servable."""

    nodes: list[BaseNode]
    blessing: BaseChannel


@dataclass(frozen=True)
class Pushed:
    """The Pusher, and the artifact that records what it pushed."""

    nodes: list[BaseNode]
    pushed_model: BaseChannel


def find_baseline(servable: Model, metadata_path: str | None) -> Model:
    """The last blessed servable, which a new one must not fall behind."""
    # Kubeflow's compiler knows TFX's own strategies only
    strategy = LatestBlessedOtherModelStrategy if metadata_path else LatestBlessedModelStrategy
    baseline = Resolver(
        strategy_class=strategy,
        **({"current": servable.model} if metadata_path else {}),
        **blessed_models(),
    ).with_id("LatestBlessedModel")
    # a resolver has no outputs of its own to re-use
    return Model([rebuilt(baseline)], baseline.outputs["model"])


def evaluate(config: Config, tables: Tables, lists: Candidates, servable: Model, baseline: Model) -> Verdict:
    """Measures the ranking head candidate by candidate, then the whole funnel on the whole catalogue."""
    ranking = Evaluator(
        examples=lists.candidates,
        model=servable.model,
        baseline_model=baseline.model,
        eval_config=evaluation.eval_config(config),
        code_version=code_version("components.evaluator"),
    )
    funnel = FunnelEvaluator(
        **tables.raw_sessions,
        **tables.raw_users,
        candidates=lists.candidates,
        model=servable.model,
        ranking_blessing=ranking.outputs["blessing"],
        baseline_model=baseline.model,
        config=dump_sections(config, "users", "events", "split", "candidates", "quality"),
        code_version=code_version("components.funnel_evaluator"),
    )
    return Verdict([rebuilt(ranking), rebuilt(funnel)], funnel.outputs["blessing"])


def try_serving(config: Config, servable: Model) -> Verdict:
    """Starts a real model server on the servable and asks it."""
    infra = InfraValidator(
        model=servable.model,
        config=dump_sections(config, "infra_validator"),
        code_version=code_version("components.infra_validator"),
    )
    return Verdict([rebuilt(infra)], infra.outputs["blessing"])


def push(servable: Model, quality: Verdict, infra: Verdict, serving_dir: str) -> Pushed:
    """Pushes the servable below `serving_dir` if both verdicts bless it."""
    pusher = Pusher(
        model=servable.model,
        model_blessing=quality.blessing,
        infra_blessing=infra.blessing,
        destination=serving_dir,
        code_version=code_version("components.pusher"),
    )
    return Pushed([rebuilt(pusher)], pusher.outputs["pushed_model"])
