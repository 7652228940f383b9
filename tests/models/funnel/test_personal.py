"""What a request's history says of any items, computed again in plain Python."""

import numpy as np
import pytest
import tensorflow as tf

from models.funnel import personal
from models.funnel.personal import PersonalFeatures
from schema import names as F
from tests.models.funnel import tiny_funnel
from tests.models.funnel.tiny_funnel import HISTORY, USERS
from tests.shops import tiny_shop
from tests.shops.tiny_shop import ITEMS, NEVER, RARE, STRANGER

ASKED = ["100", "103", "107", RARE, NEVER, ""]


@pytest.fixture(scope="module")
def funnel():
    return tiny_funnel.make()


@pytest.fixture(scope="module")
def features(funnel):
    return PersonalFeatures(funnel.retriever, tiny_shop.items(), funnel._scorer)


@pytest.fixture(scope="module")
def found(funnel, features):
    """name -> float [B, N] for the three users and `ASKED`."""
    request = funnel.retriever.parser(tiny_shop.request(USERS, HISTORY))
    row = funnel.retriever.parser.rows(tf.constant([ASKED] * len(USERS)))
    every = tf.ones([1, funnel.retriever.sources.count], tf.bool)
    values = features(request, row, every).numpy()
    return dict(zip(features.names, np.moveaxis(values, -1, 0), strict=True))


def test_the_logit_is_that_of_rank(funnel, found):
    inputs = tiny_shop.rank_inputs(tiny_shop.request(USERS, HISTORY), [ASKED] * len(USERS))
    probability = funnel.rank(inputs)[F.P_PURCHASE].numpy()
    candidate = probability > 0
    assert candidate.any(0).tolist() == [True, True, True, False, False, False]
    np.testing.assert_array_equal(found["is_candidate"], candidate)
    expected = np.log(probability[candidate] / (1 - probability[candidate]))
    expected = expected.clip(personal.LEAST_LOGIT, personal.MOST_LOGIT)
    np.testing.assert_allclose(found["logit"][candidate], expected, atol=1e-4)
    assert set(found["logit"][~candidate]) == {personal.NOT_A_CANDIDATE}


def test_own_events_and_shares_of_attributes(found):
    items = tiny_shop.items()
    rows = {item: row for row, item in enumerate(items.item_id)}
    for b, history in enumerate(HISTORY):
        decay = [0.5 ** (age / personal.HALF_LIFE_DAYS) for _, age in history]
        for n, item in enumerate(ASKED):
            own = [weight for (other, _), weight in zip(history, decay, strict=True) if other == item]
            expected = {
                "own_events": np.log1p(len(own)),
                "own_decayed": np.log1p(sum(own)),
                "own_recency": max(own, default=0.0),
            }
            for name, codes in items.categorical.items():
                code = codes[rows[item]]
                same = [
                    weight
                    for (other, _), weight in zip(history, decay, strict=True)
                    if code and codes[rows[other]] == code
                ]
                expected[f"own_share_{name}"] = sum(same) / sum(decay) if decay else 0.0
            for name, value in expected.items():
                assert found[name][b, n] == pytest.approx(value, abs=1e-5), (b, item, name)


def test_nobody_has_no_personal_part_but_the_logit(found):
    for name, values in found.items():
        if name not in ("logit", "is_candidate"):
            assert not values[-1].any(), name


def test_events_of_strangers_count_in_no_share(funnel, features):
    """An id that the catalogue lacks is no event, however often it was bought."""
    histories = [[("100", 1.0)], [(STRANGER, 1.0)] * 5 + [("100", 1.0)]]
    request = funnel.retriever.parser(tiny_shop.request(["a", "a"], histories))
    row = funnel.retriever.parser.rows(tf.constant([ITEMS[:9]] * 2))
    own = features(request, row, tf.ones([1, funnel.retriever.sources.count], tf.bool)).numpy()[..., 2:]
    np.testing.assert_allclose(own[0], own[1], atol=1e-6)
    assert own[0].any()


def test_what_was_viewed_is_no_purchase(funnel, features):
    """Views count in the shares of attributes by their weight, and in features of their own."""
    history = [[("100", 30.0, "view"), ("100", 10.0, "view"), ("103", 20.0)]]
    request = funnel.retriever.parser(tiny_shop.request(["a"], history))
    row = funnel.retriever.parser.rows(tf.constant([["100", "103", "101"]]))
    values = features(request, row, tf.ones([1, funnel.retriever.sources.count], tf.bool)).numpy()[0]
    found = dict(zip(features.names, values.T, strict=True))
    decay = [0.5 ** (age / personal.HALF_LIFE_DAYS) for age in (30, 10, 20)]
    assert found["own_events"].tolist() == pytest.approx([0, np.log(2), 0])
    assert found["own_recency"].tolist() == pytest.approx([0, decay[2], 0])
    assert found["own_views_decayed"].tolist() == pytest.approx([np.log1p(decay[0] + decay[1]), 0, 0])
    assert found["own_views_recency"].tolist() == pytest.approx([decay[1], 0, 0])
    items = tiny_shop.items()
    code = {item: items.categorical["department"][at] for at, item in enumerate(items.item_id)}
    liked = {"100": 0.25 * (decay[0] + decay[1]), "103": decay[2]}
    for place, item in enumerate(("100", "103", "101")):
        same = sum(weight for other, weight in liked.items() if code[other] == code[item])
        assert found["own_share_department"][place] == pytest.approx(same / sum(liked.values()), abs=1e-5)
