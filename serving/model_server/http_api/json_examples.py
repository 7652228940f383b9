"""Classify and Regress of the REST API: JSON <-> tf.Examples and results, as in TensorFlow Serving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.model_server.http_api import json_values
from serving.model_server.http_api.json_values import invalid


def read_examples(document: Mapping[str, Any], method: str) -> input_pb2.Input:
    """The tf.Examples of a classify or regress request, with the optional `context`.

    Raises:
      StatusError: INVALID_ARGUMENT.
    """
    if "examples" not in document:
        raise invalid(f"When method is {method}, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid("'examples' value is an empty array")
    result = input_pb2.Input()
    if "context" in document:
        result.example_list_with_context.context.CopyFrom(_example(document["context"]))
        result.example_list_with_context.examples.extend(_example(one) for one in examples)
    else:
        result.example_list.examples.extend(_example(one) for one in examples)
    return result


def write_classifications(result: classification_pb2.ClassificationResult) -> bytes:
    """`{"results": [[[label, score], ...], ...]}`."""
    return json_values.dump(
        {
            "results": [
                [[one.label, json_values.float32(one.score)] for one in entry.classes]
                for entry in result.classifications
            ]
        }
    )


def write_regressions(result: regression_pb2.RegressionResult) -> bytes:
    """`{"results": [value, ...]}`."""
    return json_values.dump({"results": [json_values.float32(entry.value) for entry in result.regressions]})


def _example(value: Any) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_values.kind(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for one in content if isinstance(content, list) else [content]:
            kind, converted = _feature_value(name, one)
            earlier = feature.WhichOneof("kind")
            if earlier is not None and earlier != kind:
                expected = earlier.removesuffix("_list")
                raise invalid(f"Unexpected element type in feature: {name} expecting type: {expected}")
            getattr(feature, kind).value.append(converted)
    return example


def _feature_value(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return "int64_list", int(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise invalid(f"Feature: {name} has {value}. Only int64 is supported.")
        return "int64_list", value
    if isinstance(value, float):
        with np.errstate(over="ignore"):  # 1e300 is infinite, as in TF Serving
            return "float_list", float(np.float32(value))
    if isinstance(value, str):
        return "bytes_list", json_values.utf8(value)
    if isinstance(value, dict) and not json_values.is_object(value):
        return "bytes_list", json_values.decode_base64(value)
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_values.kind(value)}")
