"""What TFMA measures on the ranking head, and when it is good enough."""

from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2

from components.common import slicing
from schema import names as F
from schema.config import Config


def eval_config(config: Config) -> config_pb2.EvalConfig:
    """TFMA's configuration for `serving_default` on labelled candidate lists.

    Every candidate is one row (see `components.evaluator.extractors`), weighted by the inverse of
    the probability with which it was sampled, so that all figures are those of all candidates.
    Thresholds hold for the overall slice only: a small slice must not block a model. Those on
    changes compare with the last blessed model.

    Args:
      config: `quality`, the slices' attributes.

    Returns:
      The configuration; slices are overall and, one by one, the task, the user's activity, the
      sensitive attributes, `quality.item_slices` and the item's price band.
    """
    quality = config.quality
    auc = _threshold(config_pb2.MetricDirection.HIGHER_IS_BETTER, -quality.max_regression, quality.min_auc)
    cross_entropy = _threshold(config_pb2.MetricDirection.LOWER_IS_BETTER, quality.max_regression)
    metrics = [
        config_pb2.MetricConfig(class_name="AUC", per_slice_thresholds=[auc]),
        config_pb2.MetricConfig(class_name="AUCPrecisionRecall"),
        config_pb2.MetricConfig(class_name="BinaryCrossEntropy", per_slice_thresholds=[cross_entropy]),
        config_pb2.MetricConfig(class_name="MeanLabel"),
        config_pb2.MetricConfig(class_name="MeanPrediction"),
        config_pb2.MetricConfig(class_name="ExampleCount"),
    ]
    names = ["task", slicing.ACTIVITY, *(config.users.sensitive if config.users else [])]
    names += [*quality.item_slices, slicing.PRICE_BAND]
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name="serving_default",
                label_key=F.LABEL,
                prediction_key=F.P_PURCHASE,
                example_weight_key=F.CANDIDATE_WEIGHT,
            )
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
        slicing_specs=[config_pb2.SlicingSpec()]
        + [config_pb2.SlicingSpec(feature_keys=[F.SLICE_PREFIX + name]) for name in names],
    )


def _threshold(
    direction: config_pb2.MetricDirection, tolerance: float, least: float | None = None
) -> config_pb2.PerSliceMetricThreshold:
    """A relative change against the last blessed model, and perhaps a least value."""
    threshold = config_pb2.MetricThreshold(
        change_threshold=config_pb2.GenericChangeThreshold(
            direction=direction, relative=wrappers_pb2.DoubleValue(value=tolerance)
        )
    )
    if least is not None:
        threshold.value_threshold.lower_bound.value = least
    return config_pb2.PerSliceMetricThreshold(slicing_specs=[config_pb2.SlicingSpec()], threshold=threshold)
