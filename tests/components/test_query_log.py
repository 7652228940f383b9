"""From the events' query column to what a search finds: a shop whose shoppers use a word that no item has."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts, search_inputs
from components.common.queries import SETS, Queries
from components.common.search_lists import Describer
from components.common.searches import Searches
from components.query_encoder_trainer import executor as query_encoder
from components.query_encoder_trainer import training
from components.search_trainer import executor, material
from components.search_trainer.executor import Material
from models.data import example_io
from models.data.item_table import ItemTable
from models.data.requests import RequestParser, Vocabularies
from models.funnel.search import SearchPairs
from models.search.catalogue import SearchCatalogue
from models.search.index import SearchIndex
from models.search.searcher import Searcher
from schema import names as F
from schema.config import Config, Items, Search, SearchTraining
from tests.models.search.small_search import encode
from tests.shops import tiny_shop

COLOURS = ("red", "blue", "green", "black", "white", "grey", "pink", "brown")
KINDS = ("running shoes", "leather boots", "rain jacket", "wool socks", "straw hat")
TITLES = [f"{kind} {colour}" for kind in KINDS for colour in COLOURS]
SHOES, HATS = KINDS[0], KINDS[4]
UNSEEN = f"{SHOES} brown"  # nobody has chosen it
WORD, OCCASION = "sneakers", "beach party"  # no item has these words
# The log before the window that is learned from, in it, and after everything that is known
EARLIER, WINDOW, CUTOFF = 1_000, 2_000, 3_000
SEARCH = Search(lexical=20, semantic=4, behaviour=10, candidates=30)


def choices() -> list[tuple[str, str, int]]:
    """(query, title, time) of every event, as shoppers typed and chose."""
    seen = []
    for time in (EARLIER, WINDOW):
        for number, colour in enumerate(COLOURS[:-1]):
            seen += [
                (WORD, f"{SHOES} {colour}", time + number),
                (f"{colour} {WORD}", f"{SHOES} {colour}", time),
            ]
            seen += [(f"{WORD} {other}", f"{SHOES} {other}", time) for other in COLOURS[:3]]
            # at every one they buy the same two hats, and a few something else
            seen += [(f"{OCCASION} ", f"{HATS} red", time + number), (OCCASION, f"{HATS} pink", time)]
            seen += [(f"{colour} jacket", f"{KINDS[2]} {colour}", time), ("", f"{KINDS[3]} red", time)]
        seen.append((OCCASION, f"{SHOES} red", time))
    # of all that is red they choose what sells least: the sources alone would show it last
    seen += [(colour, f"{HATS} {colour}", WINDOW) for colour in COLOURS]
    return [*seen, (OCCASION, UNSEEN, CUTOFF)]  # not known yet


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    """The log as SearchTrainer reads it: of session examples."""
    folder = str(tmp_path_factory.mktemp("sessions"))
    query, title, time = zip(*choices(), strict=True)
    columns = {
        F.TIMESTAMP: [[value] for value in time],
        F.TARGET_ITEM_ID: [[item_id(value)] for value in title],
        F.TARGET_QUERY: [[value] for value in query],
    }
    example_io.write_records(folder, [tiny_shop.record_batch(columns)])
    return Searches.read([folder])


def item_id(title: str) -> str:
    return f"i{TITLES.index(title):02d}"


@functools.cache
def catalogue() -> SearchCatalogue:
    count, titles = len(TITLES), np.asarray(TITLES, object)
    ids = np.asarray([item_id(title) for title in TITLES], object)
    unknown = np.full(count, np.nan, np.float32)
    nothing = np.zeros(count, np.int64)
    popularity = np.repeat(10.0 ** np.arange(len(KINDS))[::-1], len(COLOURS)).astype(np.float32)
    return SearchCatalogue(ids, {"title": titles}, None, None, unknown, nothing, popularity)


def logged(searches, start, end):
    return material.chosen_items(searches, catalogue(), start, end)


def vectors() -> np.ndarray:
    return encode(tf.constant(TITLES)).numpy()


@pytest.fixture(scope="module")
def trained(searches, tmp_path_factory):
    """SearchTrainer's artifact, and what it wrote of the training."""
    rows = np.zeros(0, np.int64)
    ids = np.asarray(["", *catalogue().item_id], object)
    items = ItemTable(ids, np.asarray(["", *TITLES], object), {}, {}, rows, rows, {})
    columns = Items(path="items", item_id="id", text=["title"])
    config = Config.model_construct(
        items=columns,
        events=None,
        search=SEARCH,
        **{name: Config.model_fields[name].default for name in ("serving", "candidates")},
    )
    parser = RequestParser(items, Vocabularies([], ["purchase"], {}, [], {}, {}), 5)
    index = SearchIndex.build(catalogue(), SEARCH, log=logged(searches, 0, WINDOW))
    searcher = Searcher(index, encode, vectors(), SEARCH)
    pairs = SearchPairs(searcher, catalogue(), items, parser, None, config)
    asked = executor.logged_queries(logged(searches, WINDOW, CUTOFF))
    folder = tmp_path_factory.mktemp("search")
    executor.run(
        *(catalogue(), Describer(pairs, []), searcher.feature_names, ()),
        *(Material(dict.fromkeys(SETS, Queries.none()), asked), logged(searches, 0, CUTOFF)),
        *(
            SearchTraining(epochs=8, valid_share=0.3, test_share=0.01),
            5,
            str(folder / "model"),
            str(folder / "run"),
        ),
    )
    facts = json.loads((folder / "model" / artifacts.SEARCH_FACTS).read_text())
    return str(folder / "model"), facts


