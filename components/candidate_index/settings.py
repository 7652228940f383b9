"""What CandidateIndex obeys."""

from __future__ import annotations

from schema.config import Candidates, Events, Exposures, Items, LabelWindows, Purchases, Section, Split
from schema.config import Settings as Base


class LeastRecall(Section):
    """Of `quality`, the recall below which an index is refused."""

    min_index_recall: float


class Settings(Base):
    """The catalogue, the candidates, and the moments of the snapshots."""

    items: Items
    events: Events
    exposures: Exposures | None
    split: Split
    candidates: Candidates
    ranking: LabelWindows
    quality: LeastRecall
    serving: Purchases
