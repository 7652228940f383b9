"""Candidate sources against naive numpy, one request at a time."""

import dataclasses
import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.requests import RequestParser
from models.ranking.features.pair_features import PairFeatures
from models.retrieval.index.kinds import make_plan
from models.retrieval.index.plan import Plan
from models.retrieval.sources.base import Source
from models.retrieval.sources.candidate_sources import SOURCES, CandidateSources
from models.retrieval.sources.own_events import OwnEvents
from models.retrieval.sources.segments import segment_extreme, segment_sum
from schema import names as F
from schema.config import Candidates
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY

REQUESTS = 12
DIM = 5
LEARNED = 3  # of them the towers'


@functools.cache
def shop_snapshot():
    return tiny_shop.snapshot_at(CUTOFF)


@functools.cache
def row_vectors():
    values = np.random.default_rng(1).normal(size=(len(tiny_shop.items()), DIM)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@functools.cache
def row_text():
    """Of what an item's text is about, unit vectors; nothing is known of row 0 and of the last item's."""
    values = np.random.default_rng(4).normal(size=(len(tiny_shop.items()), 4)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[[0, -1]] = 0
    return values


def pair_features(which):
    return PairFeatures(shop_snapshot(), tiny_shop.items(), which, row_text(), LEARNED)


def vectors():
    return row_vectors()[shop_snapshot().candidate_row]


@functools.cache
def queries():
    values = np.random.default_rng(2).normal(size=(REQUESTS, DIM)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@functools.cache
def sources(**sizes):
    config = CONFIG.candidates.model_copy(update=sizes)
    return made(Plan.whole("exact"), config)


def made(plan, config):
    return CandidateSources(
        shop_snapshot(), frozen_table(row_vectors()), plan, config, tiny_shop.event_types()
    )


@functools.cache
def sources_with(kind):
    """Sources with an index that is not exact; a partitioned one misses some candidates."""
    plan = make_plan(kind, row_vectors(), shop_snapshot().candidate_row, queries(), 12, 0.8)
    return made(plan, CONFIG.candidates)


@functools.cache
def histories():
    """(item, age, event type); nobody has told the shop what a wish is."""
    kinds = ("purchase", "view", "purchase", "purchase", "wish", "view", "purchase")
    return [
        [(*event, kinds[place % len(kinds)]) for place, event in enumerate(history)]
        for history in tiny_shop.random_histories(REQUESTS)
    ]


WEIGHT = {"purchase": 1.0, "view": 0.25, "wish": 0.25}


def bought(history):
    return [(item, age) for item, age, kind in history if kind == "purchase"]


def still_open(history):
    """Views and the like after the last purchase of their item."""
    return [
        (item, age, kind)
        for item, age, kind in history
        if kind != "purchase" and not any(item == other and age >= when for other, when in bought(history))
    ]


@functools.cache
def parsed():
    parser = RequestParser(tiny_shop.items(), tiny_shop.vocabularies(), 40)
    return parser(tiny_shop.request(["u01"] * REQUESTS, histories()))


def position_of(item):
    ids = tiny_shop.items().item_id.tolist()
    row = ids.index(item) if item in ids else 0
    return int(shop_snapshot().row_candidate[row])


@functools.cache
def naive_new(days):
    """Positions of the candidates without an event more than so many days before the moment."""
    frame = tiny_shop.events()
    past = frame[frame["timestamp"] < CUTOFF]
    first = (CUTOFF - past.groupby("item_id")["timestamp"].min()) / DAY
    ids = tiny_shop.items().item_id[shop_snapshot().candidate_row]
    return [position for position, item in enumerate(ids) if first[item] <= days]


def naive_after(history):
    """How much the user is after each candidate, by all events."""
    out = np.zeros(len(shop_snapshot().candidate_row))
    for item, age, kind in history:
        if position_of(item) < len(out):
            out[position_of(item)] += WEIGHT[kind] * 0.5 ** (age / 90)
    return out


def naive_scores(history, query):
    """Scores of all candidates by source: plain loops over the history's events."""
    table = shop_snapshot()
    count = len(table.candidate_row)
    again, viewed, after = np.zeros(count), np.zeros(count), naive_after(history)
    for item, age in bought(history):
        if position_of(item) < count:
            again[position_of(item)] += 0.5 ** (age / 90)
    for item, age, kind in still_open(history):
        if position_of(item) < count:
            viewed[position_of(item)] += WEIGHT[kind] * 0.5 ** (age / 14)
    together = np.zeros(count)
    for own in np.flatnonzero(after > 0):  # fewer than the sources' limit of seeds
        for other, weight in zip(table.neighbour[own], table.neighbour_weight[own], strict=True):
            if other < count:
                together[other] += weight * math.log1p(after[own])
    near = vectors() @ query
    new = np.full(count, -1e9)
    for position in naive_new(CONFIG.candidates.new_days):
        new[position] = near[position]
    promotions, code = table.promotions, tiny_shop.items().categorical["brand"]
    kind = code[table.candidate_row]
    planned = np.zeros(count)
    for position, row in enumerate(table.candidate_row):
        first = promotions.current  # of three weeks that are known
        weeks = sum(int(promotions.weeks[row, 0]) >> week & 1 for week in range(first, first + 3))
        of_kind = again[(kind == kind[position]) & (kind > 0)].sum()
        lines = math.log1p(promotions.base[row] * promotions.lift[row])
        planned[position] = weeks * lines * (0.1 + math.log1p(of_kind))
    return {
        F.VIEWED: viewed,
        F.PLANNED: planned,
        F.BUY_AGAIN: again,
        F.CO_PURCHASED: together,
        F.TWO_TOWER: near,
        F.TRENDING: table.trending + table.popularity / (table.popularity.max() + 1),
        F.NEW_ITEMS: new,
    }


def naive_top(scores, allowed, size):
    """source -> positions, best first."""
    out = {}
    for name in SOURCES:
        usable = allowed & ((scores[name] > 0) | (name in (F.TWO_TOWER, F.TRENDING, F.NEW_ITEMS)))
        usable &= scores[name] > -1e9
        order = sorted(np.flatnonzero(usable), key=lambda p: (-np.float32(scores[name][p]), p))
        out[name] = order[: min(size[name], len(allowed))]
    return out


def find(which, allowed=None, batch=slice(None)):
    request = {name: value[batch] for name, value in parsed().items()}
    query = tf.constant(queries()[batch])
    if allowed is None:
        allowed = np.ones((1, which.count), bool)
    return which(request, query, tf.constant(allowed))


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("k", ["config", "more than the catalogue"])
def test_each_source_gives_its_naive_top(restricted, k):
    which = sources() if k == "config" else sources(**dict.fromkeys(SOURCES, 999))
    size = dict.fromkeys(SOURCES, 999) if k != "config" else {
        name: getattr(CONFIG.candidates, name) for name in SOURCES
    }  # fmt: skip
    rng = np.random.default_rng(3)
    allowed = (
        rng.random((REQUESTS, which.count)) < 0.5 if restricted else np.ones((REQUESTS, which.count), bool)
    )
    found = find(which, allowed)
    dense, found_ranks = which.dense_scores(found), found.ranks()
    for place in range(REQUESTS):
        scores = naive_scores(histories()[place], queries()[place])
        expected = naive_top(scores, allowed[place], size)
        for name in SOURCES:
            if name not in (F.TWO_TOWER, F.PLANNED):
                np.testing.assert_allclose(dense[name][place], scores[name], rtol=1e-4, atol=1e-5)
            limit = min(size[name], which.count)
            ranks = np.full(which.count, limit, np.float32)
            ranks[expected[name]] = np.arange(len(expected[name]))
            np.testing.assert_array_equal(found_ranks[name][place], ranks, err_msg=f"{name} {place}")
        union = sorted(set().union(*expected.values()))
        position = found.position[place].numpy()
        assert sorted(position[position < which.count]) == union
        np.testing.assert_array_equal(found.valid[place], position < which.count)
        assert len(position) == sum(min(size[name], which.count) for name in SOURCES)
        assert (position[position >= which.count] == which.count).all()


def test_own_counts_and_ages():
    found = find(sources())
    count = sources().count
    assert sources().own_names == ("count", "decay_14", "decay_45", "decay_90", "decay_180")
    every = found.own.of(tf.repeat(tf.range(count)[None], REQUESTS, 0)).numpy()
    for place, history in enumerate(histories()):
        for candidate in range(count):
            ages = [age for item, age in bought(history) if position_of(item) == candidate]
            own = [len(ages), *(sum(0.5 ** (age / days) for age in ages) for days in (14, 45, 90, 180))]
            own += [max(ages, default=0), min(ages, default=0)]
            np.testing.assert_allclose(every[place, candidate], own, rtol=1e-4, atol=1e-6)


def test_an_empty_history_still_gets_two_tower_and_trending():
    found = find(sources(), batch=slice(REQUESTS - 1, REQUESTS))
    assert histories()[-1] == []
    scores = naive_scores([], queries()[-1])
    for name in (F.BUY_AGAIN, F.CO_PURCHASED, F.VIEWED):
        assert (found.ranks()[name].numpy() == sources().sizes[name]).all()
    expected = naive_top(scores, np.ones(sources().count, bool), sources().sizes)
    position = found.position[0].numpy()
    assert sorted(position[position < sources().count]) == sorted(
        {item for name in (F.TWO_TOWER, F.TRENDING, F.NEW_ITEMS, F.PLANNED) for item in expected[name]}
    )


@pytest.mark.parametrize("days", [90, 120, 139, 150])
def test_new_items_are_those_without_an_older_event(days):
    which = sources(new_items=2, new_days=days)
    new = naive_new(days)
    assert len(new) == {90: 0, 120: 2, 139: 5, 150: 10}[days]
    found = find(which)
    for place in range(REQUESTS):
        best = sorted(new, key=lambda position: -float(vectors()[position] @ queries()[place]))[:2]
        ranked = found.ranks()[F.NEW_ITEMS][place].numpy()
        assert [int(position) for position in np.argsort(ranked, kind="stable")[: len(best)]] == best
        assert (np.delete(ranked, best) == 2).all()  # the rank of what is not found is the same, always


def test_an_item_is_new_up_to_the_last_day_and_the_unknown_never():
    table = shop_snapshot()
    row = table.candidate_row[naive_new(120)[0]]
    stats = table.stats.copy()
    stats[row, table.stat_names.index("log_first_age")] = np.log1p(np.float32(28))
    table = dataclasses.replace(table, stats=stats)
    assert table.new_within(28)[row]
    assert not table.new_within(27.99)[row]
    assert not table.new_within(1e6)[0]
    assert table.new_within(1e6)[1:].all()


def test_nothing_is_found_when_nothing_is_allowed():
    found = find(sources(), np.zeros((REQUESTS, sources().count), bool))
    for one in (found, found.without_empty_places()):
        assert not one.valid.numpy().any()
        assert (one.position.numpy() == sources().count).all()


@pytest.mark.parametrize("requests", [0, 1, REQUESTS])
def test_without_empty_places_every_candidate_is_left_in_its_order(requests):
    rng = np.random.default_rng(5)
    allowed = rng.random((requests, sources().count)) < rng.random((requests, 1))
    found = find(sources(), allowed, slice(0, requests))
    dense = found.without_empty_places()
    counts = found.valid.numpy().sum(1)
    assert dense.position.shape[1] == max(1, counts.max(initial=0)) < found.position.shape[1]
    np.testing.assert_array_equal(dense.valid.numpy().sum(1), counts)
    for place in range(requests):
        for one in (found, dense):
            np.testing.assert_array_equal(one.valid[place], one.position[place] < sources().count)
        candidates = found.position[place][found.valid[place]]
        np.testing.assert_array_equal(dense.position[place][dense.valid[place]], candidates)


def test_a_source_of_size_zero_is_off():
    which = sources(two_tower=0, co_purchased=0, new_items=0, planned=0, viewed=0)
    assert which.ranks_of == (F.BUY_AGAIN, F.TRENDING)
    found = find(which)
    assert found.position.shape[1] == CONFIG.candidates.buy_again + CONFIG.candidates.trending
    assert set(found.ranks()) == {F.BUY_AGAIN, F.TRENDING}


class FirstOnes(Source):
    """The first of the allowed candidates."""

    def find(self, asked):
        position = tf.where(asked.allowed, tf.range(self.count), self.count)
        return tf.sort(position, 1)[:, : self.size]


def test_a_new_source_is_one_class_and_one_entry(monkeypatch):
    class More(Candidates):
        first_ones: int = 4

    without = sources()
    monkeypatch.setitem(SOURCES, "first_ones", FirstOnes)
    config = More(**CONFIG.candidates.model_dump())
    which = made(Plan.whole("exact"), config)
    assert which.ranks_of == (*without.ranks_of, "first_ones")
    allowed = np.ones((1, which.count), bool)
    allowed[0, 1] = False
    found, before = find(which, allowed), find(without, allowed)
    for place in range(REQUESTS):
        expected = {*before.position[place].numpy().tolist(), 0, 2, 3, 4}
        assert set(found.position[place].numpy().tolist()) == expected
        ranks = found.ranks()["first_ones"][place].numpy()
        assert ranks[[0, 2, 3, 4]].tolist() == [0, 1, 2, 3]
        assert (np.delete(ranks, [0, 2, 3, 4]) == 4).all()
    assert "first_ones" not in which.dense_scores(found)
    assert "first_ones_log_rank" in pair_features(which).names


def test_fixed_positions_are_described_as_they_are():
    which = sources()
    fixed = tf.constant([[3, which.count, 3, 0]] * REQUESTS)
    searched = find(which)
    found = which(parsed(), tf.constant(queries()), tf.ones([1, which.count], tf.bool), fixed)
    np.testing.assert_array_equal(found.position, fixed)
    np.testing.assert_array_equal(found.valid, fixed.numpy() < which.count)
    for name in SOURCES:
        np.testing.assert_array_equal(found.ranks()[name], searched.ranks()[name])


def test_the_strongest_link_is_the_own_item_that_adds_most():
    which, table = sources(), shop_snapshot()
    found = find(which)
    position = np.tile(np.arange(which.count + 1, dtype=np.int32), (REQUESTS, 1))
    link, linked = which.strongest_link(found, tf.constant(position))
    hits = 0
    for place, history in enumerate(histories()):
        after = naive_after(history)
        for candidate in range(which.count):
            adds = {}
            for own in np.flatnonzero(after > 0):
                for other, weight in zip(table.neighbour[own], table.neighbour_weight[own], strict=True):
                    if other == candidate:
                        adds[own] = weight * math.log1p(after[own])
            assert bool(linked[place, candidate]) == bool(adds)
            if adds:
                hits += 1
                np.testing.assert_allclose(adds[int(link[place, candidate])], max(adds.values()), rtol=1e-4)
        assert not linked[place, which.count]
    assert hits > 50


@pytest.mark.parametrize("kind", ["int8", "ivf", "ivf_int8"])
def test_an_index_decides_which_candidates_are_found_and_nothing_else(kind):
    """So a ranker's features do not change with the index that it is served with."""
    which, exact = sources_with(kind), sources()
    rng = np.random.default_rng(7)
    allowed = rng.random((REQUESTS, exact.count)) < 0.7
    searched, truth = find(which, allowed), find(exact, allowed)
    position = tf.concat([searched.position, truth.position], 1)
    values = []
    for one in (which, exact):
        features = pair_features(one)
        found = one(parsed(), tf.constant(queries()), tf.ones([1, exact.count], tf.bool), position)
        kept = [index for index, name in enumerate(features.names) if name != "two_tower_log_rank"]
        values.append(features(parsed(), found)[0].numpy()[..., kept])
    np.testing.assert_array_equal(*values)
    size = exact.sizes[F.TWO_TOWER]
    missed = 0
    for place in range(REQUESTS):
        got, expected = (
            np.flatnonzero(found.ranks()[F.TWO_TOWER][place] < size) for found in (searched, truth)
        )
        assert len(got) == len(expected) == min(size, allowed[place].sum())
        assert allowed[place][got].all()
        missed += len(np.setdiff1d(expected, got))
    assert (missed > 0) == (kind != "int8")  # else nothing was compared


def test_a_batch_gives_what_single_requests_give():
    whole = find(sources())
    for place in range(REQUESTS):
        one = find(sources(), batch=slice(place, place + 1))
        np.testing.assert_array_equal(whole.position[place], one.position[0])
        for name in SOURCES:
            np.testing.assert_array_equal(whole.ranks()[name][place], one.ranks()[name][0])


@pytest.mark.parametrize("length", [3, 13, 37])
def test_items_of_one_basket_tie_in_every_batch(length):
    """Else their ranks, and with them their features, would depend on who else asks."""
    rng = np.random.default_rng(length)
    events = OwnEvents(sources().row_candidate, sources().count)
    for age in rng.uniform(0, 300, 150):
        request = {
            "history_row": tf.ones([1, length], tf.int32),
            F.HISTORY_AGE_DAYS: tf.fill([1, length], np.float32(age)),
        }
        weights = events.history(request)["weights"].numpy()[0]
        np.testing.assert_array_equal(weights, np.tile(weights[:1], (length, 1)))


@pytest.mark.parametrize("shape", [(3, 7, 2), (1, 1, 1), (2, 0, 3)])
def test_segments_equal_loops(shape):
    rng = np.random.default_rng(5)
    values = rng.normal(size=shape).astype(np.float32)
    index = rng.integers(0, 4, shape[:2]).astype(np.int32)
    total = np.zeros((shape[0], 4, shape[2]), np.float32)
    largest = np.full((shape[0], 4), np.finfo(np.float32).min)
    smallest = np.full((shape[0], 4), np.finfo(np.float32).max)
    for b in range(shape[0]):
        for place in range(shape[1]):
            at = index[b, place]
            total[b, at] += values[b, place]
            largest[b, at] = max(largest[b, at], values[b, place, 0])
            smallest[b, at] = min(smallest[b, at], values[b, place, 0])
    np.testing.assert_allclose(
        segment_sum(tf.constant(values), tf.constant(index), 4), total, rtol=1e-5, atol=1e-6
    )
    first = tf.constant(values[..., 0])
    np.testing.assert_array_equal(segment_extreme(first, tf.constant(index), 4, largest=True), largest)
    np.testing.assert_array_equal(segment_extreme(first, tf.constant(index), 4, largest=False), smallest)


def test_a_shop_whose_every_event_is_a_purchase_looks_at_no_type():
    """The source `viewed` is off, whatever its size, and a request's types change nothing."""
    plan, config = Plan.whole("exact"), CONFIG.candidates
    which = CandidateSources(shop_snapshot(), frozen_table(row_vectors()), plan, config)
    assert F.VIEWED not in which.sizes
    of_item = shop_snapshot().stat_names
    assert not [name for name in pair_features(which).names if "view" in name and name not in of_item]
    parser = RequestParser(tiny_shop.items(), tiny_shop.vocabularies(), 40)
    found = []
    for kind in ("purchase", "view", "wish"):
        history = [[(item, age, kind) for item, age, _ in one] for one in histories()]
        request = parser(tiny_shop.request(["u01"] * REQUESTS, history))
        one = which(request, tf.constant(queries()), tf.ones([1, which.count], tf.bool))
        assert one.looked is None
        found.append([one.position.numpy(), pair_features(which)(request, one)[0].numpy()])
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("events", "is_open"),
    [
        ([("view", 3.0)], True),
        ([("view", 3.0), ("purchase", 3.0)], False),  # one session
        ([("view", 3.0), ("purchase", 1.0)], False),
        ([("purchase", 3.0), ("view", 1.0)], True),
        ([("purchase", 3.0)], False),
        ([("view", 9.0), ("purchase", 3.0), ("view", 1.0)], True),
    ],
)
def test_what_was_viewed_and_not_bought_since_is_a_candidate(events, is_open):
    item = tiny_shop.items().item_id[shop_snapshot().candidate_row[3]]
    parser = RequestParser(tiny_shop.items(), tiny_shop.vocabularies(), 40)
    request = parser(tiny_shop.request(["u01"], [[(item, age, kind) for kind, age in events]]))
    which = sources()
    found = which(request, tf.constant(queries()[:1]), tf.ones([1, which.count], tf.bool))
    ranks = found.ranks()[F.VIEWED][0].numpy()
    assert (ranks < which.sizes[F.VIEWED]).tolist() == [
        is_open and place == 3 for place in range(which.count)
    ]
    assert found.seed[0, 0] == 3
