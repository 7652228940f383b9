"""What RetrievalTrainer obeys."""

from __future__ import annotations

from schema.config import (
    Collaborative,
    Events,
    Items,
    LabelWindows,
    Purchases,
    Retrieval,
    Section,
    Split,
    Users,
)
from schema.config import Settings as Base


class CollaborativePart(Section):
    """Of `candidates`, the closed-form vectors that the learned ones are weighed against."""

    collaborative: Collaborative


class Settings(Base):
    """The towers, and when the ranker's label windows begin; the ranker's layers train no tower again."""

    items: Items
    users: Users | None
    events: Events
    split: Split
    retrieval: Retrieval
    candidates: CollaborativePart
    ranking: LabelWindows
    serving: Purchases
