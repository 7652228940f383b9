"""Pusher's component spec (no `from __future__ import annotations`: see TFX)."""

import datetime as dt
import os

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.common import artifacts, registry
from components.pusher import executor
from models.retrieval import warm_start


@component
def Pusher(
    model: InputArtifact[standard_artifacts.Model],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    ranking_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    infra_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    pushed_model: OutputArtifact[standard_artifacts.PushedModel],
    destination: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Pushes a servable that both validators blessed; like TFX's Pusher, but in one step.

    Args:
      model: the servable; weights.npz in the same artifact goes with it.
      model_blessing: FunnelEvaluator's verdict and figures.
      ranking_blessing: the Evaluator's figures; FunnelEvaluator's verdict includes its verdict.
      infra_blessing: InfraValidator's verdict.
      pushed_model: custom properties `pushed` (0 or 1), `pushed_version` and
        `pushed_destination`, as TFX's Pusher sets them.
      destination: folder of version directories.
      code_version: part of the cache key.
    """
    del code_version
    refused = [
        name
        for name, blessing in (("FunnelEvaluator", model_blessing), ("InfraValidator", infra_blessing))
        if blessing.get_int_custom_property("blessed") != 1
    ]
    if refused:
        pushed_model.set_int_custom_property("pushed", 0)
        pushed_model.set_string_custom_property(
            "summary", f"not pushed: not blessed by {' and '.join(refused)}"
        )
        return
    saved_model, weights = artifacts.model_folder(model.uri), os.path.join(model.uri, artifacts.WEIGHTS)
    funnel, ranking = (registry.line_of(blessing) for blessing in (model_blessing, ranking_blessing))
    has_weights = tf.io.gfile.exists(weights)
    record = registry.PushRecord(
        model=model.uri,
        identity=registry.identity(saved_model),
        pushed_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        learned_until=warm_start.learned_until(weights) if has_weights else None,
        window=funnel.window,
        baseline=funnel.baseline,
        figures=ranking.figures | funnel.figures,
        standing=ranking.standing | funnel.standing,
        software=registry.software(),
    )
    version = executor.push(saved_model, destination, record, weights if has_weights else None)
    pushed_model.set_int_custom_property("pushed", 1)
    pushed_model.set_string_custom_property("pushed_version", str(version))
    pushed_model.set_string_custom_property("pushed_destination", f"{destination.rstrip('/')}/{version}")
    pushed_model.set_string_custom_property("summary", f"version {version} to {destination}")
