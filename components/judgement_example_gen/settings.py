"""What JudgementExampleGen obeys."""

from __future__ import annotations

from typing import Self

from schema.config import Config, Data, Judgements, Matching
from schema.config import Settings as Base


class Settings(Base):
    """Where the judgements are and how they are divided."""

    data: Data
    judgements: Judgements
    valid_share: float
    test_share: float
    quality: Matching = Matching()

    @classmethod
    def of(cls, config: Config) -> Self:
        """The part of a configuration that has judgements."""
        assert config.search.judgements is not None
        training = config.search_training
        return cls(
            data=config.data.model_copy(update={"sample_users": None}),
            judgements=config.search.judgements,
            valid_share=training.valid_share,
            test_share=training.test_share,
            quality=Matching(max_unmatched=config.quality.max_unmatched),
        )
