"""What calls give back, and the errors that they raise. No TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

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
class FoundItem:
    """One result of search; ranks count from 1. `price` is None where the shop does not know it."""

    rank: int
    item_id: str
    item_text: str
    score: float
    source: str
    reason: str
    price: float | None


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What was found, and what was made of the query.

    Attributes:
      items: best first.
      total: items of the shop that match; there are more than `items` as a rule.
      notice: what to tell the shopper, such as that a word was corrected; "" for nothing.
      corrected_query: the query with misspelt words replaced; "" where none was.
      relaxed: whether words, or the price that the query named, had to be dropped.
      relaxed_query: the words that the matching items have.
      price_range: least and largest price that the query named ("under 20"), None where it did not.
      facets: "category", "brand" or "price" -> value -> number of matching items, most first.
      categories, brands: what the query is about, with probabilities, likeliest first.
    """

    items: Sequence[FoundItem]
    total: int
    notice: str
    corrected_query: str
    relaxed: bool
    relaxed_query: str
    price_range: tuple[float | None, float | None]
    facets: Mapping[str, Mapping[str, int]]
    categories: Mapping[str, float]
    brands: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """One completion of what a shopper has typed so far."""

    text: str
    score: float


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
