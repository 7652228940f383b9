"""Queries that no shop expects: every one gets a valid answer, as quickly as any other."""

import time

import numpy as np
import pytest
import tensorflow as tf

from models.funnel.search import plain, shortened
from schema import names as F
from tests.models.funnel.hostile_queries import LONG, hostile_queries
from tests.models.funnel.test_search import inputs, signature
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, ITEMS

BATCH = 128
K = 20
USUAL = ["milk", "bread no 3", "cheese under 5", "appel"]


@pytest.fixture(scope="module")
def queries():
    found = hostile_queries(tiny_shop.items().text[1:].tolist())
    assert len(found) >= 500
    assert max(map(len, found)) >= LONG
    return found


@pytest.fixture(scope="module")
def answers(queries):
    """name -> values of all queries, asked in batches."""
    parts = []
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH]
        answer = signature(F.SEARCH)(**inputs(batch, k=K))
        parts.append({name: value.numpy() for name, value in answer.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_every_answer_is_valid(queries, answers):
    for name, values in answers.items():
        assert len(values) == len(queries)
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), name
        if values.dtype == object:
            for value in values.ravel():
                value.decode("utf-8")  # raises where it is none
    known = {item.encode() for item in ITEMS}
    for query, items, scores in zip(queries, answers[F.ITEM_ID], answers[F.SCORE], strict=True):
        shown = [item for item in items if item]
        assert known.issuperset(shown), query
        assert len(set(shown)) == len(shown), query
        assert not any(items[len(shown) :]), query
        assert np.all(np.diff(scores[: len(shown)]) <= 1e-6), query
        assert np.all((scores[: len(shown)] >= 0) & (scores[: len(shown)] < 2)), query


def test_no_page_is_empty_without_a_reason(queries, answers):
    for query, items, notice, relaxed in zip(
        queries, answers[F.ITEM_ID], answers[F.NOTICE], answers[F.RELAXED], strict=True
    ):
        assert items[0], query
        assert notice or not relaxed, query


def test_what_is_repeated_is_harmless(answers):
    """No control character and no mark that turns what follows; never more than the query's limit."""
    words = CONFIG.serving.notices.model_dump().values()
    longest = max(map(len, words)) + 2 * CONFIG.serving.max_query_length
    for name in (F.NOTICE, F.REASON, F.RELAXED_QUERY, F.CORRECTED_QUERY):
        values = answers[name].ravel().tolist()
        assert plain(tf.constant(values)).numpy().tolist() == values
        assert all(len(value.decode()) <= longest for value in values)


@pytest.mark.parametrize("query", [b"", b"\xff", b"\x00" * LONG, "\u202e".encode(), "😀".encode(), b"'; --"])
def test_the_answer_is_the_same_alone(query, queries, answers):
    """A batch holds whatever others typed: it must not show."""
    [row] = [row for row, other in enumerate(queries) if other == query] or [None]
    answer = signature(F.SEARCH)(**inputs([query], k=K))
    again = signature(F.SEARCH)(**inputs([query], k=K))
    for name, value in answer.items():
        assert np.array_equal(value, again[name])
        if row is not None and value.dtype == tf.string:
            assert np.array_equal(value.numpy()[0], answers[name][row]), name


def test_suggest_survives_them_too(queries):
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH]
        asked = tiny_shop.request(["u"] * len(batch), [[]] * len(batch))
        asked |= {F.PREFIX: tf.constant(batch), F.K: tf.fill([len(batch)], 8)}
        answer = signature(F.SUGGEST)(**asked)
        assert np.isfinite(answer[F.SCORE]).all()
        for value in answer[F.COMPLETION].numpy().ravel():
            value.decode("utf-8")


def test_what_is_read_of_a_query_is_bounded(queries):
    """However long a query is, words and word pieces come from its beginning only."""
    most = CONFIG.serving.max_query_length
    for query, cut in zip(queries, shortened(tf.constant(queries), most).numpy(), strict=True):
        assert len(cut.decode("utf-8")) <= most
        assert query.decode("utf-8", "ignore").startswith(cut.decode("utf-8")[:1])


def test_the_longest_are_as_quick_as_ordinary_ones(queries):
    """Processor time, the least of several runs: what others do on the machine hardly matters."""
    call = signature(F.SEARCH)
    longest = sorted(queries, key=len)[-len(USUAL) :]
    assert min(map(len, longest)) >= LONG

    def seconds(query):
        asked = inputs([query], k=K)
        took = []
        for _ in range(5):
            begun = time.process_time()
            call(**asked)
            took.append(time.process_time() - begun)
        return min(took)

    usual = max(seconds(query) for query in USUAL)
    assert max(seconds(query) for query in longest) < 10 * usual + 0.01


def test_hostile_filters_are_valid_too(queries):
    """Brands, categories, exclusions and sort orders are words of strangers as well."""
    strange = queries[::7][:64]
    asked = inputs(["milk"] * len(strange), k=K)
    column = tf.constant([[query] for query in strange])
    asked |= {F.BRAND: column, F.CATEGORY: column, F.EXCLUDE_ITEM_ID: column, F.SORT: column[:, 0]}
    for value in signature(F.SEARCH)(**asked).values():
        assert value.dtype == tf.string or np.isfinite(tf.cast(value, tf.float64)).all()
