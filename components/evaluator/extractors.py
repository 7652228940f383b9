"""Unrolls labelled candidate lists into one row a candidate, behind the model.

TFMA flattens a list's labels and predictions itself, but slices whole examples: a slice of items
(a department, a price band) needs rows of one candidate. Unrolling after the prediction asks the
model once a list, and leaves everything that slices do not need (long histories) behind.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.extractors import unbatch_extractor

from components.common import registry
from schema import names as F


def custom_extractors(
    eval_shared_model: Any, eval_config: tfma.EvalConfig, tensor_adapter_config: Any
) -> list[tfma.extractors.Extractor]:
    """TFX's hook (see `tfx.components.Evaluator`): TFMA's extractors with the unrolling between."""
    extractors = tfma.default_extractors(
        eval_shared_model=eval_shared_model,
        eval_config=eval_config,
        tensor_adapter_config=tensor_adapter_config,
    )
    names = [extractor.stage_name for extractor in extractors]
    at = names.index(unbatch_extractor.UNBATCH_EXTRACTOR_STAGE_NAME)
    unroll = tfma.extractors.Extractor("ExtractCandidates", "UnrollLists" >> beam.Map(unrolled))
    return [*extractors[:at], unroll, *extractors[at:]]


def custom_eval_shared_model(eval_saved_model_path: str, **arguments: Any) -> Any:
    """TFX's hook: a pushed version is the SavedModel itself, which an artifact has in a folder below it."""
    if not tf.io.gfile.exists(os.path.join(eval_saved_model_path, registry.SAVED_MODEL)):
        eval_saved_model_path = os.path.dirname(eval_saved_model_path)
    return tfma.default_eval_shared_model(eval_saved_model_path=eval_saved_model_path, **arguments)


def unrolled(extracts: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of lists as a batch of candidates.

    Args:
      extracts: TFMA's batched extracts of B lists of N candidates: features `candidate_weight`
        [B, N] (0 for padding) and `slice_<name>` [B, 1] or [B, N]; labels, predictions and
        example weights [B, N], by model if there are several.

    Returns:
      Extracts of the real candidates, [R, 1] each; of the features only the slices. An item that
      one of the models does not hold (its probability is exactly 0, see `models.funnel.servable`) is no
      row of any: a withdrawn item is not a misprediction, and p = 0 makes log loss infinite.
    """
    features = extracts[tfma.FEATURES_KEY]
    real = features[F.CANDIDATE_WEIGHT] > 0
    for probability in _named(extracts.get(tfma.PREDICTIONS_KEY), F.P_PURCHASE):
        real = real & (probability != 0)  # NaN stays, and is refused by the thresholds

    def rows(values: Any) -> Any:
        if isinstance(values, Mapping):
            return {name: rows(value) for name, value in values.items()}
        return np.broadcast_to(values, real.shape)[real][:, None]

    out = {
        name: rows(extracts[name])
        for name in (tfma.LABELS_KEY, tfma.PREDICTIONS_KEY, tfma.EXAMPLE_WEIGHTS_KEY)
        if extracts.get(name) is not None
    }
    sliced = {name: value for name, value in features.items() if name.startswith(F.SLICE_PREFIX)}
    return out | {tfma.FEATURES_KEY: rows(sliced)}


def _named(values: Any, name: str) -> list[np.ndarray]:
    """The arrays of this name in nested mappings: one a model."""
    if not isinstance(values, Mapping):
        return []
    mine = [values[name]] if name in values else []
    return mine + [found for value in values.values() for found in _named(value, name)]
