"""What the components that build a retriever obey of the configuration; no TensorFlow."""

from __future__ import annotations

from schema.config import (
    Candidates,
    Events,
    Exposures,
    Items,
    Purchases,
    Retrieval,
    Settings,
    Split,
    Users,
)


class RetrieverSettings(Settings):
    """What a retriever is built from: see `components.common.retriever_inputs`."""

    items: Items
    users: Users | None
    exposures: Exposures | None
    events: Events
    split: Split
    retrieval: Retrieval
    candidates: Candidates
    serving: Purchases
