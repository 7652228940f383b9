"""What CatalogueServableBuilder obeys."""

from __future__ import annotations

from schema.config import Candidates, Events, Items, Search, Serving
from schema.config import Settings as Base


class Settings(Base):
    """What is searched and how it is shown."""

    items: Items
    events: Events | None
    candidates: Candidates
    search: Search
    serving: Serving
