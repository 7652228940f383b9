"""The conditions of a search's blessing."""

import numpy as np
import pytest

from components.search_evaluator import verdict
from schema.config import SearchQuality


def of(mean, count=50, seed=0):
    values = np.clip(np.random.default_rng(seed).normal(mean, 0.05, count), 0, 1)
    return values - values.mean() + mean if mean else np.zeros(count)


def values(search=0.6, words=0.5, typo=0.55, sets=("judged", "known_item")):
    out = {}
    for name in sets:
        metric = verdict.FIGURE[name]
        out[name] = {"search": {metric: of(search)}, "bm25f": {metric: of(words, seed=1)}}
        out[f"{name}_typos"] = {"search": {metric: of(typo)}, "bm25f": {metric: of(words / 2, seed=2)}}
    return out


def failed(found):
    return {check.name for check in found if not check.passed}


def test_all_conditions_hold():
    quality = SearchQuality(min_ndcg=0.55, min_known_item=0.55, max_typo_loss=0.1)
    found = verdict.checks(values(), quality)
    assert failed(found) == set()
    both = {f"{kind}.{name}" for kind in ("least", "typos") for name in ("judged", "known_item")}
    assert {check.name for check in found} == both | {"lexical.judged"}
    assert "0.6000, BM25F alone 0.5000 (+0.1000, s.e. 0.0" in found[1].text
    assert verdict.typo_loss(values(), "judged", "search") == pytest.approx(1 - 0.55 / 0.6)
    assert verdict.typo_loss(values(), "judged", "bm25f") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("given", "quality", "lost"),
    [
        ({}, {"min_ndcg": 0.61}, {"least.judged"}),
        ({}, {"min_known_item": 0.61}, {"least.known_item"}),
        ({"words": 0.7}, {"min_of_lexical": 1.0}, {"lexical.judged"}),
        ({"typo": 0.3}, {"max_typo_loss": 0.4}, {"typos.judged", "typos.known_item"}),
        ({"search": 0.0, "words": 0.0, "typo": 0.0}, {"min_known_item": 0.1}, {"least.known_item"}),
    ],
)
def test_each_condition_refuses(given, quality, lost):
    assert failed(verdict.checks(values(**given), SearchQuality(**quality))) == lost


def test_a_shop_without_judgements_is_judged_by_known_items():
    found = verdict.checks(values(sets=("known_item",)), SearchQuality(min_ndcg=0.9))
    assert [check.name for check in found] == ["least.known_item", "lexical.known_item", "typos.known_item"]
