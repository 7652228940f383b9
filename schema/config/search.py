"""Search: how a shopper's words are read, how items are found and what is suggested."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from schema.config.base import Section

# Words that say nothing about an item: they are looked for only where a query has no others.
_IGNORED = (
    *("a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "that"),
    *("the", "this", "to", "with", "cheap", "cheapest", "inexpensive", "affordable", "buy", "的"),
)


class SearchField(Section):
    """A text column of the items, as BM25F reads it."""

    weight: float = Field(1.0, ge=0)
    """How much a word in this field counts."""
    b: float = Field(0.75, ge=0, le=1)
    """How much a long field discounts its words, from 0 (not at all) to 1."""


class Judgements(Section):
    """An optional table of human judgements: which item is how right for a query."""

    path: str
    """Files of the table, below `data.root`; a path, pattern or URL."""
    query: str = "query"
    """Column of the query."""
    item_id: str = "item_id"
    """Column of the item's id."""
    grade: str = "grade"
    """Column of the grade."""
    gains: dict[str, Annotated[float, Field(ge=0)]] = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
    """Grade -> gain in NDCG; the best is also what recall and MRR count."""


class Suggest(Section):
    """Completions of what a shopper types."""

    phrases: int = Field(50_000, ge=1)
    """Phrases that are kept, the most popular ones."""
    phrase_words: int = Field(4, ge=1)
    """Words of a phrase from the catalogue's titles at most."""
    default_k: int = Field(8, ge=1)
    """Completions where the request does not say how many."""
    max_k: int = Field(20, ge=1)
    """Completions at most."""
    affinity: float = Field(1.0, ge=0)
    """How much the user's own categories lift a phrase, in units of its log popularity."""


class Search(Section):
    """How a shopper's words find items."""

    enabled: bool = True
    """Whether the servable has `search` and `suggest`."""
    fields: dict[str, SearchField] = {}
    """Column of `items.text`, or `brand` or `category` -> its weight; all with weight 1 if not given."""
    title: str | None = None
    """The field that names an item; the first of `items.text` if not given.

    A query that is exactly an item's title gives that item first.
    """
    k1: float = Field(1.2, gt=0)
    """How soon further occurrences of a word add nothing, in BM25F."""
    synonyms: list[Annotated[list[str], Field(min_length=2)]] = []
    """Groups of words or phrases that mean the same, such as [soda, pop, soft drink]."""
    synonym_weight: float = Field(0.7, ge=0, le=1)
    """How much an item counts that has a synonym of the word in the query."""
    learned_synonyms: int = Field(5, ge=0)
    """Choices after queries with a word that no item has, from which it is learned what stands for it.

    The terms that at least half of the chosen items' titles share do; 0 learns nothing.
    """
    ignored_words: list[str] = list(_IGNORED)
    """Words that are looked for only where a query has no others."""
    spelling: bool = True
    """Whether words that the catalogue lacks are read as similar ones that it has."""
    price_words: bool = True
    """Whether "under 20", "over 5" and "20 to 30" in a query bound the price."""
    lexical: int = Field(200, ge=0)
    """Candidates by words."""
    semantic: int = Field(100, ge=0)
    """Candidates by the similarity of text vectors."""
    behaviour: int = Field(50, ge=0)
    """Candidates that people chose who searched for the same."""
    own: int = Field(100, ge=0)
    """Candidates among the user's own items and recommendations that match the query."""
    exact: int = Field(20, ge=0)
    """Candidates whose title or id is the query."""
    candidates: int = Field(250, ge=1)
    """Candidates of all sources together that are ranked."""
    rank_constant: float = Field(60.0, gt=0)
    """Constant of reciprocal rank fusion: a source's rank r (from 1) counts 1 / (constant + r)."""
    source_weights: dict[
        Literal["lexical", "semantic", "behaviour", "own"], Annotated[float, Field(ge=0)]
    ] = {}
    """Weight of a source in the fusion; 1 if not given."""
    popularity: float = Field(0.1, ge=0)
    """By what share the most popular item's score by words is raised; less popular ones by less."""
    semantic_dim: int = Field(96, ge=0)
    """Dimensions in which text vectors are searched; all compare what was found. 0 searches in all."""
    index: Literal["auto", "exact", "int8", "ivf", "ivf_int8"] = "auto"
    """How text vectors are searched; "auto" is exact, or ivf where there are many items."""
    index_recall: float = Field(0.95, gt=0, le=1)
    """Recall@20 that a partitioned index of text vectors is tuned to reach."""
    price_bands: list[Annotated[float, Field(gt=0)]] = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
    """Borders of the price bands that facets count, ascending."""
    facets: int = Field(10, ge=0)
    """Values of a facet at most: categories, brands and price bands with most items."""
    intents: int = Field(3, ge=1)
    """Categories and brands that an answer names as the query's intent."""
    suggest: Suggest = Suggest()
    judgements: Judgements | None = None

    @pydantic.field_validator("price_bands")
    @classmethod
    def _ascending(cls, bands: list[float]) -> list[float]:
        if sorted(set(bands)) != bands:
            raise ValueError(f"{bands} are not ascending; sort them and leave out repeated ones")
        return bands
