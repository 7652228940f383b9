"""What CandidateSampler obeys."""

from __future__ import annotations

from components.common.sections import RetrieverSettings
from schema.config import Lists, Name, Section


class ItemSlices(Section):
    """Of `quality`, the attributes by whose values the lists are sliced."""

    item_slices: list[Name]


class Settings(RetrieverSettings):
    """The retriever and the lists; the ranker's layers and losses do not change what it learns from."""

    ranking: Lists
    quality: ItemSlices
