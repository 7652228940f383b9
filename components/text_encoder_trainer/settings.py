"""What TextEncoderTrainer obeys."""

from __future__ import annotations

import json
from typing import Self

from schema.config import Config, Items, LabelWindows, Split, TextEncoder
from schema.config import Settings as Base


class Settings(Base):
    """The encoder and the catalogue; the windows only where it learns from events.

    In mode "frozen" `split` and `ranking` are absent, from the JSON too: other windows must not
    encode the catalogue again.
    """

    items: Items
    text_encoder: TextEncoder
    split: Split | None = None
    ranking: LabelWindows | None = None

    @classmethod
    def of(cls, config: Config) -> Self:
        """The declared part of a configuration."""
        settings = super().of(config)
        if config.text_encoder.mode == "frozen":
            return settings.model_copy(update={"split": None, "ranking": None})
        return settings

    def to_json(self) -> str:
        """Canonical JSON of the sections that are there."""
        absent = {name for name in ("split", "ranking") if getattr(self, name) is None}
        return json.dumps(self.model_dump(mode="json", exclude=absent), sort_keys=True)
