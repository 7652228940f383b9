"""Every feature of a (request, candidate) pair against a naive one, by name."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.requests import RequestParser
from models.ranking.explanations import Explainer
from models.ranking.features.block import Column, Feature, FeatureBlock
from models.ranking.features.context import PairContext, once
from models.ranking.features.pair_features import PairFeatures, blocks_of_pairs
from models.ranking.features.scores import text_space
from models.retrieval.sources.candidate_sources import SOURCES
from schema import names as F
from tests.models.retrieval import test_sources as naive
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CUTOFF, DAY, START

NEVER = 720.0


@functools.cache
def pair_features():
    return naive.pair_features(naive.sources())


@functools.cache
def computed():
    """(features [B, C, F], codes, found) of all candidates of the random requests."""
    which = naive.sources()
    fixed = tf.constant(np.tile(np.arange(which.count, dtype=np.int32), (naive.REQUESTS, 1)))
    allowed = tf.ones([1, which.count], tf.bool)
    found = which(naive.parsed(), tf.constant(naive.queries()), allowed, fixed)
    features, codes = pair_features()(naive.parsed(), found)
    return features.numpy(), {name: code.numpy() for name, code in codes.items()}, found


def naive_stat(item, name):
    row = tiny_shop.items().item_id.tolist().index(item)
    return naive.shop_snapshot().stats[row, naive.shop_snapshot().stat_names.index(name)]


def naive_pair(history, query, candidate):
    """All features of one pair by name."""
    snapshot, items = naive.shop_snapshot(), tiny_shop.items()
    item = items.item_id[snapshot.candidate_row[candidate]]
    row = items.item_id.tolist().index(item)
    seen = [(i, age, kind) for i, age, kind in history if i in items.item_id]
    known = naive.bought(seen)
    ages = [age for i, age in known if i == item]
    out = dict(zip(snapshot.stat_names, snapshot.stats[row], strict=True))
    count = len(ages)
    out["own_count"] = math.log1p(count)
    for days in (14, 45, 90, 180):
        out[f"own_decay_{days}"] = math.log1p(sum(0.5 ** (age / days) for age in ages))
    last, first = (min(ages), max(ages)) if ages else (NEVER, NEVER)
    gap = (first - last) / (count - 1) if count > 1 else NEVER
    out["own_log_last_age"], out["own_log_first_age"] = math.log1p(last), math.log1p(first)
    out["own_log_gap"] = math.log1p(gap)
    out["own_due"] = min(last / max(gap, 0.5), 5.0) if count > 1 else 0.0
    cycle = math.expm1(out["log_cycle"])
    out["own_due_of_item"] = min(last / max(cycle, 0.5), 5.0) if count else 0.0
    out["own_share"] = count / max(len(known), 1)
    moments = {np.float32(age) for _, age in known}
    out["own_share_of_sessions"] = count / max(len(moments), 1)
    recent = sum(0.5 ** (age / 45) for _, age in known)
    for name, codes in items.categorical.items():
        code = {i: codes[index] for index, i in enumerate(items.item_id)}
        same = [(i, age) for i, age in known if code[i] == code[item] and code[item] > 0]
        mine = [age for _, age in same]
        prices = [naive_stat(i, "log_price") for i, _ in same]
        out[f"{name}_price_gap"] = out["log_price"] - sum(prices) / len(prices) if prices else 0.0
        of_category = sum(0.5 ** (age / 45) for age in mine)
        out[f"{name}_all"] = math.log1p(len(mine))
        out[f"{name}_decay_45"] = math.log1p(of_category)
        out[f"{name}_share"] = of_category / max(recent, 1e-3)
    scores = naive.naive_scores(history, query)
    vector = naive.vectors()[candidate]
    out["learned_score"] = vector[: naive.LEARNED] @ query[: naive.LEARNED]
    out["collaborative_score"] = vector[naive.LEARNED :] @ query[naive.LEARNED :]
    profile = sum(
        naive.WEIGHT[kind] * 0.5 ** (age / 45) * naive.row_text()[items.item_id.tolist().index(i)]
        for i, age, kind in seen
    )
    length = np.linalg.norm(profile) if seen else 0.0
    out["text_similarity"] = profile @ naive.row_text()[row] / length if length else 0.0
    out["co_purchased_score"] = math.log1p(scores[F.CO_PURCHASED][candidate])
    sizes = naive.sources().sizes
    top = naive.naive_top(scores, np.ones(naive.sources().count, bool), sizes)
    for name in SOURCES:
        rank = top[name].index(candidate) if candidate in top[name] else sizes[name]
        out[f"{name}_log_rank"] = math.log1p(rank)
    out["user_log_events"] = math.log1p(len(known))
    out["user_log_events_45"] = math.log1p(recent)
    out["user_log_sessions"] = math.log1p(len(moments))
    out["user_log_sessions_45"] = math.log1p(sum(0.5 ** (age / 45) for age in moments))
    out["user_log_last_age"] = math.log1p(min([NEVER, *(age for _, age in known)]))
    out["user_log_span"] = math.log1p(max((age for _, age in known), default=0))
    lately = [(i, age) for i, age in known if age <= 90]
    quarter, month = len({np.float32(age) for _, age in lately}), {age for age in moments if age <= 28}
    # an item that is no candidate stands for all such items
    own = {i for i, _ in known if naive.position_of(i) < naive.sources().count}

    def oldest(item):
        return max(a for i, a in known if (i == item if item in own else i not in own))

    new = sum(age >= oldest(i) for i, age in lately)
    out["user_log_basket_90"] = math.log1p(len(lately) / max(quarter, 1))
    out["user_log_new_share_90"] = math.log1p(new / max(len(lately), 1))
    out["user_log_visit_trend"] = math.log1p((len(month) + 1) / (quarter * 28 / 90 + 1))
    return out | naive_promotions(known, item, CUTOFF, out) | naive_interest(seen, item)


def naive_interest(seen, item):
    """Features of what was viewed, by name."""
    items, out = tiny_shop.items(), {}
    mine = [(age, kind) for i, age, kind in naive.still_open(seen) if i == item]
    views = [(i, age) for i, age, kind in seen if kind == "view"]
    ages = [age for age, kind in mine if kind == "view"]
    strength = sum(naive.WEIGHT[kind] * 0.5 ** (age / 14) for age, kind in mine)
    out["own_open_decay_14"] = math.log1p(strength)
    out["own_log_open_view"] = math.log1p(len(ages))
    out["own_log_last_age_view"] = math.log1p(min(ages, default=NEVER))
    for name, codes in items.categorical.items():
        code = dict(zip(items.item_id, codes, strict=True))
        same = [age for i, age in views if code[i] == code[item] and code[item] > 0]
        out[f"{name}_log_last_age_view"] = math.log1p(min(same, default=NEVER))
    out["user_log_events_view"] = math.log1p(len(views))
    out["user_log_last_age_view"] = math.log1p(min((age for _, age in views), default=NEVER))
    return out


def week_of(moment):
    """Number of a moment's week since START; the last hour of a week belongs to the next one."""
    return math.floor((moment + 3600 - START) / (7 * DAY))


