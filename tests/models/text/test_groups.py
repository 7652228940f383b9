"""Pairs, groups and batches of texts against their definitions."""

import functools

import numpy as np
import pytest

from models.text import groups as text_groups
from models.text.groups import CONTEXT, MEMBER, NEGATIVE, TARGET

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


def test_purchases_count_once():
    found = text_groups.purchases(np.asarray([2, 0, 2, 2]), np.asarray([1, 3, 1, 0]), 3, 5)
    assert found.toarray().tolist() == [[0, 0, 0, 1, 0], [0] * 5, [1, 1, 0, 0, 0]]


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


HOUSEHOLDS = 40


@functools.cache
def bought():
    """Texts 0 to 29: half of the households buy the even ones, half the odd ones, 0 and 1 most often."""
    rng = np.random.default_rng(5)
    household = np.repeat(np.arange(HOUSEHOLDS), 8)
    text = 2 * np.minimum(rng.geometric(0.15, len(household)) - 1, 14) + household % 2
    return text_groups.purchases(household, text, HOUSEHOLDS, 32)


def draw(**changes):
    arguments = {
        "steps": 60,
        "pairs": [np.asarray([[1, 2]]), np.zeros((0, 2), int), np.asarray([[3, 4], [6, 7]])],
        "pair_count": 3,
        "bought": bought(),
        "wanted": bought(),
        "households": 12,
        "contexts": 10,
        "targets": 6,
        "catalogue": np.asarray([30, 31, 31, 31]),
        "negatives": 5,
        "rng": np.random.default_rng(3),
    } | changes
    return text_groups.plan(**arguments)


def test_a_batch_holds_pairs_households_and_negatives():
    batches = draw()
    assert batches.text.shape == (60, 2 * 3 + 10 + 6 + 5)
    assert batches.place.shape == batches.group.shape == batches.role.shape == (60, 2 * 3 + 12 * 9 + 5)
    full = 0
    for texts, place, group, role in zip(
        batches.text, batches.place, batches.group, batches.role, strict=True
    ):
        text = texts[place]
        for number in (1, 2, 3):
            assert role[group == number].tolist() == [MEMBER] * 2
            assert tuple(text[group == number]) in ({(1, 2)} if number < 3 else {(3, 4), (6, 7)})
        targets = text[role == TARGET]
        assert len(set(targets)) == 6
        assert not set(targets) & set(text[(role == CONTEXT) & (group > 0)])
        for number in range(4, 16):
            (target,) = text[(group == number) & (role == TARGET)]
            contexts = set(text[(group == number) & (role == CONTEXT)])
            full += len(contexts)
            # one household bought the target and all of the contexts
            assert bought()[:, [target, *contexts]].toarray().all(1).any()
        assert (role[group == 0] == NEGATIVE).sum() == 5
        assert set(text[role == NEGATIVE]) <= {30, 31}
    assert full > 60 * 12 * 2
    negatives = np.take_along_axis(batches.text, batches.place, 1)[batches.role == NEGATIVE]
    assert 0.65 < (negatives == 31).mean() < 0.85  # as often as products have it


def test_what_is_bought_often_is_often_a_target():
    batches = draw(steps=400, targets=3)
    count = np.bincount(
        np.take_along_axis(batches.text, batches.place, 1)[batches.role == TARGET], minlength=32
    )
    buyers = np.asarray(bought().sum(0)).ravel()
    assert count[buyers == 0].sum() == 0
    assert np.corrcoef(count, buyers)[0, 1] > 0.9


def test_only_what_is_wanted_is_a_target():
    wanted = text_groups.purchases(np.asarray([0, 1, 2]), np.asarray([2, 5, 2]), HOUSEHOLDS, 32)
    batches = draw(wanted=wanted)
    text = np.take_along_axis(batches.text, batches.place, 1)
    assert set(text[batches.role == TARGET]) == {2, 5}
    for step in range(60):
        for number in range(4, 16):
            mine = batches.group[step] == number
            contexts = text[step][mine & (batches.role[step] == CONTEXT)]
            buyers = [1] if text[step][mine & (batches.role[step] == TARGET)] == 5 else [0, 2]
            assert any(bought()[buyer, contexts].toarray().all() for buyer in buyers)


NOBODY = np.zeros(0, int)


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        ({"pairs": []}, {CONTEXT, TARGET, NEGATIVE}),
        ({"wanted": text_groups.purchases(NOBODY, NOBODY, HOUSEHOLDS, 32)}, {MEMBER}),
        ({"households": 0}, {MEMBER}),
    ],
)
def test_a_source_without_data_is_left_out(changes, roles):
    assert set(draw(**changes).role.ravel()) == roles


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="nothing to learn from"):
        draw(pairs=[np.zeros((0, 2), int)], households=0)


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
