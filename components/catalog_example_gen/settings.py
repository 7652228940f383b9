"""What CatalogExampleGen obeys."""

from __future__ import annotations

from typing import Self

from schema.config import Config, Data, Exposures, Items, Matching, Users
from schema.config import Settings as Base


class Settings(Base):
    """Where the tables are and which columns count; what only models ask of them is left out."""

    data: Data
    items: Items
    users: Users | None
    exposures: Exposures | None
    quality: Matching = Matching()

    @classmethod
    def of(cls, config: Config) -> Self:
        """The declared part of a configuration, without what changes no example."""
        # The catalogue is whole in every sample: its size must not re-run this component.
        data = config.data.model_copy(update={"sample_users": None})
        # What an attribute means (sensitive, category, brand) matters to the models only.
        users = config.users and config.users.model_copy(update={"sensitive": []})
        items = config.items.model_copy(update={"category": None, "brand": None})
        return super().of(config.model_copy(update={"data": data, "users": users, "items": items}))
