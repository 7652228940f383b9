"""What is said of a version, and which of them are wanted."""

from __future__ import annotations

import dataclasses
import enum

from serving.model_server.core.errors import Code


class State(enum.IntEnum):
    """Life of a version; numbers are those of GetModelStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass
class VersionStatus:
    """What GetModelStatus says of a version."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which versions serve.

    Attributes:
      latest: how many of the highest; None for all of them.
      specific: exactly these, whatever `latest` says.
    """

    latest: int | None = 1
    specific: frozenset[int] | None = None


ONLY_LATEST = Policy()
