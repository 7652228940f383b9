"""What QueryEncoderTrainer obeys."""

from __future__ import annotations

from schema.config import Items, QueryEncoder, Search, SearchTraining, TextEncoder
from schema.config import Settings as Base


class Settings(Base):
    """The encoder that queries start from and stay near to, and the queries."""

    items: Items
    text_encoder: TextEncoder
    query_encoder: QueryEncoder
    search: Search
    search_training: SearchTraining
