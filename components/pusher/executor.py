"""Pushes a blessed servable in one step."""

from __future__ import annotations

import contextlib
import os
import time

import tensorflow as tf

from schema.errors import UserError

_LAST = "saved_model.pb"


def push(source: str, base: str) -> int:
    """Copies a SavedModel to a new version directory that appears complete or not at all.

    The copy is made under a name that no server looks at and then renamed. On object stores,
    where a rename is itself a copy, `saved_model.pb` goes last: TensorFlow Serving does not
    load a directory without it.

    Args:
      source: SavedModel.
      base: folder whose numeric sub-folders are versions.

    Returns:
      The version: the time in unix seconds, or the number after the newest version if the
      clock is behind it.

    Raises:
      UserError: `base` cannot be written.
    """
    try:
        tf.io.gfile.makedirs(base)
        present = [int(name.rstrip("/")) for name in tf.io.gfile.listdir(base) if name.rstrip("/").isdigit()]
        version = max(int(time.time()), max(present, default=0) + 1)
        staging = os.path.join(base, f".{version}.part")
        try:
            _copy(source.rstrip("/"), staging)
            tf.io.gfile.rename(staging, os.path.join(base, str(version)))
        except tf.errors.OpError:
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.rmtree(staging)
            raise
    except tf.errors.OpError as error:
        raise UserError(
            f"{base}: the model cannot be pushed ({error.message}); check the path and its rights"
        ) from error
    return version


def _copy(source: str, target: str) -> None:
    for folder, _, names in tf.io.gfile.walk(source):
        inside = os.path.relpath(folder, source)
        to = target if inside == os.curdir else os.path.join(target, inside)
        tf.io.gfile.makedirs(to)
        for name in names:
            if to != target or name != _LAST:
                tf.io.gfile.copy(os.path.join(folder, name), os.path.join(to, name), overwrite=True)
    tf.io.gfile.copy(os.path.join(source, _LAST), os.path.join(target, _LAST), overwrite=True)
