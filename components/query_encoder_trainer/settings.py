"""What QueryEncoderTrainer obeys."""

from __future__ import annotations

from typing import Self

from schema.config import Config, Items, QueryEncoder, SearchTraining, Split, TextEncoder
from schema.config import Settings as Base


class Settings(Base):
    """The encoder that queries start from and stay near to, and the queries."""

    items: Items
    split: Split | None = None
    text_encoder: TextEncoder
    query_encoder: QueryEncoder
    search_training: SearchTraining

    @classmethod
    def of(cls, config: Config) -> Self:
        """The declared part of a configuration; windows only where there is a log of queries."""
        settings = super().of(config)
        logged = config.events is not None and config.events.columns.query is not None
        return settings if logged else settings.model_copy(update={"split": None})
