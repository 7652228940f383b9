"""What SearchTrainer obeys."""

from __future__ import annotations

from typing import Any

from components.common.sections import RetrieverSettings
from schema.config import (
    Candidates,
    Config,
    Events,
    Exposures,
    Items,
    LabelWindows,
    Purchases,
    Retrieval,
    Search,
    SearchTraining,
    Serving,
    Split,
    Users,
    narrow,
)
from schema.config import Settings as Base


class Settings(Base):
    """What is searched, who asks and how the ranker learns."""

    items: Items
    events: Events | None
    users: Users | None
    exposures: Exposures | None
    split: Split
    retrieval: Retrieval
    candidates: Candidates
    ranking: LabelWindows
    search: Search
    search_training: SearchTraining
    serving: Serving
    known_items: int

    @classmethod
    def of(cls, config: Config) -> Settings:
        """The declared part of a configuration; of the serving only what decides who is found."""
        used = ("drop_bought_days", "purchase_types", "max_query_length")
        serving = Serving(**{name: getattr(config.serving, name) for name in used})
        own: dict[str, Any] = {"serving": serving, "known_items": config.quality.search.known_items}
        own["ranking"] = narrow(config.ranking, LabelWindows)
        return cls(**{name: own.get(name, getattr(config, name, None)) for name in cls.model_fields})

    def retriever(self) -> RetrieverSettings:
        """What a retriever is built from, in a shop with events."""
        parts = {name: getattr(self, name) for name in RetrieverSettings.model_fields}
        return RetrieverSettings(**parts | {"serving": narrow(self.serving, Purchases)})
