"""Reads a reviewed schema file and passes it on."""

from __future__ import annotations

import hashlib
import os

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.io import fileio

from schema.errors import DataError

SCHEMA_FILE = "schema.pbtxt"  # the name that TFX's components look for


def schema_version(path: str) -> str:
    """Hash of a schema file's text; "" where it lies on another machine (inside an image)."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()[:16]
    except OSError:
        return ""


def run(path: str, output: str) -> int:
    """Copies a schema after checking that it is one.

    Args:
      path: text proto of `tensorflow.metadata.v0.Schema`.
      output: folder of the Schema artifact.

    Returns:
      The number of features.

    Raises:
      DataError: the file is missing, no schema, or names no feature.
    """
    if not fileio.exists(path):
        raise DataError(
            f"{path}: no such schema; review one (python -m pipeline.infer_schema) or correct schema_dir"
        )
    with fileio.open(path, "r") as file:
        text = file.read()
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise DataError(f"{path}: not a schema in text format ({error}); correct this line") from error
    if not schema.feature:
        raise DataError(f"{path}: the schema has no feature; review one (python -m pipeline.infer_schema)")
    fileio.makedirs(output)
    with fileio.open(os.path.join(output, SCHEMA_FILE), "w") as file:
        file.write(text)
    return len(schema.feature)
