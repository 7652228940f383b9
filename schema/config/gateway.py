"""The gateway: what a shop's pages and apps talk to, in front of a model server."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from schema.config.base import Name, Section
from schema.config.experiments import Experiment, Exploration, check_together

Role = Literal["shop", "events", "privacy", "operator"]
"""What a key opens: lists and items; writing of events; a user's data; metrics and experiments."""


class ApiKey(Section):
    """A caller of the gateway; the key itself is written nowhere."""

    name: Name
    """What logs and metrics call it."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the key: `printf %s "$KEY" | sha256sum`."""
    per_minute: int = Field(6000, ge=1)
    """Requests a minute at most, and as many at once; more are answered with 429."""
    roles: list[Role] = Field(["shop", "events"], min_length=1)
    """What it may ask for."""


class Timeouts(Section):
    """How long the model may take, in milliseconds; a list that is late is replaced by a fallback."""

    recommend_ms: int = Field(800, ge=1)
    """For `recommend` and `similar`."""
    search_ms: int = Field(800, ge=1)
    """For `search`."""
    suggest_ms: int = Field(300, ge=1)
    """For `suggest`, which is asked at every key press."""
    explain_ms: int = Field(5000, ge=1)
    """For `explain`, which ranks each candidate some hundred times."""


class ImpressionDiscount(Section):
    """How an item sinks that a user was shown often and never wanted.

    After P. Lee et al., "Modeling impression discounting in large-scale recommender systems", KDD 2014.
    """

    enabled: bool = True
    """Whether lists are ordered again."""
    days: float = Field(14, gt=0)
    """Days for which a showing counts."""
    visit_minutes: float = Field(30, gt=0)
    """All showings of an item within this time count once: a page that is loaded again is one visit."""
    places: int = Field(10, ge=1)
    """Places of a list that count as seen."""
    free: int = Field(3, ge=0)
    """Visits without any effect."""
    decay: float = Field(0.7, gt=0, le=1)
    """What each further visit multiplies the weight of the item's place with."""
    floor: float = Field(0.05, gt=0, le=1)
    """Least weight: no item is sunk for ever."""


class Bots(Section):
    """Who is no person, by rate: their events are kept, and used for nothing."""

    events_per_minute: int = Field(120, ge=1)
    """Events of one user within 60 seconds above which the rest of them count as a robot's."""


class Limits(Section):
    """What one process takes on."""

    body_bytes: int = Field(1 << 20, ge=1024)
    """Longest body of a request; a longer one is answered with 413."""
    concurrent: int = Field(256, ge=1)
    """Requests in work at once; more are answered with 503."""
    batch_events: int = Field(1000, ge=1, le=10_000)
    """Events of one request at most."""
    queued_events: int = Field(20_000, ge=1)
    """Events and places of shown lists that may wait to be written; above that, 503."""
    per_minute: int = Field(60_000, ge=1)
    """Requests a minute of all callers without a key, where none is configured."""


class Page(Section):
    """The storefront and the operations page, for people."""

    enabled: bool = True
    """Whether the gateway has pages; without them it has the API alone."""
    name: str = Field("Shelfwise", min_length=1, max_length=60)
    """What the shop is called."""
    currency: str = Field("$", max_length=8)
    """What stands before a price."""
    items_language: Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    """Language of titles, categories and reasons: a screen reader is told."""
    shelf_items: int = Field(12, ge=1, le=50)
    """Items of a shelf at most."""
    result_items: int = Field(24, ge=1, le=100)
    """Items of a page of results."""
    play_households: bool = True
    """Whether a visitor may be one of the users with a history.

    With `api_keys` nobody may: it shows a person's purchases to whoever asks.
    """
    runs_dir: str = ""
    """Folder of the pipeline's runs, for the operations page; "" shows none."""


class Gateway(Section):
    """What a shop's pages and apps talk to, in front of a model server."""

    store: str = "sqlite:///runs/gateway.sqlite"
    """Where events and shown lists are kept: an SQLAlchemy URL of SQLite or PostgreSQL.

    Such as postgresql+psycopg://user@host/database; the password may come from PGPASSWORD or a .pgpass file.
    """
    model_server: str = Field("localhost:8500", pattern=r"^.+:\d+$")
    """gRPC address of TensorFlow Serving or of ours: host:port, or dns:///host:port."""
    model_name: str = "shelfwise"
    """Name of the model on that server."""
    labels: list[str] = []
    """Version labels that an arm of an experiment may ask for, such as canary."""
    timeouts: Timeouts = Timeouts()
    api_keys: list[ApiKey] = []
    """Who may ask; without any, everybody who reaches the port, which is then one of this machine only."""
    cors_origins: list[str] = []
    """Origins whose pages may call from a browser, such as https://shop.example."""
    limits: Limits = Limits()
    default_k: int = Field(12, ge=1)
    """Items of a list where the request does not say how many."""
    max_k: int = Field(100, ge=1)
    """Items of a list at most; the model's own bound is `serving.max_k`."""
    history_length: int = Field(512, ge=1)
    """Newest events of a user that go into a request."""
    keep_days: float = Field(400, gt=0)
    """Days for which events may arrive late."""
    clock: Literal["wall", "data"] = "wall"
    """What the model is told that the time is.

    "data": the end of the data when its version was pushed, and from then on as much later as it is: for
    demonstrations on data of the past.
    """
    impressions: ImpressionDiscount = ImpressionDiscount()
    bots: Bots = Bots()
    experiments: list[Experiment] = []
    """What is compared on shoppers (docs/experiments.md)."""
    exploration: Exploration = Exploration()
    page: Page = Page()
    language: Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    """Language of the page where the browser asks for none that it has."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Gateway:
        if self.default_k > self.max_k:
            raise ValueError(
                f"default_k {self.default_k} is above max_k {self.max_k}; lower it or raise max_k"
            )
        for what, given in (
            ("name", [key.name for key in self.api_keys]),
            ("sha256", [key.sha256 for key in self.api_keys]),
        ):
            if len(set(given)) < len(given):
                raise ValueError(f"api_keys: two have the same {what}; give each its own")
        check_together(self.experiments)
        for experiment in self.experiments:
            for arm in experiment.arms:
                if arm.label is not None and arm.label not in self.labels:
                    raise ValueError(
                        f"experiments: arm '{arm.name}' of '{experiment.name}' asks for label "
                        f"'{arm.label}', which "
                        f"is not one of labels {self.labels}; add it there"
                    )
        if not self.store.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError(
                "store: is neither sqlite:///FILE nor postgresql+psycopg://USER@HOST/DATABASE; give one"
            )
        return self
