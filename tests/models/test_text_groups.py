"""Pairs, groups and batches of texts against their definitions."""

import numpy as np
import pytest

from models import text_groups
from models.text_groups import CONTEXT, MEMBER, NEGATIVE, TARGET, Ragged

DAY = 86_400


def baskets(count=400, texts=12, seed=1):
    """Events of random baskets in which 0 and 1 go together, and so do 2 and 3 (rarely bought)."""
    rng = np.random.default_rng(seed)
    basket, text = [], []
    for number in range(count):
        chosen = list(rng.choice(np.arange(4, texts), 3))  # with repeats
        if rng.random() < 0.2:
            chosen += [0, 1]
        if rng.random() < 0.03:
            chosen += [2, 3]
        basket += [number * 7] * len(chosen)
        text += chosen
    return np.asarray(basket), np.asarray(text)


def naive_pairs(basket, text, texts, min_support, min_lift, partners):
    members = [set(text[basket == number]) for number in np.unique(basket)]
    count = [sum(one in have for have in members) for one in range(texts)]
    found = {}
    for one in range(texts):
        scored = []
        for other in range(texts):
            both = sum(one in have and other in have for have in members)
            expected = count[one] * count[other] / len(members)
            if other != one and both >= min_support and both >= min_lift * expected:
                scored.append((-both / (expected + min_support), other))
        found[one] = [other for _, other in sorted(scored)[:partners]]
    return [(one, other) for one, others in found.items() for other in others]


@pytest.mark.parametrize(("min_support", "min_lift", "partners"), [(3, 1.0, 2), (8, 1.0, 20), (5, 2.0, 1)])
def test_pairs_equal_their_definition(min_support, min_lift, partners):
    basket, text = baskets()
    got = text_groups.lifted_pairs(basket, text, 12, min_support, min_lift, partners)
    expected = naive_pairs(basket, text, 12, min_support, min_lift, partners)
    assert len(expected) > 1
    assert [tuple(pair) for pair in got.tolist()] == expected


def test_pairs_do_not_depend_on_the_block(monkeypatch):
    basket, text = baskets()
    whole = text_groups.lifted_pairs(basket, text, 12, 3, 1.0, 4)
    monkeypatch.setattr(text_groups, "_BLOCK", 5)
    np.testing.assert_array_equal(text_groups.lifted_pairs(basket, text, 12, 3, 1.0, 4), whole)


def test_what_goes_together_is_found_and_chance_is_not():
    pairs = text_groups.lifted_pairs(*baskets(), 12, 5, 3.0, 20)
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 1), (1, 0), (2, 3), (3, 2)}


def test_no_events_no_pairs():
    assert text_groups.lifted_pairs(np.zeros(0, int), np.zeros(0, int), 5, 1, 1.0, 3).shape == (0, 2)


def test_frequent_pairs_are_the_most_frequent_of_each_text():
    one = np.asarray([5, 5, 5, 5, 5, 5, 2, 2])
    other = np.asarray([1, 3, 3, 0, 0, 4, 9, 9])
    got = text_groups.frequent_pairs(one, other, 2)
    assert got.tolist() == [[2, 9], [5, 0], [5, 3]]
    assert text_groups.frequent_pairs(one[:0], other[:0], 2).shape == (0, 2)


def test_ragged_lists_hold_each_value_once_and_are_drawn_from_evenly():
    lists = Ragged.of(np.asarray([2, 0, 2, 2, 0]), np.asarray([7, 5, 9, 7, 5]), 4)
    assert lists.size.tolist() == [1, 0, 2, 0]
    drawn = lists.draw(np.asarray([2, 0, 2]), 2000, np.random.default_rng(0))
    assert drawn.shape == (3, 2000)
    assert set(drawn[1]) == {5}
    for row in (0, 2):
        assert set(drawn[row]) == {7, 9}
        assert abs((drawn[row] == 7).mean() - 0.5) < 0.05


