"""What TFMA measures on the ranking head, and when it is good enough."""

from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2

from components import slicing
from models import features as F
from pipeline.config import Config


def eval_config(config: Config) -> config_pb2.EvalConfig:
    """TFMA's configuration for `serving_default` on labelled candidate lists.

    Every candidate of a list counts as one example. The threshold on AUC holds for the
    overall slice only: a small slice must not block a model.

    Args:
      config: `quality.min_auc`, `quality.max_regression`, the slices' attributes.

    Returns:
      The configuration; slices are overall, the task, the user's activity and, one by one,
      the sensitive attributes.
    """
    auc = config_pb2.PerSliceMetricThreshold(
        slicing_specs=[config_pb2.SlicingSpec()],
        threshold=config_pb2.MetricThreshold(
            value_threshold=config_pb2.GenericValueThreshold(
                lower_bound=wrappers_pb2.DoubleValue(value=config.quality.min_auc)
            ),
            change_threshold=config_pb2.GenericChangeThreshold(
                direction=config_pb2.MetricDirection.HIGHER_IS_BETTER,
                relative=wrappers_pb2.DoubleValue(value=-config.quality.max_regression),
            ),
        ),
    )
    metrics = [
        config_pb2.MetricConfig(class_name="AUC", per_slice_thresholds=[auc]),
        config_pb2.MetricConfig(class_name="AUCPrecisionRecall"),
        config_pb2.MetricConfig(class_name="BinaryCrossEntropy"),
        config_pb2.MetricConfig(class_name="MeanLabel"),
        config_pb2.MetricConfig(class_name="MeanPrediction"),
        config_pb2.MetricConfig(class_name="ExampleCount"),
    ]
    names = ["task", slicing.ACTIVITY, *(config.users.sensitive if config.users else [])]
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name="serving_default", label_key=F.LABEL, prediction_key=F.P_PURCHASE
            )
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
        slicing_specs=[config_pb2.SlicingSpec()]
        + [config_pb2.SlicingSpec(feature_keys=[F.SLICE_PREFIX + name]) for name in names],
    )
