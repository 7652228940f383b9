"""What RankingTuner obeys."""

from __future__ import annotations

from components.common.sections import RetrieverSettings
from schema.config import Ranking


class Settings(RetrieverSettings):
    """The retriever, whose features the ranker reads, the ranker and the space that is searched."""

    ranking: Ranking
