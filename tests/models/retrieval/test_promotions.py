"""What a request may know of promotions: nothing that is not known yet at its own moment."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from models.data.frozen import frozen_table
from models.data.requests import RequestParser
from models.ranking.features.pair_features import PairFeatures
from models.retrieval import snapshot
from models.retrieval.index.plan import Plan
from models.retrieval.sources.candidate_sources import CandidateSources
from tests.models.retrieval import test_sources as naive
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, DAY, START

WEEK = 7 * DAY
HISTORY = [("101", 2.0), ("103", 9.5), ("104", 20.5), ("131", 64.0)]


def promoted_at_random(rng, first, end):
    """The catalogue with rows of random items in the weeks from START + `first` weeks to before `end`."""
    items = tiny_shop.items()
    row, week = np.nonzero(rng.random((len(items), end - first)) < 0.4)
    stores = {name: rng.integers(0, 9, len(row)).astype(np.float32) for name in items.exposure}
    weeks = START + (first + week).astype(np.int64) * WEEK
    return dataclasses.replace(items, exposure_row=row.astype(np.int32), exposure_week=weeks, exposure=stores)


def scrambled(items, chosen, rng):
    """The same catalogue with other stores in the chosen rows."""
    stores = {
        name: np.where(chosen, rng.integers(0, 9, len(chosen)), values).astype(np.float32)
        for name, values in items.exposure.items()
    }
    return dataclasses.replace(items, exposure=stores)


def features(items, as_of, now, known_ahead):
    """Features of all candidates by (name of the feature), of tables of `as_of` and a request at `now`."""
    exposures = CONFIG.exposures.model_copy(update={"known_ahead": known_ahead})
    config = CONFIG.candidates
    tables = snapshot.build(tiny_shop.log(), items, as_of, config, None, exposures, CONFIG.items.category)
    which = CandidateSources(tables, frozen_table(naive.row_vectors()), Plan.whole("exact"), config)
    pairs = PairFeatures(tables, items, which, naive.row_text(), naive.LEARNED)
    request = RequestParser(items, tiny_shop.vocabularies(), 40)(
        tiny_shop.request(["u01"], [HISTORY], timestamp=now)
    )
    every = tf.range(which.count)[None]
    found = which(request, tf.constant(naive.queries()[:1]), tf.ones([1, which.count], tf.bool), every)
    values = pairs(request, found)[0].numpy()[0]
    return dict(zip(pairs.names, values.T, strict=True))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("known_ahead", [0, 7, 28])
def test_no_feature_reads_a_week_that_is_not_known_yet(seed, known_ahead):
    """Random moments, of the tables and of a request up to two weeks later."""
    rng = np.random.default_rng(seed)
    as_of = int(CUTOFF - rng.integers(0, 60 * DAY))
    now = int(as_of + rng.integers(0, 14 * DAY) * (seed % 2))
    items = promoted_at_random(rng, 5, 36)
    horizon = now + known_ahead * DAY + 3600  # a shop's clock may be an hour off
    unknown = items.exposure_week + WEEK > horizon
    assert unknown.any()
    same = features(items, as_of, now, known_ahead)
    other = features(scrambled(items, unknown, rng), as_of, now, known_ahead)
    for name, values in same.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("known_ahead", [7, 28])
def test_features_read_the_weeks_that_are_known_ahead(known_ahead):
    rng = np.random.default_rng(1)
    items = promoted_at_random(rng, 5, 36)
    last = items.exposure_week + WEEK <= CUTOFF + known_ahead * DAY
    last &= items.exposure_week + 2 * WEEK > CUTOFF + known_ahead * DAY
    same, other = (
        features(each, CUTOFF, CUTOFF, known_ahead) for each in (items, scrambled(items, last, rng))
    )
    changed = {name for name, values in same.items() if (values != other[name]).any()}
    span = f"next_{known_ahead // 7}"
    assert {f"promoted_mailer_{span}", f"promoted_above_usual_{span}", f"promoted_gain_{span}"} <= changed
    assert not any(name.endswith(("last_1", "last_4")) for name in changed)


def test_a_log_has_no_features_of_coming_weeks():
    names = features(tiny_shop.items(), CUTOFF, CUTOFF, 0)
    assert {"promoted_mailer_last_1", "user_promoted_share"} <= set(names)
    assert not any("next" in name for name in names)
