"""TFX's Evaluator against a pushed version, whose line of releases must not slip."""

from __future__ import annotations

import math
from typing import Any

import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tfx.components.evaluator import constants, executor
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs

from components.common import registry, standing

BASELINE = "baseline"


class Executor(executor.Executor):
    """Compares with a version of the registry instead of an artifact of the metadata store."""

    def Do(
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See TFX's base class; `exec_properties` also has `baseline`, a `registry.Reference`."""
        baseline = registry.read_reference(exec_properties[BASELINE])
        key = standard_component_specs.EVAL_CONFIG_KEY
        config = json_format.Parse(exec_properties[key], tfma.EvalConfig())
        held = hold(config, baseline) if baseline else config
        if baseline:
            model = standard_artifacts.Model()
            model.uri = baseline.folder
            input_dict = input_dict | {standard_component_specs.BASELINE_MODEL_KEY: [model]}
        super().Do(input_dict, output_dict, exec_properties | {key: json_format.MessageToJson(held)})
        blessing = artifact_utils.get_single_instance(output_dict[standard_component_specs.BLESSING_KEY])
        # a version is no artifact and has no id: on Kubeflow, TFX would look one up
        blessing.mlmd_artifact.custom_properties.pop(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, None)
        evaluation = artifact_utils.get_single_uri(output_dict[standard_component_specs.EVALUATION_KEY])
        registry.set_line(blessing, line(config, tfma.load_eval_result(evaluation), baseline))


def hold(config: tfma.EvalConfig, baseline: registry.Reference) -> tfma.EvalConfig:
    """The configuration with thresholds on the change against a baseline.

    Args:
      config: its thresholds on changes are tolerances against the best of the line.
      baseline: the version that is compared with.
    """
    held = tfma.EvalConfig()
    held.CopyFrom(config)
    for figure, threshold in _changes(held).items():
        lower, tolerance = _tolerance(threshold)
        before = standing.before(baseline.standing, figure, tolerance, lower)
        change = standing.most_change if lower else standing.least_change
        threshold.relative.value = change(before, tolerance)
    return held


def line(config: tfma.EvalConfig, result: Any, baseline: registry.Reference | None) -> registry.Line:
    """The figures with a threshold on their change, of all examples, and their standing.

    Args:
      config: names the figures, says which should be low and what is tolerated against the best.
      result: TFMA's `EvalResult` of the new model.
      baseline: the version that it was compared with, if any.
    """
    overall = next(outputs[""][""] for key, outputs in result.slicing_metrics if not key)
    values = {name: value["doubleValue"] for name, value in overall.items() if "doubleValue" in value}
    figures, standings = {}, {}
    for figure, threshold in _changes(config).items():
        if not math.isfinite(values.get(figure, math.nan)):
            continue  # the thresholds refuse it
        figures[figure] = values[figure]
        lower, tolerance = _tolerance(threshold)
        before = standing.before(baseline.standing if baseline else {}, figure, tolerance, lower)
        if baseline:
            theirs = values[figure] - values[f"{figure}_diff"]
            before = standing.after(before, standing.ratio(values[figure], theirs, lower))
        standings[figure] = before
    return registry.Line(figures=figures, standing=standings)


def _changes(config: tfma.EvalConfig) -> dict[str, Any]:
    """Figure, as TFMA names it -> its threshold on the relative change."""
    found = {}
    for metrics in config.metrics_specs:
        for metric in metrics.metrics:
            for slice_threshold in metric.per_slice_thresholds:
                if slice_threshold.threshold.HasField("change_threshold"):
                    found[_NAMES[metric.class_name]] = slice_threshold.threshold.change_threshold
    return found


def _tolerance(threshold: Any) -> tuple[bool, float]:
    """(whether lower is better, relative loss that is tolerated) of a threshold on the change."""
    lower = threshold.direction == tfma.MetricDirection.LOWER_IS_BETTER
    return lower, threshold.relative.value if lower else -threshold.relative.value


# TFMA's names of the metrics that have such a threshold (`pipeline.stages.evaluation`).
_NAMES = {"AUC": "auc", "BinaryCrossEntropy": "binary_cross_entropy"}
