"""Training curves as every trainer leaves them in its ModelRun: for the report, and for TensorBoard."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from components.common import artifacts


def write(folder: str, epochs: Sequence[Mapping[str, float]], **more: Any) -> None:
    """Writes history.json and TensorBoard's event files.

    Args:
      folder: the ModelRun artifact, local or on any file system that TensorFlow knows. Gets
        `history.json` ({"epochs": `epochs`} and `more`), and the numbers of every epoch as scalars below
        `training/` and, of names that begin with "val_" or "holdout_", below `held_out/` without that
        beginning: TensorBoard shows two such lines in one chart.
      epochs: numbers by name; `epoch` is the step, the place in the list if it is absent.
      more: what else history.json holds.
    """
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(os.path.join(folder, artifacts.TRAINING_CURVES), "w") as file:
        json.dump({"epochs": list(epochs), **more}, file)
    lines: dict[str, list[tuple[int, str, float]]] = {}
    for place, epoch in enumerate(epochs, 1):
        for name, value in epoch.items():
            if name != "epoch":
                line, tag = _line(name)
                lines.setdefault(line, []).append((int(epoch.get("epoch", place)), tag, float(value)))
    for line, scalars in lines.items():
        _write_events(os.path.join(folder, line), scalars)


def _line(name: str) -> tuple[str, str]:
    for prefix in ("val_", "holdout_"):
        if name.startswith(prefix):
            return artifacts.HELD_OUT_EVENTS, name.removeprefix(prefix)
    return artifacts.TRAINING_EVENTS, name


def _write_events(folder: str, scalars: Sequence[tuple[int, str, float]]) -> None:
    """One event file: records of `Event` messages, which need no TensorBoard to be written."""
    tf.io.gfile.makedirs(folder)
    now = time.time()
    with tf.io.TFRecordWriter(os.path.join(folder, f"{artifacts.EVENTS}.{int(now):010d}")) as writer:
        events = [tf.compat.v1.Event(wall_time=now, file_version="brain.Event:2")]
        for step, tag, value in scalars:
            summary = tf.compat.v1.Summary(value=[tf.compat.v1.Summary.Value(tag=tag, simple_value=value)])
            events.append(tf.compat.v1.Event(wall_time=now, step=step, summary=summary))
        for event in events:
            writer.write(event.SerializeToString())
