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


@pytest.mark.parametrize(("count", "lost"), [(20, set()), (2000, {"lexical.known_item"})])
def test_few_queries_refuse_no_model_by_their_draw(count, lost):
    """The same difference, once within chance and once not."""
    rng = np.random.default_rng(3)
    found = values(sets=("known_item",))
    words = rng.uniform(size=count)
    ours = np.clip(words + rng.normal(scale=0.4, size=count), 0, 1)
    ours += 0.85 * words.mean() - ours.mean()
    found["known_item"] = {"search": {"mrr": ours}, "bm25f": {"mrr": words}}
    found["known_item_typos"]["search"] = {"mrr": ours * 0.9}
    checks = verdict.checks(found, SearchQuality(min_of_lexical=0.95))
    assert failed(checks) == lost
    assert ("within chance" in checks[1].text) == (not lost)


@pytest.mark.parametrize(("count", "lost"), [(20, set()), (2000, {"typos.known_item"})])
def test_few_queries_with_typing_errors_refuse_none_either(count, lost):
    rng = np.random.default_rng(4)
    found = values(sets=("known_item",))
    ours = rng.uniform(size=count)
    typed = np.where(rng.uniform(size=count) < 0.5, ours, 0.0)
    typed *= 0.55 * ours.mean() / typed.mean()
    found["known_item"]["search"] = found["known_item"]["bm25f"] = {"mrr": ours}
    found["known_item_typos"]["search"] = {"mrr": typed}
    assert failed(verdict.checks(found, SearchQuality(max_typo_loss=0.4))) == lost
