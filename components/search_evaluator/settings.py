"""What SearchEvaluator obeys."""

from __future__ import annotations

from schema.config import Candidates, Config, Events, Items, Search, SearchQuality, SearchTraining, Split
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

    @classmethod
    def of(cls, config: Config) -> Settings:
        """The declared part of a configuration."""
        names = [name for name in cls.model_fields if name != "quality"]
        return cls(quality=config.quality.search, **{name: getattr(config, name) for name in names})
