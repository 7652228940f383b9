"""How search learns: the query encoder, the ranker of what is found, and the queries that both learn from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schema.config.base import Section


class QueryEncoder(Section):
    """The encoder of queries; the items keep the text encoder's vectors, so that none is encoded twice.

    What is trained answers only if it finds more than the text encoder itself does on the validation
    queries, or, for "distilled", as much within `tolerance`.
    """

    mode: Literal["text_encoder", "tuned", "distilled"] = "text_encoder"
    """Which encoder is trained: none, all layers of the text encoder, or a shorter copy of it."""
    layers: int = Field(3, ge=1)
    """Layers of the distilled encoder, taken from the text encoder's at equal distances."""
    sequence_length: int = Field(24, ge=4)
    """Word pieces of a query that are read."""
    steps: int = Field(240, ge=1)
    """Training steps at most."""
    batch_size: int = Field(64, ge=2)
    """Queries in a batch."""
    learning_rate: float = Field(1e-3, gt=0)
    """Learning rate after the warm-up; it decays as a cosine."""
    temperature: float = Field(0.05, gt=0)
    """What similarities are divided by where queries are told from other items."""
    contrast: float = Field(0.1, ge=0)
    """Weight of telling a query's items from others, against staying near the text encoder's vector (1)."""
    hard_negatives: int = Field(8, ge=0)
    """Items for each query that words or vectors rank high and that are not right for it."""
    typos: float = Field(0.3, ge=0, le=1)
    """Share of the queries that are learned with a typing error."""
    tolerance: float = Field(0.03, ge=0)
    """Share of the text encoder's figure that the distilled one may lose and still answer."""
    validate_every: int = Field(60, ge=1)
    """Steps between two validations."""
    patience: int = Field(2, ge=1)
    """Validations without a new best after which training stops."""


class SearchTraining(Section):
    """The queries that search learns from, and the training of its ranker.

    Queries come from the judgements, from the log (`events.columns.query`) and, where there are none of
    either, from the catalogue: words of an item's text, for which the item is right. With events, one
    or two words of what a household then bought are asked in its name.
    """

    pseudo_queries: int = Field(800, ge=0)
    """Queries drawn from the catalogue's texts."""
    personal_queries: int = Field(1200, ge=0)
    """Queries asked in the name of users, for what they then bought."""
    typos: float = Field(0.25, ge=0, le=1)
    """Share of the queries that are learned a second time, with a typing error."""
    hidden: int = Field(16, ge=0)
    """Units of the ranker's hidden layer; with few queries, or 0, it is linear."""
    epochs: int = Field(30, ge=1)
    """Passes over the queries at most."""
    batch_size: int = Field(32, ge=1)
    """Queries in a batch of the ranker's training."""
    learning_rate: float = Field(1e-2, gt=0)
    """Learning rate of Adam."""
    weight_decay: float = Field(1e-3, ge=0)
    """Decay of the ranker's weights."""
    patience: int = Field(5, ge=1)
    """Epochs without a new best on the validation queries after which training stops."""
    valid_share: float = Field(0.2, gt=0, lt=0.5)
    """Share of the queries that training is stopped by, by the hash of their words."""
    test_share: float = Field(0.2, gt=0, lt=0.5)
    """Share of the queries that nothing is learned from, by the hash of their words."""
    seed: int = 17
    """Seed of everything that is drawn."""
