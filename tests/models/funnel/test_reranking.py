"""Order of the listed items: against a naive greedy re-ranking, and by what each part promises."""

import numpy as np
import pytest
import tensorflow as tf

from models.data.frozen import frozen_table
from models.funnel.reranking import PAGE, Reranker, boosts_of
from schema import names as F
from schema.config import Boost, Serving
from schema.errors import DataError
from tests.models.funnel import tiny_funnel
from tests.models.funnel.tiny_funnel import HISTORY, PLAIN, USERS, answer
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CUTOFF, recommend_inputs

COUNT, DIM = 70, 6


@pytest.fixture(scope="module")
def vectors():
    """Unit vectors of candidates, some of them equal; row r is candidate r - 1."""
    values = np.random.default_rng(1).normal(size=(COUNT + 1, DIM)).astype(np.float32)
    values[10] = values[11] = values[12]
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def category():
    return np.random.default_rng(2).integers(0, 5, COUNT).astype(np.int32)


def reranker(vectors, category=None, boosts=None, **config):
    rows = frozen_table(np.append(np.arange(1, COUNT + 1), 0), tf.int32)
    return Reranker(frozen_table(vectors), rows, category, boosts, Serving(**config))


def naive(position, value, vectors, category, d, cap, depth, places):
    """The greedy algorithm of the docstring, one request, step by step."""
    ranked = [at for at in np.argsort(-value, kind="stable") if value[at] >= 0]
    pool, rest = ranked[:depth], ranked[depth:]
    shown, page = [], []
    while pool[len(shown) + len(page) :] and len(shown) + len(page) < -(-places // PAGE) * PAGE:
        best, chosen = -np.inf, None
        taken = shown + page
        for rank, at in enumerate(pool):
            if at in taken:
                continue
            near = [max(vectors[position[at] + 1] @ vectors[position[o] + 1], 0) for o in taken]
            worth = -(1 - d) * np.log2(rank + 2) - d * max(near, default=0)
            code = category[position[at]]
            if cap and code and sum(category[position[o]] == code for o in taken) >= cap:
                worth -= 1e6
            if worth > best + 1e-9:
                best, chosen = worth, at
        page.append(chosen)
        if len(page) == PAGE:
            shown, page = shown + sorted(page, key=pool.index), []
    shown += sorted(page, key=pool.index)
    shown += [at for at in pool if at not in shown] + rest
    return [int(position[at]) for at in shown[:places]]


def some_lists(rng, rows=4, size=60):
    position = np.stack([rng.permutation(COUNT)[:size] for _ in range(rows)]).astype(np.int32)
    value = rng.uniform(0.001, 0.5, (rows, size)).astype(np.float32)
    value[rng.random((rows, size)) < 0.3] = 0  # a probability that is 0 is of a candidate like any other
    empty = rng.random((rows, size)) < 0.1
    return np.where(empty, COUNT, position).astype(np.int32), np.where(empty, -1, value).astype(np.float32)


@pytest.mark.parametrize("cap", [None, 2])
@pytest.mark.parametrize("depth", [25, 100])
@pytest.mark.parametrize("places", [1, 7, 10, 23, 60])
def test_equals_the_naive_algorithm(vectors, category, cap, depth, places):
    position, value = some_lists(np.random.default_rng(places))
    strength = [0.0, 0.4, 0.77, 1.0]
    module = reranker(vectors, category, category_cap=cap, rerank_depth=depth)
    got, score = module(position, value, tf.constant(strength), tf.constant(places))
    assert got.shape == score.shape == (4, min(places, 60))
    for row, d in enumerate(strength):
        real = (value[row] >= 0).sum()
        expected = naive(position[row], value[row], vectors, category, d, cap, depth, places)
        shown = got.numpy()[row]
        assert shown[: min(real, places)].tolist() == expected
        assert (shown[real:] == COUNT).all()
        of = dict(zip(position[row].tolist(), value[row].tolist(), strict=True))
        np.testing.assert_allclose(score.numpy()[row][:real], [of[at] for at in expected])


@pytest.mark.parametrize("asked", [-1.0, float("nan")])
def test_no_wish_means_the_configured_strength(vectors, asked):
    position, value = some_lists(np.random.default_rng(0))
    module = reranker(vectors, diversity=0.6)
    wish, own = (module(position, value, tf.fill([4], x), tf.constant(20))[0] for x in (asked, 0.6))
    plain, _ = module(position, value, tf.zeros([4]), tf.constant(20))
    np.testing.assert_array_equal(wish, own)
    assert (wish.numpy() != plain.numpy()).any()
    order = np.argsort(-value, 1, kind="stable")[:, :20]
    np.testing.assert_array_equal(plain, np.take_along_axis(position, order, 1))


def test_a_longer_list_begins_with_the_shorter_one(vectors, category):
    position, value = some_lists(np.random.default_rng(5))
    module = reranker(vectors, category, category_cap=3)
    lists = [module(position, value, tf.fill([4], 0.8), tf.constant(k))[0].numpy() for k in (3, 10, 17, 40)]
    for shorter, longer in zip(lists, lists[1:], strict=False):
        np.testing.assert_array_equal(longer[:, : shorter.shape[1]], shorter)


def test_caps_hold_while_there_are_others(vectors, category):
    position, value = some_lists(np.random.default_rng(6))
    module = reranker(vectors, category, category_cap=2, diversity=0.0)
    shown = module(position, value, tf.fill([4], -1.0), tf.constant(8))[0].numpy()
    counts = [np.bincount(category[row], minlength=5)[1:] for row in shown]
    assert np.max(counts) == 2
    # items without a category are not one category
    assert max((category[row] == 0).sum() for row in shown) > 2
    alike = np.ones(COUNT, np.int32)
    module = reranker(vectors, alike, category_cap=2, diversity=0.0)
    shown = module(position, value, tf.fill([4], -1.0), tf.constant(8))[0].numpy()
    order = np.argsort(-value, 1, kind="stable")[:, :8]
    np.testing.assert_array_equal(shown, np.take_along_axis(position, order, 1))


def test_boosts_change_the_order_but_not_the_probability(vectors):
    position = np.asarray([[3, 1, 2, COUNT]], np.int32)
    value = np.asarray([[0.5, 0.4, 0.3, -1]], np.float32)
    added, factor = np.zeros(COUNT, np.float32), np.ones(COUNT, np.float32)
    factor[2], added[1] = 1.5, np.log(2.0)  # 0.45, and odds 4 / 3: 0.571
    module = reranker(vectors, boosts=(added, factor), diversity=0.0)
    shown, score = module(position, value, tf.constant([-1.0]), tf.constant(4))
    assert shown.numpy().tolist() == [[1, 3, 2, COUNT]]
    np.testing.assert_allclose(score, [[0.4, 0.5, 0.3, -1]])


def test_boosts_of_a_catalogue():
    items = tiny_shop.items()
    rows = tiny_shop.built().factory.at(CUTOFF).sources.candidate_row.numpy()[:-1]
    wanted = [
        Boost(attribute="brand", values=["acme", "best"], factor=2.0),
        Boost(attribute="item_id", values=["101"], log_odds=-1.0, factor=3.0),
    ]
    added, factor = boosts_of(items, wanted, rows)
    for place, row in enumerate(rows):
        brand = items.vocabularies["brand"][items.categorical["brand"][row]]
        own = items.item_id[row] == "101"
        assert factor[place] == (2 if brand in ("acme", "best") else 1) * (3 if own else 1)
        assert added[place] == (-1 if own else 0)
    assert boosts_of(items, [], rows) is None
    with pytest.raises(DataError, match="serving.boosts.1: no item has the brand 'acne'"):
        boosts_of(items, [wanted[0], Boost(attribute="brand", values=["acne"])], rows)


# --- in the funnel ---------------------------------------------------------------------


def test_each_request_of_a_batch_has_its_own_wishes():
    plain = tiny_funnel.make(**PLAIN)
    base = recommend_inputs(tiny_shop.request(USERS, HISTORY), 12)
    mixed = base | {F.DIVERSITY: tf.constant([1.0, 0.0, -1.0]), F.DROP_BOUGHT_DAYS: tf.constant([0.0, 99, 0])}
    together = answer(plain, mixed)
    for row in range(3):
        alone = answer(plain, {name: value[row : row + 1] for name, value in mixed.items()})
        assert alone[F.ITEM_ID][0].tolist() == together[F.ITEM_ID][row].tolist()
    shown = answer(plain, base)[F.ITEM_ID]
    assert (together[F.ITEM_ID] != shown).any(1).tolist() == [True, True, False]
