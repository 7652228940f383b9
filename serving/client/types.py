"""What calls give back, and the errors that they raise. No TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from schema.errors import UserError


class ServerError(UserError):
    """The server refused or failed. `code` is gRPC's name of the status, e.g. NOT_FOUND."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ServerUnavailable(ServerError):
    """No server answered at the address, after all retries."""


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """One result of recommend or similar; ranks count from 1."""

    rank: int
    item_id: str
    item_text: str
    score: float
    source: str
    reason: str


@dataclasses.dataclass(frozen=True)
class RankedItem:
    """One candidate with its score; `p_purchase` is a calibrated probability."""

    item_id: str
    score: float
    p_purchase: float


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What speaks for and against one candidate.

    Attributes:
      item_id: the candidate.
      log_odds: of being bought: p_purchase is 1 / (1 + exp(-log_odds)).
      baseline: the log-odds of the average candidate for somebody unknown.
      attribution: group of features -> its share; they sum to log_odds - baseline. All are 0
        for an item that the model does not rank.
      features: name -> value, as the ranker sees them.
    """

    item_id: str
    log_odds: float
    baseline: float
    attribution: Mapping[str, float]
    features: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Type and shape of one input or output; None is any size, a shape of None any rank."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """Inputs and outputs of one signature by name."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a model version can be asked."""

    name: str
    version: int
    signatures: Mapping[str, SignatureInfo]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """State of one version: START, LOADING, AVAILABLE, UNLOADING or END."""

    version: int
    state: str
    error_code: str
    error_message: str
