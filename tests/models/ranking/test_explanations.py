"""Attributions add up, are Shapley's, and say which features moved a score."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts
from models.ranking.explanations import ITEM, Explainer, groups_of, shapley_weights
from models.ranking.features.block import OFFER, OWN_PURCHASES, POPULARITY, TASTE
from schema import names as F
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, ITEMS, rank_inputs, text

# of the features: own count, own gap, events of the brand, price, and sales
GROUPS = (OWN_PURCHASES, OWN_PURCHASES, TASTE, OFFER, POPULARITY)


def naive_shapley(worth, players):
    """Mean marginal contribution over all orders."""
    out = np.zeros(players)
    orders = list(itertools.permutations(range(players)))
    for order in orders:
        coalition = frozenset()
        for player in order:
            out[player] += worth[coalition | {player}] - worth[coalition]
            coalition |= {player}
    return out / len(orders)


@pytest.mark.parametrize("players", [1, 2, 5])
def test_weights_give_shapley_values(players):
    worth = np.random.default_rng(players).normal(size=2**players)
    by_set = {
        frozenset(g for g in range(players) if coalition >> g & 1): value
        for coalition, value in enumerate(worth)
    }
    np.testing.assert_allclose(worth @ shapley_weights(players), naive_shapley(by_set, players))


def test_attributions_of_a_known_function():
    """Interactions are shared equally, what has no effect gets nothing, the rest is its own."""

    def score(features, codes):
        own, gap, taste, price, sold = tf.unstack(features, axis=-1)
        return own * gap + 2 * taste * sold + 0 * price + tf.cast(codes["brand"] == 3, tf.float32)

    baseline = np.asarray([1, 1, 0.5, 2, 0.5], np.float32)
    explainer = Explainer(score, GROUPS, baseline)
    assert explainer.groups == ("own_purchases", "taste", "offer", "popularity", ITEM)
    features = np.asarray([[[3, 2, 1.5, 9, 2.5]] * 3], np.float32).repeat(4, 1)  # more than a block
    codes = {"brand": tf.constant([[3, 0, 5] * 4])}
    log_odds, at_baseline, attribution = explainer(tf.constant(features), codes)
    np.testing.assert_allclose(at_baseline, 1.5)
    np.testing.assert_allclose(log_odds[0, :3], [14.5, 13.5, 13.5])
    # 2 (t s - t0 s0): each alone adds 1 * 0.5 * 2, 2 * 0.5 * 2, both 2 * (3.75 - 0.25)
    expected = [5, (1 + 5) / 2, 0, (2 + 6 - 0) / 2, 0]
    np.testing.assert_allclose(attribution[0, 1], expected, atol=1e-5)
    np.testing.assert_allclose(attribution[0, 0], [*expected[:4], 1], atol=1e-5)


@pytest.fixture(scope="module")
def explain():
    servable = tiny_shop.load(artifacts.model_folder(tiny_shop.built().servable))

    def call(name, **inputs):
        return {key: text(value) for key, value in servable.signatures[name](**inputs).items()}

    return call


HISTORY = [[("101", 30.0), ("101", 20.0), ("101", 9.0), ("104", 3.0)], [("100", 5.0)], []]


@pytest.fixture(scope="module")
def inputs():
    return tiny_shop.request(["u01", "u02", "somebody new"], HISTORY)


def test_attributions_sum_to_the_score_s_difference_to_the_baseline(explain, inputs):
    ids = tf.constant([ITEMS[start : start + 19] + ["no such item"] for start in (0, 10, 20)])
    answer = explain("explain", **rank_inputs(inputs, ids))
    score = explain("rank", **rank_inputs(inputs, ids))[F.SCORE]
    log_odds, baseline = answer[F.LOG_ODDS], answer[F.BASELINE]
    assert answer[F.ATTRIBUTION].shape == (3, 20, answer[F.GROUP].shape[1])
    np.testing.assert_allclose(answer[F.ATTRIBUTION].sum(-1), log_odds - baseline, atol=2e-4)
    known = score > 0
    assert known.sum() > 50
    np.testing.assert_allclose(1 / (1 + np.exp(-log_odds[known])), score[known], atol=1e-5)
    assert np.ptp(baseline[known]) < 1e-5
    for values in answer.values():
        if values.dtype != object:
            assert not values[~known].any()
    assert np.abs(answer[F.ATTRIBUTION][known]).max() > 0.05


def test_groups_are_named_for_each_request(explain, inputs):
    ids = tf.constant([["100"]] * 3)
    groups = explain("explain", **rank_inputs(inputs, ids))[F.GROUP]
    assert groups.shape[0] == 3
    assert {tuple(row) for row in groups} == {
        ("own_purchases", "own_views", "goes_with", "taste", "match", "offer", "activity", "popularity", ITEM)
    }


def test_a_new_event_of_an_item_shows_in_its_own_purchases(explain, inputs):
    """The third user has no history: one purchase moves what hangs on the history, not the rest."""
    ids = tf.constant([["107"]] * 3)
    before = explain("explain", **rank_inputs(inputs, ids))
    one = [*HISTORY[:2], [("107", 2.0)]]
    after = explain("explain", **rank_inputs(tiny_shop.request(["u01", "u02", "somebody new"], one), ids))
    groups = before[F.GROUP][0].tolist()
    change = dict(zip(groups, after[F.ATTRIBUTION][2, 0] - before[F.ATTRIBUTION][2, 0], strict=True))
    assert abs(change["own_purchases"]) > 1e-3
    np.testing.assert_allclose(
        sum(change.values()), after[F.LOG_ODDS][2, 0] - before[F.LOG_ODDS][2, 0], atol=1e-4
    )


def test_every_pair_feature_explains_what_its_name_says():
    """Each group by a rule of its own over the names, not by what the blocks say."""
    features = tiny_shop.built().factory.at(CUTOFF).pair_features
    groups, member = groups_of(features.groups)
    assert groups == (
        *("own_purchases", "own_views", "goes_with", "taste", "match", "offer", "activity", "popularity"),
        ITEM,
    )
    of_category = [
        f"{name}_{kind}" for name in CONFIG.items.categorical for kind in ("all", "decay_45", "share")
    ]
    viewed = ["own_open_decay_14", "viewed_log_rank", "own_log_open_view"]
    viewed += [f"{what}_log_last_age_view" for what in ("own", *CONFIG.items.categorical)]
    own = [name for name in features.names if name.startswith(("own_", "buy_again_"))]
    expected = {
        "own_purchases": sorted(set(own) - set(viewed)),
        "own_views": viewed,
        "goes_with": ["co_purchased_log_rank", "co_purchased_score"],
        "taste": [*of_category, "text_similarity"],
        "match": ["learned_score", "collaborative_score", "two_tower_log_rank", "new_items_log_rank"],
        "offer": [
            *("log_price", "department_price_gap", "brand_price_gap"),
            *(f"log_{channel}_{days}" for channel in tiny_shop.CHANNELS for days in (7, 28)),
            *(name for name in features.names if name.startswith("price_") or "promot" in name),
            "planned_log_rank",
        ],
        "activity": [name for name in features.names if name.startswith("user_log_")],
    }
    named = {name for names in expected.values() for name in names}
    expected["popularity"] = [name for name in features.names if name not in named]
    assert len(expected["popularity"]) == 25  # all other statistics of the snapshot, and the rank by trend
    for group, names in expected.items():
        own = member[groups.index(group)]
        assert {name for name, hit in zip(features.names, own, strict=True) if hit} == set(names), group
    assert (member.sum(0) == 1).all()
    assert not member[-1].any()
    assert CONFIG.items.categorical.keys() == set(features.code_names)


def test_a_group_that_is_not_known_yet_comes_before_the_item():
    groups, member = groups_of([OWN_PURCHASES, "moon", ITEM])
    assert groups == (OWN_PURCHASES, "moon", ITEM)
    assert member.tolist() == [[True, False, False], [False, True, False], [False, False, True]]
