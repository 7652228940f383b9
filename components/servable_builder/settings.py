"""What ServableBuilder obeys."""

from __future__ import annotations

from components.common.sections import RetrieverSettings
from schema.config import Ranking, Search, Serving


class Settings(RetrieverSettings):
    """The whole funnel, and what it answers."""

    ranking: Ranking
    serving: Serving
    search: Search
