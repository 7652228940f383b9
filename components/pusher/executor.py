"""Pushes a blessed servable in one step, with its record."""

from __future__ import annotations

import contextlib
import os
import time

import tensorflow as tf

from components.common import registry
from schema.errors import UserError


def push(source: str, base: str, record: registry.PushRecord, weights: str | None = None) -> int:
    """Copies a SavedModel to a new version directory that appears complete or not at all.

    On a file system the copy is made under a name that no server looks at and then renamed. An object
    store has no such rename: there, the copy has its final name from the beginning, and its main file
    goes last. Neither TensorFlow Serving nor our own server loads a directory without it, and the
    registry leaves it out. So the record and the weights are there as soon as the version is.

    Args:
      source: SavedModel.
      base: folder or URL whose numeric sub-folders are versions.
      record: goes to `components.common.registry.RECORD` in the version.
      weights: file of trained parts that later towers can start from; goes to `registry.WEIGHTS`.

    Returns:
      The version: the time in unix seconds, or the number after the newest version if the
      clock is behind it.

    Raises:
      UserError: `base` cannot be written.
    """
    try:
        tf.io.gfile.makedirs(base)
        version = max(int(time.time()), max(registry.versions(base), default=0) + 1)
        final = os.path.join(base, str(version))
        renamed = "://" not in base
        target = os.path.join(base, f".{version}.part") if renamed else final
        if tf.io.gfile.exists(
            target
        ):  # of a push that was killed; with a clock behind, the number comes again
            tf.io.gfile.rmtree(target)
        try:
            _copy(source.rstrip("/"), target, record, weights)
            if renamed:
                tf.io.gfile.rename(target, final)
        except tf.errors.OpError:
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.rmtree(target)
            raise
    except tf.errors.OpError as error:
        raise UserError(
            f"{base}: the model cannot be pushed ({error.message}); check the path and its rights"
        ) from error
    return version


def _copy(source: str, target: str, record: registry.PushRecord, weights: str | None) -> None:
    """Everything, the SavedModel's main file last."""
    for folder, _, names in tf.io.gfile.walk(source):
        inside = os.path.relpath(folder, source)
        to = target if inside == os.curdir else os.path.join(target, inside)
        tf.io.gfile.makedirs(to)
        for name in names:
            if to != target or name != registry.SAVED_MODEL:
                tf.io.gfile.copy(os.path.join(folder, name), os.path.join(to, name))
    path = os.path.join(target, registry.RECORD)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(record.model_dump_json(indent=1))
    if weights is not None:
        tf.io.gfile.copy(weights, os.path.join(target, registry.WEIGHTS), overwrite=True)
    last = registry.SAVED_MODEL
    tf.io.gfile.copy(os.path.join(source, last), os.path.join(target, last), overwrite=True)
