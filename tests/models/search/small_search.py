"""A small catalogue, its index and its searcher, built once for the tests of this folder."""

import functools

import numpy as np
import tensorflow as tf

from models.search import text
from models.search.catalogue import QueryLog, SearchCatalogue, SynonymTable
from models.search.index import SearchIndex
from models.search.searcher import Found, Searcher
from models.search.suggester import Suggester
from schema.config import Search, SearchField

# id, title, brand, category, price, popularity, newest
ITEMS = [
    ("a1", "Whole milk 1 gal", "Meadow", "Dairy > Milk", 3.5, 900, 100),
    ("a2", "Chocolate milk 16 oz", "Meadow", "Dairy > Milk", 2.0, 300, 200),
    ("a3", "Oat milk unsweetened 32 oz", "Grove", "Dairy > Milk", 4.5, 200, 300),
    ("a4", "Chocolate bar dark", "Cacao", "Candy", 3.0, 400, 400),
    ("a5", "Chocolate chip cookies", "Cacao", "Candy", 5.0, 350, 0),
    ("b1", "Running shoes for men blue", "Stride", "Shoes", 80.0, 120, 500),
    ("b2", "Running shoes for women red", "Stride", "Shoes", 95.0, 130, 600),
    ("b3", "Trail running shoes", "Peak", "Shoes", 140.0, 60, 700),
    ("b4", "Leather boots", "Peak", "Shoes", 180.0, 40, 800),
    ("c1", "Toothpaste mint 6 oz", "Bright", "Care", 4.0, 500, 900),
    ("c2", "Tooth brush soft", "Bright", "Care", 2.5, 450, 910),
    ("c3", "Shampoo 2 in 1", "Silk", "Care", 6.0, 220, 920),
    ("d1", "Dog food chicken 5 lb", "Paws", "Pets", 12.0, 600, 930),
    ("d2", "Dog food beef 5 pounds", "Paws", "Pets", 13.0, 580, 940),
    ("d3", "Cat food tuna", "Paws", "Pets", 1.5, 700, 950),
    ("e1", "Cola soda 12 pack", "Fizz", "Drinks", 7.0, 800, 960),
    ("e2", "Lemon soft drink", "Fizz", "Drinks", 6.5, 100, 970),
    ("e3", "Orange pop", "Fizz", "Drinks", 6.0, 90, 980),
    ("f1", "苹果手机壳 红色", "华创", "手机配件", 20.0, 50, 990),
    ("f2", "手机充电器", "华创", "手机配件", 35.0, 70, 991),
    ("f3", "大米 5kg", "金谷", "粮油", np.nan, 80, 992),
    ("g1", "Window fan", "Breeze", "Home", np.nan, 10, 993),
    ("g2", "Fan cover", "Breeze", "Home", 9.0, 11, 994),
    ("g3", "Crème brûlée torch", "Flame", "Home", 25.0, 15, 995),
]
FIELDS = {"title": SearchField(weight=3, b=0.5), "brand": SearchField(weight=2), "category": SearchField()}
SETTINGS = Search(
    fields=FIELDS,
    synonyms=[["soda", "pop", "soft drink"]],
    candidates=20,
    lexical=20,
    semantic=6,
    facets=4,
    price_bands=[5, 50],
    source_weights={"behaviour": 2.0},
)
DIM = 64


def encode(texts: tf.Tensor) -> tf.Tensor:
    """Unit vectors of texts by their terms' fingerprints: texts with equal words have equal vectors."""
    terms = text.terms(texts)
    place = tf.strings.to_hash_bucket_fast(terms.flat_values, DIM)
    total = tf.math.unsorted_segment_sum(
        tf.one_hot(place, DIM), terms.value_rowids(), tf.shape(texts, tf.int32)[0]
    )
    return tf.math.l2_normalize(total + 1e-3, 1)


def catalogue(rows=ITEMS) -> SearchCatalogue:
    """The items as columns."""
    ids, title, brand, category, price, popularity, newest = map(list, zip(*rows, strict=True))
    strings = [np.asarray(values, object) for values in (ids, title, brand, category)]
    return SearchCatalogue(
        item_id=strings[0],
        fields={"title": strings[1], "brand": strings[2], "category": strings[3]},
        category=strings[3],
        brand=strings[2],
        price=np.asarray(price, np.float32),
        newest=np.asarray(newest, np.int64),
        popularity=np.asarray(popularity, np.float32),
    )


def position(*ids: str) -> list[int]:
    """Candidate positions of items."""
    return [[row[0] for row in ITEMS].index(name) for name in ids]


def log() -> QueryLog:
    """What people chose: who searched for "breakfast" took chocolate milk, and cookies less often."""
    chosen = position("a2", "a5", "a2")
    return QueryLog(
        np.asarray(["breakfast", "Breakfast", "breakfast "], object),
        np.asarray(chosen, np.int32),
        np.asarray([3.0, 2.0, 1.0], np.float32),
    )


@functools.cache
def index() -> SearchIndex:
    """The tables."""
    table = SynonymTable(
        np.asarray(["sneaker"], object), np.asarray(["shoes"], object), np.asarray([0.8], np.float32)
    )
    return SearchIndex.build(catalogue(), SETTINGS, table, log())


def make(settings: Search = SETTINGS, tables: SearchIndex | None = None) -> Searcher:
    """A searcher over the tables."""
    tables = tables or index()
    vectors = encode(tf.constant(tables.catalogue.fields["title"], tf.string)).numpy()
    return Searcher(tables, encode, vectors, settings)


@functools.cache
def searcher() -> Searcher:
    """The searcher of the settings above."""
    return make()


@functools.cache
def search():
    """The searcher as a compiled function of (query, allowed, own, sort)."""
    made = searcher()
    return tf.function(
        lambda query, allowed, own, sort: dict(vars(made(query, allowed, own, sort))),
        input_signature=[
            tf.TensorSpec([None], tf.string),
            tf.TensorSpec([None, None], tf.bool),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.string),
        ],
        autograph=False,
    )


def find(*queries, allowed=None, own=None, sort="") -> Found:
    """What queries find, as numpy arrays."""
    batch = len(queries)
    allowed = np.ones((1, 1), bool) if allowed is None else allowed
    own = np.zeros((batch, 0), np.int32) if own is None else np.asarray(own, np.int32)
    found = search()(
        tf.constant(list(queries), tf.string),
        tf.constant(allowed),
        tf.constant(own, tf.int32, [batch, own.shape[1]]),
        tf.constant([sort] * batch),
    )
    return Found(**{name: value.numpy() for name, value in found.items()})


def ids(found: Found, row: int = 0) -> list[str]:
    """The ids that a query found, in order."""
    return [ITEMS[place][0] for place in found.position[row] if place < len(ITEMS)]


def matching(found: Found, row: int = 0) -> set[str]:
    """The ids of the items that have all words."""
    return {ITEMS[place][0] for place in found.position[row][found.matching[row]]}


@functools.cache
def suggester() -> Suggester:
    """The suggester of the tables."""
    return Suggester(index(), SETTINGS)
