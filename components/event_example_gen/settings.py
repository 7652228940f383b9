"""What EventExampleGen obeys."""

from __future__ import annotations

from typing import Self

from schema.config import Config, Data, Events, LabelWindows, Matching, Purchases, Split
from schema.config import Settings as Base


class Settings(Base):
    """Where the events are, which columns count, and where the windows end."""

    data: Data
    events: Events
    split: Split
    quality: Matching = Matching()
    ranking: LabelWindows = LabelWindows()
    serving: Purchases = Purchases(purchase_types=None)

    @classmethod
    def of(cls, config: Config) -> Self:
        """The declared part of a configuration, whichever window is scored."""
        # `evaluate_on` says which windows the models use; what is written is the same.
        split = config.split.model_copy(update={"evaluate_on": "test"})
        return super().of(config.model_copy(update={"split": split}))
