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
from schema.errors import UserError


@component
def Pusher(
    model: InputArtifact[standard_artifacts.Model],
    infra_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    pushed_model: OutputArtifact[standard_artifacts.PushedModel],
    destination: Parameter[str],
    code_version: Parameter[str],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing] = None,
    ranking_blessing: InputArtifact[standard_artifacts.ModelBlessing] = None,
    search_blessing: InputArtifact[standard_artifacts.ModelBlessing] = None,
) -> None:
    """Pushes a servable that all validators blessed; like TFX's Pusher, but in one step.

    Args:
      model: the servable; weights.npz in the same artifact goes with it.
      infra_blessing: InfraValidator's verdict.
      pushed_model: custom properties `pushed` (0 or 1), `pushed_version` and
        `pushed_destination`, as TFX's Pusher sets them.
      destination: folder of version directories.
      code_version: part of the cache key.
      model_blessing: FunnelEvaluator's verdict and figures; None in a shop without events.
      ranking_blessing: the Evaluator's figures; FunnelEvaluator's verdict includes its verdict.
      search_blessing: SearchEvaluator's verdict and figures; None in a shop without search.
    """
    del code_version
    verdicts = {
        "FunnelEvaluator": model_blessing,
        "SearchEvaluator": search_blessing,
        "InfraValidator": infra_blessing,
    }
    if model_blessing is None and search_blessing is None:
        raise UserError(f"{model.uri}: no evaluator judged the model; it is not pushed unseen")
    refused = [
        name
        for name, blessing in verdicts.items()
        if blessing is not None and blessing.get_int_custom_property("blessed") != 1
    ]
    if refused:
        pushed_model.set_int_custom_property("pushed", 0)
        pushed_model.set_string_custom_property(
            "summary", f"not pushed: not blessed by {' and '.join(refused)}"
        )
        return
    saved_model, weights = artifacts.model_folder(model.uri), os.path.join(model.uri, artifacts.WEIGHTS)
    judged = (model_blessing, ranking_blessing, search_blessing)
    lines = [registry.line_of(blessing) for blessing in judged if blessing is not None]
    has_weights = tf.io.gfile.exists(weights)
    record = registry.PushRecord(
        model=model.uri,
        identity=registry.identity(saved_model),
        pushed_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        learned_until=warm_start.learned_until(weights) if has_weights else None,
        window=next((line.window for line in lines if line.window), None),
        baseline=next((line.baseline for line in lines if line.baseline), None),
        figures={name: value for line in lines for name, value in line.figures.items()},
        standing={name: value for line in lines for name, value in line.standing.items()},
        software=registry.software(),
    )
    version = executor.push(saved_model, destination, record, weights if has_weights else None)
    pushed_model.set_int_custom_property("pushed", 1)
    pushed_model.set_string_custom_property("pushed_version", str(version))
    pushed_model.set_string_custom_property("pushed_destination", f"{destination.rstrip('/')}/{version}")
    pushed_model.set_string_custom_property("summary", f"version {version} to {destination}")
