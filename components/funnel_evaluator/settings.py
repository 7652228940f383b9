"""What FunnelEvaluator obeys."""

from __future__ import annotations

from schema.config import Candidates, Events, Purchases, Quality, Split, Users
from schema.config import Settings as Base


class Settings(Base):
    """Whose lists are scored, on which window, and what they must reach."""

    users: Users | None
    events: Events
    split: Split
    candidates: Candidates
    quality: Quality
    serving: Purchases