@functools.cache
def stores_of(item, channel):
    """Week -> stores that promoted the item."""
    row = tiny_shop.item_frame().set_index("item_id").loc[item]
    return dict(zip(map(week_of, row["exposure_week"]), row[f"exposure_{channel}"], strict=True))


def promoted(item, week, channel="mailer"):
    return stores_of(item, channel).get(week, 0) >= 3


def naive_promotions(known, item, now, stats):
    """Features of promotions by name; `known` are the history's events."""
    items, out, current = tiny_shop.items(), {}, week_of(now)
    ahead = 3  # weeks, of known_ahead 21 days
    spans = {"last_4": (-4, 0), "last_1": (-1, 0)} | {f"next_{n}": (0, n) for n in (1, 2, ahead)}
    kind = dict(zip(items.item_id, items.categorical["brand"], strict=True))
    weight = {i: naive_stat(i, "log_lines_90") for i in items.item_id[1:]}
    rivals = [i for i in items.item_id[1:] if kind[i] == kind[item] and kind[item] > 0]
    for span, (first, end) in spans.items():
        weeks = [current + week for week in range(first, end)]
        for channel in ("mailer", "display"):
            out[f"promoted_{channel}_{span}"] = sum(promoted(item, week, channel) for week in weeks)
        total = sum(weight[i] * sum(promoted(i, week) for week in weeks) for i in rivals)
        usual = total / sum(weight[i] for i in rivals) if rivals else 0.0
        out[f"promoted_above_usual_{span}"] = out[f"promoted_mailer_{span}"] - usual
        lift = math.exp(stats["log_promotion_lift"])
        if span.startswith("next"):
            out[f"promoted_gain_{span}"] = out[f"promoted_mailer_{span}"] * max(lift - 1, 0)
    weeks = sum(promoted(item, current + week) for week in range(ahead))
    base = naive.shop_snapshot().promotions.base[items.item_id.tolist().index(item)]
    out["log_lines_expected_next_3"] = math.log1p(base * (ahead + weeks * (lift - 1)))
    under = [(i, promoted(i, week_of(now - np.float32(age) * DAY))) for i, age in known]
    share = (sum(on for _, on in under) + 5 * naive.shop_snapshot().promotions.shop_share) / (len(under) + 5)
    out["user_promoted_share"] = share
    for name, codes in items.categorical.items():
        code = dict(zip(items.item_id, codes, strict=True))
        same = [on for i, on in under if code[i] == code[item] and code[item] > 0]
        out[f"{name}_promoted_share"] = (sum(same) + 5 * share) / (len(same) + 5)
    return out


