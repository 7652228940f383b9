"""Requests that stand for far more work than they are long are refused in the graph, whoever serves it."""

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts
from models.funnel.signatures import concrete, signature_specs
from schema import names as F
from schema.config import Serving
from tests.models.funnel import tiny_funnel
from tests.shops import tiny_shop
from tests.shops.tiny_shop import rank_inputs, recommend_inputs

DEFAULT = Serving()
SMALL = {"max_rows": 2, "max_candidates": 4, "max_explained": 3}


@pytest.fixture(scope="module")
def signatures():
    """As exported, with the default limits."""
    return tiny_shop.load(artifacts.model_folder(tiny_shop.built().servable)).signatures


def users(rows):
    return tiny_shop.request(["u01"] * rows, [[("101", 3.0)]] * rows)


def similar(rows):
    return {F.ITEM_ID: tf.fill([rows], "101"), F.K: tf.fill([rows], 1)}


def example(candidates):
    features = tf.train.Example()
    features.features.feature[F.CANDIDATE_ITEM_ID].bytes_list.value.extend([b"101"] * candidates)
    return {"examples": tf.constant([features.SerializeToString()])}


def ranked(rows, candidates):
    return rank_inputs(users(rows), tf.fill([rows, candidates], "101"))


def asked(rows, candidates, explained):
    """Signature -> requests at a limit."""
    return {
        "recommend": [recommend_inputs(users(rows), 1)],
        "similar": [similar(rows)],
        "rank": [ranked(rows, 1), ranked(1, candidates)],
        "explain": [ranked(rows, 1), ranked(1, explained)],
        "serving_default": [example(candidates)],
    }


def message(name, at):
    if name in ("recommend", "similar") or (at == 0 and name != "serving_default"):
        return "rows in a request .serving.max_rows.; ask in parts"
    setting = "max_explained" if name == "explain" else "max_candidates"
    return rf"{F.CANDIDATE_ITEM_ID} .*in a row .serving.{setting}.; ask in parts"


OVER = asked(DEFAULT.max_rows + 1, DEFAULT.max_candidates + 1, DEFAULT.max_explained + 1)


@pytest.mark.parametrize(
    ("name", "at"), [(name, at) for name, found in OVER.items() for at in range(len(found))]
)
def test_one_more_than_the_limit_is_refused_with_the_setting_s_name(signatures, name, at):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message(name, at)):
        signatures[name](**OVER[name][at])


def test_limits_are_settings_and_what_they_allow_is_answered():
    funnel = tiny_funnel.make(**SMALL)
    specs = signature_specs(("store_id",))
    methods = {"recommend": funnel.recommend, "similar": funnel.similar, "rank": funnel.rank}
    methods |= {"explain": funnel.explain, "serving_default": funnel.rank_examples}
    allowed = asked(*SMALL.values())
    over = asked(*(most + 1 for most in SMALL.values()))
    for name, method in methods.items():
        function = concrete(method, specs[name], name)
        for at, inputs in enumerate(allowed[name]):
            for values in function(**inputs).values():
                if values.dtype.is_floating:
                    assert np.isfinite(values).all()
            with pytest.raises(tf.errors.InvalidArgumentError, match=message(name, at)):
                function(**over[name][at])
