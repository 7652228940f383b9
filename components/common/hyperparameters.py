"""RankingTuner's hyper-parameters: read back, and put in the place of the configuration's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import keras_tuner
import tensorflow as tf

from schema.config import Ranking


def applied(config: Ranking, values: Mapping[str, Any]) -> Ranking:
    """The section with the settings that a trial drew.

    Args:
      config: the configuration's section.
      values: KerasTuner's hyper-parameters; values that are no numbers are JSON.

    Raises:
      pydantic.ValidationError: a value that the section does not allow.
    """
    drawn = {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in values.items()
        if name in config.tuning.space
    }
    return Ranking.model_validate(config.model_dump() | drawn)


def load(path: str) -> dict[str, Any]:
    """The hyper-parameters of a file that RankingTuner wrote, name -> value."""
    with tf.io.gfile.GFile(path) as file:
        return keras_tuner.HyperParameters.from_config(json.load(file)).values
