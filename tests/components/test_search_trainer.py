"""The ranker's fit against a plain loop, and that it learns; what users are asked; evaluation queries."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from components.common import personal_queries, search_inputs
from components.common.queries import Queries
from components.search_trainer import executor, fitting
from components.search_trainer.executor import Material
from components.search_trainer.fitting import Lists
from models.data.event_log import EventLog
from models.data.item_table import ItemTable
from models.search.catalogue import QueryLog, SearchCatalogue
from models.search.ranker import SearchRanker
from schema.config import Items, SearchTraining
from schema.errors import DataError

NAMES = ("fused", "noise", "signal")


def lists(seed, queries=40, count=12, personal=0):
    """Candidates of which the third feature tells the gains; the fusion is no use."""
    rng = np.random.default_rng(seed)
    gain = rng.choice([0.0, 0.1, 1.0], (queries, count), p=[0.7, 0.15, 0.15]).astype(np.float32)
    features = rng.normal(size=(queries, count, 3)).astype(np.float32)
    features[..., 2] += 3 * gain
    valid = rng.random((queries, count)) < 0.9
    gain *= valid
    ideal = [
        sum(g / math.log2(rank + 2) for rank, g in enumerate(sorted(row, reverse=True)[:10])) for row in gain
    ]
    position = np.tile(np.arange(count, dtype=np.int32), (queries, 1))
    mine = rng.normal(size=(queries, count, personal)).astype(np.float32)
    never = np.zeros((queries, count), bool)
    return Lists(features, mine, position, valid, never, gain, np.maximum(ideal, 1e-3))


def naive_loss(score, gain, valid, ideal):
    total = 0.0
    for b in range(len(score)):
        usable = [i for i in range(len(score[b])) if valid[b, i]]
        order = sorted(usable, key=lambda i: -score[b, i])
        discount = {i: 1 / math.log2(order.index(i) + 2) for i in usable}
        for i in usable:
            for j in usable:
                if gain[b, i] > gain[b, j]:
                    change = abs(discount[i] - discount[j]) * (gain[b, i] - gain[b, j])
                    total += change * math.log1p(math.exp(score[b, j] - score[b, i])) / ideal[b]
    return total / len(score)


def test_loss_equals_plain_loops():
    given = lists(1, queries=5)
    score = np.random.default_rng(2).normal(size=given.gain.shape).astype(np.float32)
    ideal = given.ideal.astype(np.float32)
    found = fitting.lambda_loss(tf.constant(score), given.gain, given.valid, ideal)
    assert float(found) == pytest.approx(naive_loss(score, given.gain, given.valid, ideal), rel=1e-4)


def test_fit_learns_what_tells_and_keeps_the_best():
    train, valid = lists(3, queries=100), lists(4)
    ranker = SearchRanker(NAMES, (), 0)
    history, best = fitting.fit(ranker, train, valid, SearchTraining(epochs=5, learning_rate=0.1))
    assert best[fitting.MEASURE] > history[0][fitting.MEASURE] + 0.2
    assert best[fitting.MEASURE] == max(entry[fitting.MEASURE] for entry in history)
    assert fitting.measured(ranker, valid) == pytest.approx(best[fitting.MEASURE], abs=1e-6)
    top = fitting.ordered(ranker, valid)
    assert (np.sort(top, 1) == np.sort(np.where(valid.valid, valid.position, -1), 1)).all()


def test_what_teaches_nothing_leaves_the_order_of_the_sources():
    nothing = dataclasses.replace(lists(5), gain=np.zeros_like(lists(5).gain))
    ranker = SearchRanker(NAMES, (), 0)
    history, best = fitting.fit(ranker, nothing, lists(6), SearchTraining(epochs=5))
    assert len(history) == 1
    assert best["epoch"] == 0
    features = lists(6).features
    score = ranker.score(features).numpy()
    assert (np.argsort(score, 1) == np.argsort(features[..., 0], 1)).all()


def test_exact_names_come_first_whatever_was_learned():
    given = lists(7, queries=6)
    exact = np.zeros_like(given.valid)
    exact[:, 4] = True
    given = dataclasses.replace(given, exact=exact, valid=np.ones_like(given.valid))
    ranker = SearchRanker(NAMES, (), 4)
    fitting.fit(ranker, lists(8, queries=100), lists(9), SearchTraining(epochs=2))
    assert (fitting.ordered(ranker, given)[:, 0] == 4).all()


@pytest.mark.parametrize(("queries", "widths"), [(29, [0]), (30, [0, 5])])
def test_a_hidden_layer_needs_enough_lists(monkeypatch, queries, widths):
    tried = []

    def fit(ranker, train, valid, config):
        tried.append(0 if ranker._hidden is None else ranker._hidden.shape[1])
        entry = {"epoch": 0.0, fitting.MEASURE: float(len(tried))}
        return [entry], entry

    monkeypatch.setattr(fitting, "_ENOUGH", 30)
    monkeypatch.setattr(fitting, "fit", fit)
    ranker, _, best = fitting.fitted(NAMES, (), lists(10, queries), lists(11, 3), SearchTraining(hidden=5))
    assert tried == widths
    assert best["hidden"] == widths[-1]  # the one that orders better
    assert ranker.features == NAMES


def catalogue():
    kinds = ["whole milk", "oat milk", "dog food", "cat food", "rye bread"]
    count = 100
    titles = np.asarray([f"{kinds[place % 5]} no{place}" for place in range(count)], object)
    category = np.asarray([kinds[place % 5].split()[1] for place in range(count)], object)
    fields = {"title": titles, "shelf": np.full(count, "everything", object), "category": category}
    ids = np.asarray([f"i{place:03d}" for place in range(count)], object)
    unknown = np.full(count, np.nan, np.float32)
    popularity = np.arange(count, dtype=np.float32)
    return SearchCatalogue(ids, fields, category, None, unknown, np.zeros(count, np.int64), popularity)


def log(seed=0, events=600):
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, 12, events)).astype(np.int32)
    item = rng.integers(0, 101, events).astype(np.int32)  # the last one is not in the catalogue
    zeros = np.zeros(events, np.int32)
    return EventLog(
        users=np.asarray([f"u{n:02d}" for n in range(12)], object),
        items=np.asarray([f"i{n:03d}" for n in range(101)], object),
        event_types=np.asarray(["purchase"], object),
        user=user,
        item=item,
        event_type=zeros,
        bought=np.ones(events, bool),
        weight=np.ones(events, np.float32),
        timestamp=rng.integers(0, 1000, events),
        session=zeros.astype(np.int64),
        quantity=np.ones(events, np.float32),
        value=np.ones(events, np.float32),
        part=zeros.astype(np.int8),
        contexts={},
    )


def test_users_are_asked_with_words_of_what_they_then_buy(monkeypatch):
    monkeypatch.setattr(personal_queries, "_MOST_SHARE", 0.5)
    items, events = catalogue(), log()
    asked = personal_queries.of_purchases(items, "title", events, 700, 1000, 8, 5)
    queries = asked.queries
    assert len(asked.user) == len(queries) > 8
    assert len(np.unique(asked.user)) <= 8
    for query, (text, user) in enumerate(zip(queries.text, asked.user, strict=True)):
        mine = (events.user == user) & (events.timestamp >= 700)
        assert ((events.user == user) & (events.timestamp < 700)).any()
        bought = {int(item) for item in events.item[mine] if item < 100}
        right = {
            item
            for item in bought
            if f" {text} " in f" {items.fields['title'][item]} " or text == items.category[item]
        }
        assert set(queries.position[queries.query == query]) == right
        assert "no" not in text
        assert "everything" not in text


def test_log_as_queries_and_what_is_evaluated():
    words = np.asarray(["milk", "dog", "milk"], object)
    queries = executor.logged_queries(
        QueryLog(words, np.asarray([3, 2, 1]), np.asarray([4, 1, 2], np.float32))
    )
    entries = zip(queries.text[queries.query], queries.position, queries.gain, strict=True)
    assert sorted(entries) == [("dog", 2, 1.0), ("milk", 1, 0.5), ("milk", 3, 1.0)]
    none, config = Queries.none(), SearchTraining()
    without = dict.fromkeys(("train", "eval", "test"), none)
    sets = executor.evaluation_sets(catalogue(), Material(without | {"test": queries}, none), config, 10)
    assert list(sets) == ["judged", "known_item", "judged_typos", "known_item_typos"]
    assert (sets["judged_typos"].text != queries.text).all()
    assert (
        list(executor.evaluation_sets(catalogue(), Material(without, none), config, 10)) == list(sets)[1::2]
    )


def test_a_catalogue_without_words_is_told():
    numbers = {"title": np.asarray([str(place) for place in range(100)], object)}
    without = dict.fromkeys(("train", "eval", "test"), Queries.none())
    material = Material(without, Queries.none())
    with pytest.raises(DataError, match="no query to learn from.*set search.enabled: false"):
        executor.lessons(
            dataclasses.replace(catalogue(), fields=numbers), pytest.fail, material, SearchTraining()
        )


def test_the_searched_catalogue_is_in_the_order_of_the_rows():
    columns = {
        "item_id": [["b"], ["c"], ["a"]],
        "text_title": [["milk"], [], ["pear"]],
        "maker": [["acme"], ["best"], []],
        "item_price": [[2.5], [], [-1.0]],
        "item_popularity": [[7.0], [-3.0], []],
    }
    raw = pa.table(columns)
    ids = np.asarray(["", "a", "b", "c", "gone"], object)
    none = np.zeros(0, np.int64)
    items = ItemTable(ids, np.full(5, "", object), {}, {}, none, none, {})
    numbers = {"price": "p", "popularity": "n"}
    roles = {"categorical": {"maker": "m"}, "brand": "maker"}
    settings = Items(path="i", item_id="i", text=["title"], **roles, **numbers)
    found = search_inputs.catalogue(raw, items, settings)
    assert found.item_id.tolist() == ["a", "b", "c", "gone"]
    assert {name: values.tolist() for name, values in found.fields.items()} == {
        "title": ["pear", "milk", "", ""],
        "brand": ["", "acme", "best", ""],
    }
    assert found.category is None
    assert np.isnan(found.price).tolist() == [True, False, True, True]
    assert found.price[1] == 2.5
    assert found.popularity.tolist() == [0, 7, 0, 0]
    assert found.newest.tolist() == [0, 0, 0, 0]
