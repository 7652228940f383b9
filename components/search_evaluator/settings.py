"""What SearchEvaluator obeys."""

from __future__ import annotations

from typing import Any

from schema.config import (
    Candidates,
    Config,
    Events,
    Items,
    Purchases,
    Search,
    SearchQuality,
    SearchTraining,
    Split,
    narrow,
)
from schema.config import Settings as Base


class Settings(Base):
    """What is asked, in whose name, and what must be reached."""

    items: Items
    events: Events | None
    split: Split
    candidates: Candidates
    search: Search
    search_training: SearchTraining
    quality: SearchQuality
    serving: Purchases

    @classmethod
    def of(cls, config: Config) -> Settings:
        """The declared part of a configuration."""
        own: dict[str, Any] = {
            "quality": config.quality.search,
            "serving": narrow(config.serving, Purchases),
        }
        return cls(**{name: own.get(name, getattr(config, name)) for name in cls.model_fields})
