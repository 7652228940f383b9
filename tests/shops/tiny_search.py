"""A search of the tiny shop: its words, prices and dates, and a ranker that nobody had to train."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from components.common import artifacts
from models.funnel.personal import PersonalFeatures
from models.funnel.scorer import Scorer
from models.funnel.search import SearchParts
from models.search.catalogue import QueryLog, SearchCatalogue
from models.search.index import SearchIndex
from models.search.ranker import SearchRanker
from models.search.searcher import Searcher
from models.search.suggester import Suggester
from schema.config import Search
from tests.shops import tiny_shop

UNPRICED = "105"  # its price is not known
LOGGED = ("breakfast", ("101", "103"))  # a query without any of the items' words, and what was chosen
SEARCH = Search.model_validate(
    {"lexical": 30, "semantic": 12, "own": 20, "candidates": 40, "synonyms": [["roll", "bun"]], "facets": 4}
)
# What a pair's score is made of: words first, then what the user is likely to buy.
_WEIGHTS = {"coverage": 20.0, "fused": 2.0, "logit": 0.3, "own_decayed": 5.0}


@functools.cache
def catalogue() -> SearchCatalogue:
    """All items; item n costs 1 + n / 4 and appeared on day n."""
    items = tiny_shop.items()
    number = np.arange(len(items) - 1)
    names = {name: items.vocabularies[name][codes[1:]] for name, codes in items.categorical.items()}
    price = (1 + number / 4).astype(np.float32)
    price[items.item_id[1:] == UNPRICED] = np.nan
    bought = tiny_shop.events()["item_id"].value_counts()
    return SearchCatalogue(
        item_id=items.item_id[1:],
        fields={"name": items.text[1:], "brand": names["brand"], "department": names["department"]},
        category=names["department"],
        brand=names["brand"],
        price=price,
        newest=tiny_shop.START + number.astype(np.int64) * tiny_shop.DAY,
        popularity=np.asarray([bought.get(item, 0) for item in items.item_id[1:]], np.float32),
    )


@functools.cache
def index() -> SearchIndex:
    query, chosen = LOGGED
    position = np.flatnonzero(np.isin(catalogue().item_id, chosen)).astype(np.int32)
    log = QueryLog(np.asarray([query] * len(chosen), object), position, np.ones(len(chosen), np.float32))
    return SearchIndex.build(catalogue(), SEARCH, log=log)


def parts(personal: PersonalFeatures | None, settings: Search = SEARCH) -> SearchParts:
    """What SearchTrainer gives; with `personal` None, of a shop without events."""
    folder = artifacts.model_folder(tiny_shop.text_encoder()[0])
    encoder = tiny_shop.load(folder)
    vectors = encoder.encode(tf.constant(tiny_shop.items().text[1:].tolist())).numpy()
    searcher = Searcher(index(), encoder.encode, vectors, settings)
    names = () if personal is None else personal.names
    ranker = SearchRanker(searcher.feature_names, names, hidden=0)
    weights = [_WEIGHTS.get(name, 0.0) for name in (*ranker.features, *names)]
    assert sum(map(bool, weights)) == (2 if personal is None else len(_WEIGHTS))
    [linear] = ranker.trainable_variables
    linear.assign(np.asarray(weights, np.float32)[:, None])
    return SearchParts(catalogue(), searcher, ranker, Suggester(index(), settings), encoder)


def personal_parts(retriever, ranker) -> SearchParts:
    """The same of the shop with events: of a retriever and the loaded ranker of its funnel."""
    return parts(PersonalFeatures(retriever, tiny_shop.items(), Scorer(retriever, ranker)))