@functools.cache
def expected():
    rows = [
        [naive_pair(history, query, candidate) for candidate in range(naive.sources().count)]
        for history, query in zip(naive.histories(), naive.queries(), strict=True)
    ]
    return {name: np.asarray([[pair[name] for pair in row] for row in rows]) for name in rows[0][0]}


def test_there_is_one_name_a_column_and_a_test_for_each():
    names = pair_features().names
    assert len(names) == len(set(names)) == computed()[0].shape[-1]
    assert set(names) == set(expected())
    assert len(pair_features().groups) == len(names)


@pytest.mark.parametrize("place", range(103))
def test_feature_equals_the_naive_one(place):
    names = pair_features().names
    assert len(names) == 103  # the range above
    np.testing.assert_allclose(
        computed()[0][..., place], expected()[names[place]], rtol=1e-4, atol=2e-5, err_msg=names[place]
    )


@pytest.mark.parametrize("days", [-30, -9, -2, 0, 3, 10, 25, 60])
def test_promotions_are_those_of_the_requests_own_weeks(days):
    """A servable answers for weeks after its tables were made; an old request knows its own weeks only."""
    now = CUTOFF + days * DAY
    history = [("101", 3.0), ("104", 20.5), ("131", 64.0)]
    parser = RequestParser(tiny_shop.items(), tiny_shop.vocabularies(), 40)
    parsed = parser(tiny_shop.request(["u01"], [history], timestamp=now))
    which = naive.sources()
    every = tf.range(which.count)[None]
    found = which(parsed, tf.constant(naive.queries()[:1]), tf.ones([1, which.count], tf.bool), every)
    values = pair_features()(parsed, found)[0].numpy()[0]
    names = pair_features().names
    items = tiny_shop.items().item_id[naive.shop_snapshot().candidate_row]
    for row, item in zip(values, items, strict=True):
        stats = {"log_promotion_lift": naive_stat(item, "log_promotion_lift")}
        for name, value in naive_promotions(history, item, now, stats).items():
            assert row[names.index(name)] == pytest.approx(value, rel=1e-4, abs=2e-5), (item, name)


def test_a_request_without_a_moment_is_made_when_the_snapshot_was():
    parser = RequestParser(tiny_shop.items(), tiny_shop.vocabularies(), 40)
    which, got = naive.sources(), []
    for timestamp in (0, CUTOFF):
        parsed = parser(tiny_shop.request(["u01"], [[("101", 3.0)]], timestamp=timestamp))
        found = which(parsed, tf.constant(naive.queries()[:1]), tf.ones([1, which.count], tf.bool))
        got.append(pair_features()(parsed, found)[0].numpy())
    np.testing.assert_array_equal(*got)


