"""Evaluator's component spec: TFX's own, with a pushed version as baseline and the code in the cache key."""

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts, standard_component_specs
from tfx.types.component_spec import ExecutionParameter
from tfx.utils import json_utils

from components.evaluator import executor, extractors


class EvaluatorSpec(standard_component_specs.EvaluatorSpec):
    """TFX's spec, `baseline` and `code_version`."""

    PARAMETERS = {
        **standard_component_specs.EvaluatorSpec.PARAMETERS,
        executor.BASELINE: ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }


class Evaluator(base_beam_component.BaseBeamComponent):
    """Measures the ranking head with TFMA, candidate by candidate, and blesses it.

    TFX's Evaluator names its module in the cache key, not what is in it; this one adds the hash of
    the code. TFX's `baseline_model` must be an artifact; here it is a version of the registry.

    Args:
      examples: CandidateSampler's lists, of which the split `eval` is read.
      model: the servable.
      baseline: value of BaselineModel's output; thresholds on changes count if there is a version.
      eval_config: see `pipeline.stages.evaluation`.
      code_version: part of the cache key.
    """

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        baseline: object,
        eval_config: object,
        code_version: str,
    ) -> None:
        super().__init__(
            spec=EvaluatorSpec(
                examples=examples,
                model=model,
                baseline=baseline,
                eval_config=eval_config,
                example_splits=json_utils.dumps(["eval"]),
                module_path=extractors.__name__,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
                code_version=code_version,
            )
        )