def test_new_products_are_those_that_came_lately_for_as_long_as_they_are_new():
    # (item, day): 0 is as old as the log, 1 came on day 20, 2 on day 60, 3 on day 90
    events = [(0, 0), (0, 95), (1, 20), (1, 24), (2, 60), (2, 65), (2, 75), (3, 90), (3, 99)]
    item, day = np.asarray(events).T
    new = text_groups.new_purchases(item, 1000 + day * DAY, 1000 + 100 * DAY, 10, 50)
    assert [event for event, is_new in zip(events, new, strict=True) if is_new] == [
        (2, 60),
        (2, 65),
        (3, 90),
        (3, 99),
    ]
    assert text_groups.new_purchases(item[:0], day[:0], 0, 10, 50).shape == (0,)


def test_products_of_the_logs_first_days_may_be_old():
    item, day = np.asarray([(0, 0), (1, 3), (2, 30)]).T
    assert text_groups.new_purchases(item, day * DAY, 40 * DAY, 10, 40).tolist() == [False, False, True]


def draw(**changes):
    arguments = {
        "steps": 50,
        "pairs": [np.asarray([[1, 2]]), np.zeros((0, 2), int), np.asarray([[3, 4], [6, 7]])],
        "pair_count": 3,
        "households": Ragged.of(np.asarray([0, 0, 2, 2]), np.asarray([10, 11, 20, 21]), 3),
        "news": Ragged.of(np.asarray([0, 1, 2]), np.asarray([12, 5, 22]), 3),
        "household_count": 2,
        "contexts": 4,
        "targets": 2,
        "catalogue": np.asarray([30, 31, 31, 31]),
        "negatives": 5,
        "rng": np.random.default_rng(3),
    } | changes
    return text_groups.plan(**arguments)


def test_a_batch_holds_pairs_households_and_negatives():
    batches = draw()
    assert batches.text.shape == batches.group.shape == batches.role.shape == (50, 3 * 2 + 2 * 6 + 5)
    for text, group, role in zip(batches.text, batches.group, batches.role, strict=True):
        for number in (1, 2, 3):
            assert role[group == number].tolist() == [MEMBER] * 2
            assert tuple(text[group == number]) in ({(1, 2)} if number < 3 else {(3, 4), (6, 7)})
        for number in (4, 5):
            mine = text[group == number], role[group == number]
            assert sorted(mine[1]) == [CONTEXT] * 4 + [TARGET] * 2
            household = {12: {10, 11}, 22: {20, 21}}[mine[0][mine[1] == TARGET][0]]
            assert set(mine[0][mine[1] == CONTEXT]) <= household
        assert role[group == 0].tolist() == [NEGATIVE] * 5
        assert set(text[group == 0]) <= {30, 31}
    negatives = batches.text[batches.role == NEGATIVE]
    assert 0.65 < (negatives == 31).mean() < 0.85  # as often as products have it


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        ({"pairs": []}, {CONTEXT, TARGET, NEGATIVE}),
        ({"news": Ragged.of(np.zeros(0, int), np.zeros(0, int), 3)}, {MEMBER}),
        ({"household_count": 0}, {MEMBER}),
    ],
)
def test_a_source_without_data_is_left_out(changes, roles):
    assert set(draw(**changes).role.ravel()) == roles


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="nothing to learn from"):
        draw(pairs=[np.zeros((0, 2), int)], household_count=0)


def test_partner_ranks_equal_a_sorted_list():
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(30, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = rng.integers(30, size=(40, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    ranks = []
    for asks in sorted(set(pairs[:, 0])):
        order = [other for other in np.argsort(-(vectors @ vectors[asks])) if other != asks]
        ranks.append(1 + min(order.index(other) for one, other in pairs if one == asks))
    assert text_groups.partner_ranks(vectors, pairs).tolist() == ranks


def test_vectors_that_say_nothing_have_the_worst_rank():
    assert text_groups.partner_ranks(np.ones((9, 2), np.float32), np.asarray([[0, 1]])).tolist() == [8]