@pytest.fixture(scope="module")
def found(trained):
    """Query -> (titles in the order of the servable's ranker, what the searcher says of the query)."""
    log = search_inputs.read_log(trained[0], catalogue().item_id)
    assert set(log.query) == {query.strip() for query, _, _ in choices()} - {""}
    encoder = tf.Module()
    encoder.encode = encode
    parts = search_inputs.parts(catalogue(), vectors(), encoder, trained[0], SEARCH)

    def ask(query):
        described = parts.searcher(tf.constant([query]), tf.ones([1, 1], tf.bool))
        score = parts.ranker.order(
            parts.ranker.score(described.features, None), described.exact, described.valid
        )
        order = np.argsort(-score[0].numpy(), kind="stable")
        order = order[described.valid[0].numpy()[order]]
        return [TITLES[place] for place in described.position[0].numpy()[order]], described

    return ask


@pytest.fixture(scope="module")
def by_words():
    """What the same search matches without a log."""
    searcher = Searcher(SearchIndex.build(catalogue(), SEARCH), encode, vectors(), SEARCH)
    return lambda query: searcher(tf.constant([query]), tf.ones([1, 1], tf.bool))


def matching(described) -> set[str]:
    return {TITLES[place] for place in described.position[0].numpy()[described.matching[0].numpy()]}


def test_the_log_is_counted_within_its_time(searches):
    early, known = logged(searches, 0, WINDOW), logged(searches, 0, CUTOFF)
    assert known.weight.sum() - len(COLOURS) == 2 * early.weight.sum() > 0
    counted = dict(zip(zip(known.query, known.position, strict=True), known.weight, strict=True))
    assert counted[OCCASION, TITLES.index(f"{HATS} red")] == 2 * (len(COLOURS) - 1)
    assert (OCCASION, TITLES.index(UNSEEN)) not in counted
    assert "" not in known.query


def test_the_ranker_learns_from_the_log_alone(trained):
    _, facts = trained
    assert facts["learned_from"]["logged"] > 10
    assert facts["learned_from"]["known-item"] == facts["learned_from"]["judged"] == 0
    assert facts["best"]["ndcg@10"] > facts["before"] + 0.02


def test_what_people_chose_after_a_query_is_found_by_it_and_not_by_words_alone(found, by_words):
    assert not matching(by_words(OCCASION))
    titles, described = found(OCCASION.upper() + "!")
    assert set(titles[:2]) == {f"{HATS} red", f"{HATS} pink"}
    assert (
        described.source[0, described.position[0].numpy().tolist().index(TITLES.index(titles[0]))]
        == b"behaviour"
    )


def test_a_word_of_shoppers_stands_for_the_catalogues_where_nobody_has_chosen(found, by_words):
    """It was never asked for brown ones, and no brown ones were ever chosen."""
    query = f"brown {WORD}"
    assert UNSEEN not in matching(by_words(query)) or by_words(query).relaxed[0]
    titles, described = found(query)
    assert titles[0] == UNSEEN
    assert matching(described) == {UNSEEN}
    assert not described.relaxed[0]
    assert described.corrected_query[0] == b""
    assert matching(found(WORD)[1]) == {title for title in TITLES if title.startswith(SHOES)}


@pytest.mark.parametrize("least", [0, 10_000])
def test_few_choices_teach_no_word(searches, least):
    settings = SEARCH.model_copy(update={"learned_synonyms": least})
    index = SearchIndex.build(catalogue(), settings, log=logged(searches, 0, CUTOFF))
    assert len(index.synonyms.key) == 0


def test_what_words_find_are_hard_negatives_of_the_query_encoder():
    asked = Queries.of(["red jacket", "qqqq"], [0, 1], [TITLES.index("rain jacket red"), 0])
    lists = query_encoder.found_by_words(catalogue(), asked, SEARCH)
    listed = [TITLES[place] for place in lists[0] if place >= 0]
    assert listed[0] == "rain jacket red"
    assert set(listed) == {title for title in TITLES if {"red", "jacket"} & set(title.split())}
    assert (lists[1] == -1).all()
    drawn = training.hard_negatives(asked, [lists], 50, np.random.default_rng(0))
    assert {TITLES[place] for place in drawn[0] if place >= 0} == set(listed[1:])
