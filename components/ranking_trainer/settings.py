"""What RankingTrainer obeys."""

from __future__ import annotations

from components.common.sections import RetrieverSettings
from schema.config import Ranking


class Settings(RetrieverSettings):
    """The retriever, whose features the ranker reads, and the ranker."""

    ranking: Ranking
