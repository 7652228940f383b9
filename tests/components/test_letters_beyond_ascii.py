"""Item ids are UTF-8: what is found for them does not depend on their letters."""

import dataclasses
import functools
import types

import numpy as np
import pytest
import tensorflow as tf

from components.candidate_sampler import executor as sampler
from components.candidate_sampler.label_window import LabelWindow
from components.common import artifacts
from components.common.candidate_lists import strings
from components.common.protocol import Protocol
from components.common.retriever_inputs import RetrieverFactory
from components.funnel_evaluator import systems
from models.funnel.servable import Funnel
from models.funnel.signatures import concrete, signature_specs
from schema import names as F
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, LABEL_START, WINDOWS

MARK = "ид é 品 "  # in front of every id, so that their order stays


@functools.cache
def shop():
    """(catalogue, all events, retrievers) of the tiny shop under other ids."""
    items, log = tiny_shop.items(), tiny_shop.log()
    items = dataclasses.replace(
        items, item_id=np.asarray(["", *(MARK + i for i in items.item_id[1:])], object)
    )
    log = dataclasses.replace(log, items=np.asarray([MARK + item for item in log.items], object))
    built = tiny_shop.built()
    factory = RetrieverFactory(CONFIG, items, tiny_shop.vocabularies(), built.retrieval, built.index)
    return items, log, factory


def test_strings_of_any_shape():
    given = [["é 6", "", "ид 3"], ["6", "\u00a0", "品"]]
    assert strings(tf.constant(given)).tolist() == given
    assert strings(tf.constant("é")).item() == "é"
    assert strings(tf.zeros([2, 0], tf.string)).shape == (2, 0)


@pytest.mark.parametrize("novel", [False, True])
def test_the_candidate_sampler_labels_the_same_lists(novel):
    items, log, factory = shop()
    found = []
    for catalogue, events, retriever in (
        (items, log, factory.at(LABEL_START)),
        (tiny_shop.items(), tiny_shop.log(), tiny_shop.factory().at(LABEL_START)),
    ):
        window = LabelWindow.between(events, LABEL_START, CUTOFF, retriever, catalogue)
        found.append(list(sampler.labelled(window, 40, novel, CONFIG.ranking, 16)))
    for ours, plain in zip(*found, strict=True):
        for name in (F.CANDIDATE_ITEM_ID, F.EXCLUDE_ITEM_ID, F.HISTORY_ITEM_ID):
            expected = [[MARK + item if item else "" for item in row] for row in plain[name]]
            assert ours[name].tolist() == expected
        np.testing.assert_array_equal(ours[F.LABEL], plain[F.LABEL])
        assert ours[F.LABEL].any()


@functools.cache
def model():
    """Of that shop: what FunnelEvaluator asks of a servable."""
    items, _, factory = shop()
    ranker = tiny_shop.load(artifacts.model_folder(tiny_shop.built().ranking))
    funnel = Funnel(factory.at(CUTOFF), ranker, None, None, items, CONFIG)
    specs = signature_specs(("store_id",))
    methods = {F.RECOMMEND: funnel.recommend, F.EMBED_ITEM: funnel.embed_item}
    return types.SimpleNamespace(
        signatures={name: concrete(method, specs[name], name) for name, method in methods.items()}
    )


@pytest.mark.parametrize("task", ["all", "novel"])
def test_the_funnel_evaluator_finds_the_same_items(task):
    _, log, _ = shop()
    plain = tiny_shop.load(artifacts.model_folder(tiny_shop.built().servable))
    lists, vectors = [], []
    for served, events in ((model(), log), (plain, tiny_shop.log())):
        protocol = Protocol.of(events, WINDOWS, CONFIG.candidates.min_events)
        users = protocol.users(task)
        lists.append(systems.servable(served, protocol, 40, 6)(users, task))
        vectors.append(systems.item_vectors(served, protocol))
    np.testing.assert_array_equal(*lists)
    assert (lists[0] >= 0).mean() > 0.9
    np.testing.assert_allclose(*vectors, atol=1e-6)
