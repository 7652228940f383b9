"""What the servable answers, and what the shop wants shown more often."""

from __future__ import annotations

import zoneinfo

import pydantic
from pydantic import Field

from schema.config.base import Name, Section
from schema.config.reasons import Notices, Phrases, Reasons

EVALUATED_ROWS = 32  # of a request, when a model is evaluated
_SHOWN = 4  # candidates to rank that cost as much memory as an item to show, whose reason the history gives


class Boost(Section):
    """Items that the shop wants to be shown more often, or less."""

    attribute: Name
    """One of `items.categorical`, or item_id."""
    values: list[str] = Field(min_length=1)
    """Values of the attribute that are boosted."""
    factor: float = Field(1.0, gt=0)
    """Multiplies the probability that decides the order."""
    log_odds: float = 0.0
    """Is added to the log-odds of that probability."""


class Purchases(Section):
    """Which events are purchases."""

    purchase_types: list[str] | None = Field(None, min_length=1)
    """Event types that mean "bought": what is predicted and what a user owns.

    Only `events.default_event_type` if not given.
    """


class Serving(Purchases):
    """What the servable answers."""

    default_k: int = Field(20, ge=1)
    """Results where the request does not say how many."""
    max_k: int = Field(200, ge=1)
    """Results at most."""
    max_rows: int = Field(1024, ge=EVALUATED_ROWS)
    """Rows of a request at most, of every signature but `serving_default`."""
    max_scores: int = Field(1 << 22, ge=1)
    """Rows of a request times candidates of the shop at most.

    Of `recommend`, `search`, `similar`, `rank` and `explain`, which score all of them for each row; 32
    rows are allowed however many candidates there are. `serving_default` ranks as many at a time.
    """
    max_pairs: int = Field(65_536, ge=1)
    """Candidates that a request may have ranked, of all its rows together.

    `rank` and `serving_default` count those that they are given, `recommend` as many as its sources give at
    most (`candidates`) and four for each of `max_k` places. A server that merges requests should merge no
    more (its `max_batch_size`).
    """
    max_candidates: int = Field(10_000, ge=1)
    """Candidates of a row at most, of `rank` and `serving_default`."""
    max_explained: int = Field(256, ge=1)
    """Candidates of a request at most, of `explain`, which ranks each some hundred times."""
    max_texts: int = Field(256, ge=1)
    """Texts of a request at most, of `embed_text` and `search`."""
    max_query_length: int = Field(200, ge=1, le=1000)
    """Characters of a search, and of what `suggest` completes, that are read; the rest is cut off."""
    diversity: float = Field(0.77, ge=0, le=1)
    """Strength of maximal marginal relevance, 0 (the ranker's order) to 1; a request may give its own."""
    search_diversity: float = Field(0, ge=0, le=1)
    """The same for `search`; the first result stays the first."""
    category_cap: int | None = Field(None, ge=1)
    """Places that one `items.category` may take while there are others."""
    rerank_depth: int = Field(100, ge=1)
    """Ranked candidates that diversity and caps choose from."""
    boosts: list[Boost] = []
    """Items shown more often, or less."""
    drop_bought_days: float = Field(0, ge=0)
    """Items bought within this many days are not shown; 0 shows all. A request may give its own."""
    exploration_share: float = Field(0, ge=0, le=0.5)
    """Share of the places for new items.

    These are items with fewer than `candidates.min_events` events, none older than `exploration_days`.
    """
    exploration_days: float = Field(28, gt=0)
    """Age in days of an item's first event up to which it is explored."""
    time_zone: str = "UTC"
    """Time zone of the shop: what "yesterday" and "on Monday" mean in reasons."""
    reasons: Reasons = Reasons()
    notices: Notices = Notices()
    phrases: Phrases = Phrases()

    def pairs_of(self, places: int) -> int:
        """What a row of `recommend` counts in `max_pairs`, if its sources give `places` candidates."""
        return places + _SHOWN * self.max_k

    @pydantic.field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
            raise ValueError("is no time zone of the IANA database, such as Europe/Paris") from error
        return name

    @pydantic.model_validator(mode="after")
    def _default_is_allowed(self) -> Serving:
        if self.default_k > self.max_k:
            raise ValueError(
                f"default_k {self.default_k} is above max_k {self.max_k}; lower it or raise max_k"
            )
        return self
