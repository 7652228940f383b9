"""What WarmStartModel obeys."""

from __future__ import annotations

from schema.config import LabelWindows, Split
from schema.config import Settings as Base


class Settings(Base):
    """Where the towers of a run stop to learn: at the start of the ranker's first label window."""

    split: Split
    ranking: LabelWindows
