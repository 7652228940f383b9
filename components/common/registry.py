"""The registry of pushed models: what lies with each of them, and which one a run looks back at.

Every pushed version is self-contained: its folder holds the SavedModel, the record of the push and
the trained parts that a later run can start from, the latter two in `assets.extra/`, where model
servers look for warm-up requests only. A version is copied, moved or removed as one folder, and
nothing here points to the artifacts of a run, which may be gone. The registry is the folder of
versions itself, on any file system that TensorFlow knows: no metadata store is asked, so it is the
same on one machine, on Kubeflow Pipelines and on Vertex AI.

A version without a record (a push of an earlier release, or one of another program) and one that
is not complete are left out, with a line in the log.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
from collections.abc import Iterable
from typing import Any

import pydantic
import tensorflow as tf

SAVED_MODEL = "saved_model.pb"
RECORD = os.path.join("assets.extra", "push_record.json")
WEIGHTS = os.path.join("assets.extra", "weights.npz")
_FINGERPRINT = "fingerprint.pb"
_LINE = "line"  # custom property of blessings
_SOFTWARE = ("shelfwise", "tfx")

_log = logging.getLogger(__name__)


class Line(pydantic.BaseModel, frozen=True):
    """What one evaluator measured, by figure: "all/ndcg@20", "auc".

    Attributes:
      figures: the values of this model, of those figures that a gate compares.
      standing: how each compares with the best of the pushed line (see `components.common.standing`);
        none of a figure that was not measured.
      window: start and end of the evaluation window in unix seconds, if it has one.
      baseline: the version that it was compared with, None if there was none.
    """

    figures: dict[str, float] = {}
    standing: dict[str, float] = {}
    window: tuple[int, int] | None = None
    baseline: str | None = None


def set_line(blessing: Any, line: Line) -> None:
    """Puts an evaluator's figures on its blessing, from where Pusher takes them."""
    blessing.set_string_custom_property(_LINE, line.model_dump_json())


def line_of(blessing: Any) -> Line:
    """The figures on a blessing, an artifact."""
    return Line.model_validate_json(blessing.get_string_custom_property(_LINE))


class PushRecord(pydantic.BaseModel, frozen=True):
    """What is known about a pushed version; `push_record.json` in it.

    Attributes:
      model: URI of the servable's artifact, which names the run's execution. It may be gone.
      identity: see :func:`identity`.
      pushed_at: UTC, ISO 8601.
      learned_until: unix seconds; the towers learned from events before it only. None if the version
        holds no weights to start from.
      window: start and end of the evaluation window, in unix seconds: the data end there. None in a shop
        without events.
      baseline: the version that the model was compared with, None if it was the first.
      figures, standing: of both evaluators (see `Line`).
      software: versions of what made the model.
    """

    model: str
    identity: str
    pushed_at: str
    learned_until: int | None
    window: tuple[int, int] | None
    baseline: str | None
    figures: dict[str, float]
    standing: dict[str, float]
    software: dict[str, str]


class Pushed(pydantic.BaseModel, frozen=True):
    """A version: its folder and its record."""

    folder: str
    record: PushRecord

    @property
    def version(self) -> int:
        """The folder's number."""
        return int(os.path.basename(self.folder))


class Reference(pydantic.BaseModel, frozen=True):
    """The version that a component is to look at, as the parameter that is handed to it.

    A parameter and not an artifact: every platform caches by its value. A registry that says the same
    thing as before therefore never re-runs what follows, whoever asked it and when.

    Attributes:
      folder: the SavedModel.
      standing: from its record.
    """

    folder: str
    standing: dict[str, float] = {}

    @property
    def version(self) -> str:
        """Name of the version's folder."""
        return os.path.basename(self.folder)

    @property
    def weights(self) -> str:
        """What towers can start from."""
        return os.path.join(self.folder, WEIGHTS)


NOTHING = "{}"  # the parameter where there is no such version


def write_reference(version: Reference | None) -> str:
    """The parameter."""
    return version.model_dump_json() if version else NOTHING


def read_reference(text: str) -> Reference | None:
    """The version that a parameter names, None if there is none."""
    return None if text == NOTHING else Reference.model_validate_json(text)


def identity(saved_model: str) -> str:
    """What tells one exported model from every other, wherever it is copied to.

    Args:
      saved_model: folder of a SavedModel.

    Returns:
      16 hexadecimal digits: the hash of the fingerprint that TensorFlow writes with each export (which
      covers graph and weights and holds a random number), or of the graph where there is none.
    """
    path = os.path.join(saved_model, _FINGERPRINT)
    if not tf.io.gfile.exists(path):
        path = os.path.join(saved_model, SAVED_MODEL)
    with tf.io.gfile.GFile(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]


def software() -> dict[str, str]:
    """Installed versions of what makes models; a package that is not installed is missing."""
    found = {"tensorflow": tf.__version__}  # its package has several names
    for name in _SOFTWARE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def versions(base: str) -> list[int]:
    """Numbers of all version folders, complete or not; none if `base` does not exist."""
    if not tf.io.gfile.isdir(base):
        return []
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(base))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def read(base: str) -> list[Pushed]:
    """All complete versions that have a record, oldest first.

    Args:
      base: folder of the versions; need not exist.
    """
    found = []
    for version in versions(base):
        folder = os.path.join(base, str(version))
        path = os.path.join(folder, RECORD)
        if not tf.io.gfile.exists(os.path.join(folder, SAVED_MODEL)):
            _log.warning("registry: %s is left out: it is not complete", folder)
        elif not tf.io.gfile.exists(path):
            _log.warning("registry: %s is left out: it has no record (an earlier release pushed it)", folder)
        else:
            try:
                with tf.io.gfile.GFile(path, "r") as file:
                    record = PushRecord.model_validate_json(file.read())
            except pydantic.ValidationError as error:
                _log.warning("registry: %s is left out: %s cannot be read: %s", folder, path, error)
            else:
                found.append(Pushed(folder=folder, record=record))
    return found


def baseline(pushed: Iterable[Pushed], current: str) -> Pushed | None:
    """The version that a new model must not fall behind: the latest that is not the model itself.

    A second run with nothing changed has the model of the first one, which is pushed by then. It must
    find what the first run found, or it would compare the model with itself and miss the cache.

    Args:
      pushed: the versions.
      current: identity of the new model.
    """
    others = [version for version in pushed if version.record.identity != current]
    return max(others, key=lambda version: version.version, default=None)


def warm_start(pushed: Iterable[Pushed], until: int) -> Pushed | None:
    """The version that towers start from: the one with the latest data of those with earlier data.

    Earlier by the data, not by the clock: a model that has seen more would carry what is to be
    forecast into the towers (a run on the validation window after one on the test window), and one that
    has seen the same is this run's own model when nothing has changed.

    Args:
      pushed: the versions.
      until: unix seconds; the new towers learn from events before it.
    """
    earlier = [
        version
        for version in pushed
        if version.record.learned_until is not None and version.record.learned_until < until
    ]
    return max(earlier, key=lambda version: (version.record.learned_until, version.version), default=None)