def test_text_space_keeps_what_tells_texts_apart():
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(3, 40))
    texts = 10 * rng.normal(size=40) + kinds[rng.integers(0, 3, 60)] + 0.01 * rng.normal(size=(60, 40))
    index = np.asarray([5, 5, 7])
    space = text_space(texts.astype(np.float32), index, 8)
    assert space.shape == (3, 8)
    assert space.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(space, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(space[0], space[1])
    centred = texts - texts.mean(0)
    cosine = centred[5] @ centred[7] / np.linalg.norm(centred[5]) / np.linalg.norm(centred[7])
    np.testing.assert_allclose(space[0] @ space[2], cosine, atol=1e-3)
    assert text_space(np.ones((4, 3), np.float32), np.arange(4)).tolist() == [[0, 0, 0]] * 4


def test_every_feature_varies():
    features, names = computed()[0], pair_features().names
    flat = features.reshape(-1, len(names))
    assert [
        name for name, low, high in zip(names, flat.min(0), flat.max(0), strict=True) if low == high
    ] == []


def test_codes_are_the_candidates_categories():
    items, snapshot = tiny_shop.items(), naive.shop_snapshot()
    _, codes, _ = computed()
    assert pair_features().code_names == ("department", "brand")
    assert pair_features().code_sizes == {"department": 4, "brand": 5}
    for name, code in codes.items():
        np.testing.assert_array_equal(
            code, np.tile(items.categorical[name][snapshot.candidate_row], (naive.REQUESTS, 1))
        )


@pytest.mark.parametrize("length", [0, 1, 5])
def test_features_of_an_empty_history_are_finite_and_say_never(length):
    """With no place for an event at all (length 0) as with padding only."""
    parser = RequestParser(tiny_shop.items(), tiny_shop.vocabularies(), 40)
    inputs = tiny_shop.request(["nobody"], [[]]) | {
        "history_item_id": tf.fill([1, length], ""),
        "history_age_days": tf.zeros([1, length]),
        "history_event_type": tf.fill([1, length], ""),
    }
    which = naive.sources()
    parsed = parser(inputs)
    found = which(parsed, tf.constant(naive.queries()[-1:]), tf.ones([1, which.count], tf.bool))
    features, _ = pair_features()(parsed, found)
    assert np.isfinite(features).all()
    at = pair_features().names.index
    for name, value in (
        ("user_log_events", 0),
        ("user_log_span", 0),
        ("user_log_last_age", math.log1p(NEVER)),
        ("own_log_last_age", math.log1p(NEVER)),
        ("own_count", 0),
    ):
        np.testing.assert_allclose(features[..., at(name)], value, atol=1e-5)


def test_padding_changes_nothing():
    """Also for events older than what "never" stands for."""
    parser = RequestParser(tiny_shop.items(), tiny_shop.vocabularies(), 40)
    which = naive.sources()
    query, allowed = tf.constant(naive.queries()[:1]), tf.ones([1, which.count], tf.bool)
    got = []
    for pad in (0, 3):
        inputs = tiny_shop.request(["u01"], [[("101", 1500.0), ("104", 900.0)] + [("", 0.0)] * pad])
        parsed = parser(inputs)
        got.append(pair_features()(parsed, which(parsed, query, allowed))[0].numpy())
    np.testing.assert_allclose(got[0], got[1], rtol=1e-6)


def test_hostile_ages_stay_finite():
    parser = RequestParser(tiny_shop.items(), tiny_shop.vocabularies(), 40)
    history = [("101", math.nan), ("101", -5.0), ("102", math.inf), ("103", 1e30), ("101", 0.0)]
    parsed = parser(tiny_shop.request(["u01"], [history]))
    which = naive.sources()
    found = which(parsed, tf.constant(naive.queries()[:1]), tf.ones([1, which.count], tf.bool))
    assert np.isfinite(pair_features()(parsed, found)[0]).all()


def test_a_new_feature_is_one_block():
    """Its name, its width, its group of an explanation and its values: nothing else is edited."""

    def with_sales(snapshot, *rest):
        sold = frozen_table(np.append(snapshot.popularity, 0), tf.float32)
        block = FeatureBlock.stacked(
            [Feature("sold_ever", "fame", lambda pairs: tf.gather(sold, pairs.position))], tables=[sold]
        )
        return [*blocks_of_pairs(snapshot, *rest), block]

    which = naive.sources()
    features = PairFeatures(
        *(naive.shop_snapshot(), tiny_shop.items(), which, naive.row_text(), naive.LEARNED), blocks=with_sales
    )
    assert features.names == (*pair_features().names, "sold_ever")
    found = computed()[2]
    values = features(naive.parsed(), found)[0].numpy()
    np.testing.assert_array_equal(values[..., :-1], computed()[0])
    np.testing.assert_array_equal(
        values[..., -1], np.tile(naive.shop_snapshot().popularity, (naive.REQUESTS, 1))
    )
    explainer = Explainer(
        lambda features, codes: features[..., -1], features.groups, np.zeros(values.shape[-1], np.float32)
    )
    assert explainer.groups[-2:] == ("fame", "item")
    _, _, attribution = explainer(tf.constant(values[:1, :3]), {})
    np.testing.assert_allclose(attribution[..., -2], values[:1, :3, -1], rtol=1e-5)
    np.testing.assert_allclose(attribution[..., :-2], 0, atol=1e-3)
    assert len(features.variables) == len(pair_features().variables) + 1  # the table is exported


def test_a_block_whose_values_are_not_its_columns_is_refused():
    block = FeatureBlock([Column("one", "taste"), Column("two", "taste")], lambda _: tf.zeros([1, 2, 3]))
    with pytest.raises(ValueError, match=r"3 values for the 2 features \['one', 'two'\]"):
        block(PairContext(naive.parsed(), computed()[2], naive.sources()))


def test_what_several_features_need_is_computed_once_for_a_batch():
    calls = []

    @once
    def noted(pairs):
        calls.append(pairs)
        return len(calls)

    first, second = (PairContext(naive.parsed(), computed()[2], naive.sources()) for _ in range(2))
    assert [noted(first), noted(first), noted(second), noted(first)] == [1, 1, 2, 1]
    assert calls == [first, second]
