"""Requests that stand for far more work than they are long are refused in the graph, whoever serves it."""

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts, servables
from components.common.candidate_lists import tensor
from models.funnel.limits import Limits, in_parts
from models.funnel.signatures import concrete, signature_specs
from schema import names as F
from schema.config import Serving
from schema.config.serving import EVALUATED_ROWS
from tests.models.funnel import tiny_funnel
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CUTOFF, rank_inputs, recommend_inputs

DEFAULT = Serving()
ROWS, LISTS = "rows in a request", f"{F.CANDIDATE_ITEM_ID} "


@pytest.fixture(scope="module")
def signatures():
    """As exported, with the default limits."""
    return tiny_shop.load(artifacts.model_folder(tiny_shop.built().servable)).signatures


@pytest.fixture(scope="module")
def places():
    """Candidates that the sources give at most."""
    return sum(tiny_shop.built().factory.at(CUTOFF).sources.sizes.values())


def users(rows):
    return tiny_shop.request(["u01"] * rows, [[("101", 3.0)]] * rows)


def recommend(rows):
    return recommend_inputs(users(rows), 1)


def items(rows):
    return {F.ITEM_ID: tf.fill([rows], "101")}


def similar(rows):
    return items(rows) | {F.K: tf.fill([rows], 1)}


def texts(rows):
    return {F.TEXT: tf.fill([rows], "milk")}


def examples(rows, candidates):
    return {"examples": tf.repeat(example(candidates)["examples"], rows)}


def example(candidates):
    features = tf.train.Example()
    features.features.feature[F.CANDIDATE_ITEM_ID].bytes_list.value.extend([b"101"] * candidates)
    return {"examples": tf.constant([features.SerializeToString()])}


def ranked(rows, candidates):
    return rank_inputs(users(rows), tf.fill([rows, candidates], "101"))


def searches(rows):
    values = servables.neutral_inputs(tiny_shop.items(), np.arange(1, 3)) | servables.nobody()
    values[F.context("store_id")] = np.asarray([""], object)
    return {name: tf.repeat(tensor(value), rows, 0) for name, value in values.items()}


def message(of, setting, limit):
    return rf"at most {limit} {of}.*.serving\.{setting}.; ask in parts"


def at_limits(serving, places):
    """(signature, largest request, one that is too large, what is said of it)."""
    rows, pairs = serving.max_rows, serving.max_pairs
    recommended = pairs // (places + 4 * serving.max_k)
    assert recommended <= rows
    lists = pairs // serving.max_candidates
    return [
        ("recommend", recommend(recommended), recommend(recommended + 1), (ROWS, "max_pairs", recommended)),
        ("similar", similar(rows), similar(rows + 1), (ROWS, "max_rows", rows)),
        ("rank", ranked(rows, 1), ranked(rows + 1, 1), (ROWS, "max_rows", rows)),
        (
            *("rank", ranked(1, serving.max_candidates), ranked(1, serving.max_candidates + 1)),
            (LISTS + "in a row", "max_candidates", serving.max_candidates),
        ),
        (
            *("rank", ranked(lists, serving.max_candidates), ranked(lists + 1, serving.max_candidates)),
            (LISTS + "in a request", "max_pairs", pairs),
        ),
        ("explain", ranked(rows, 1), ranked(rows + 1, 1), (ROWS, "max_rows", rows)),
        (
            *("explain", ranked(2, serving.max_explained // 2), ranked(2, serving.max_explained // 2 + 1)),
            (LISTS + "to explain in a request", "max_explained", serving.max_explained),
        ),
        ("embed_user", users(rows), users(rows + 1), (ROWS, "max_rows", rows)),
        ("embed_item", items(rows), items(rows + 1), (ROWS, "max_rows", rows)),
        (
            *("serving_default", example(serving.max_candidates), example(serving.max_candidates + 1)),
            (LISTS + "in a row", "max_candidates", serving.max_candidates),
        ),
        (
            *("serving_default", examples(lists, serving.max_candidates)),
            *(examples(lists + 1, serving.max_candidates), (LISTS + "in a request", "max_pairs", pairs)),
        ),
    ]


def test_what_is_exported_has_the_limits(signatures, places):
    serving, rows = DEFAULT, DEFAULT.max_pairs // (places + 4 * tiny_shop.CONFIG.serving.max_k)
    assert rows < serving.max_rows
    over = [
        ("recommend", recommend(rows + 1), ROWS),
        ("similar", similar(serving.max_rows + 1), ROWS),
        ("rank", ranked(serving.max_rows + 1, 1), ROWS),
        ("rank", ranked(1, serving.max_candidates + 1), "in a row"),
        ("explain", ranked(1, serving.max_explained + 1), "to explain in a request"),
        ("embed_text", texts(serving.max_texts + 1), ROWS),
        ("embed_user", users(serving.max_rows + 1), ROWS),
        ("embed_item", items(serving.max_rows + 1), ROWS),
        ("serving_default", example(serving.max_candidates + 1), "in a row"),
        (F.SEARCH, searches(serving.max_texts + 1), ROWS),
        (F.SUGGEST, searches(serving.max_rows + 1), ROWS),
    ]
    assert {name for name, _, _ in over} == set(signatures)
    for name, given, of in over:
        inputs = {each: given[each] for each in signatures[name].structured_input_signature[1]}
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{of} .serving\.max_\w+.; ask in parts"):
            signatures[name](**inputs)


def test_limits_are_settings_and_what_they_allow_is_answered(places):
    small = {"max_rows": 33, "max_candidates": 10, "max_explained": 40, "max_pairs": 3 * (places + 4 * 5) + 1}
    small |= {"max_k": 5, "default_k": 5}
    serving = DEFAULT.model_copy(update=small)
    funnel = tiny_funnel.make(**small)
    specs = signature_specs(("store_id",))
    methods = {"recommend": funnel.recommend, "similar": funnel.similar, "rank": funnel.rank}
    methods |= {"explain": funnel.explain, "serving_default": funnel.rank_examples}
    methods |= {"embed_user": funnel.embed_user, "embed_item": funnel.embed_item}
    functions = {name: concrete(method, specs[name], name) for name, method in methods.items()}
    for name, allowed, over, said in at_limits(serving, places):
        for values in functions[name](**allowed).values():
            if values.dtype.is_floating:
                assert np.isfinite(values).all()
        with pytest.raises(tf.errors.InvalidArgumentError, match=message(*said)):
            functions[name](**over)


@pytest.mark.parametrize(
    ("candidates", "places", "setting", "scored", "recommended"),
    [
        (100, 10, {"max_k": 20}, 1024, 728),
        (18_960, 900, {}, 221, 38),
        (100_000, 900, {}, 41, 38),
        (1_000_000, 900, {}, EVALUATED_ROWS, EVALUATED_ROWS),  # C float32 scores of a row are 4 MB
        (50_000_000, 900, {}, EVALUATED_ROWS, EVALUATED_ROWS),
        (1_000_000, 900, {"max_scores": 1 << 27}, 134, 38),
    ],
)
def test_rows_are_bounded_by_what_each_costs(candidates, places, setting, scored, recommended):
    limits = Limits(Serving(**setting), candidates, places)
    assert len(limits.scored(similar(scored), F.ITEM_ID)[F.ITEM_ID]) == scored
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {scored} rows"):
        limits.scored(similar(scored + 1), F.ITEM_ID)
    assert len(limits.recommended(users(recommended))[F.USER_ID]) == recommended
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {recommended} rows"):
        limits.recommended(users(recommended + 1))


def test_a_batch_job_s_rows_are_ranked_some_at_a_time(monkeypatch):
    """Any number of rows, and the scores of all candidates for no more than max_scores allows."""
    funnel = tiny_funnel.make(max_scores=1)
    count = funnel.retriever.sources.count
    funnel = tiny_funnel.make(max_scores=3 * count + 1)
    describe, asked = funnel.retriever.describe, []

    def noted(inputs, allowed, fixed=None):
        asked.append(len(allowed))
        return describe(inputs, allowed, fixed=fixed)

    known = [item.encode() for item in tiny_shop.items().item_id[1:9]]
    ids = [known[:1], known[1:8], [], known[2:4], known[:3], known[5:6], known[3:8], known[1:3]]
    rows = []
    for candidates in ids:
        features = tf.train.Example()
        features.features.feature[F.CANDIDATE_ITEM_ID].bytes_list.value.extend(candidates)
        rows.append(features.SerializeToString())
    monkeypatch.setattr(funnel.retriever, "describe", noted)
    together = funnel.rank_examples({"examples": tf.constant(rows)})
    assert asked == [3, 3, 2]
    monkeypatch.undo()
    exported = concrete(funnel.rank_examples, signature_specs(("store_id",))["serving_default"], "ranked")
    for name, values in exported(examples=tf.constant(rows)).items():
        np.testing.assert_allclose(values, together[name], rtol=1e-5, atol=1e-7)
        assert values.shape == (8, 7)
        for row, candidates in enumerate(ids):
            alone = exported(examples=tf.constant(rows[row : row + 1]))[name][0]
            np.testing.assert_allclose(values[row, : len(candidates)], alone, rtol=1e-5, atol=1e-7)
            assert not np.any(values[row, len(candidates) :])
    assert exported(examples=tf.constant([], tf.string))[F.P_PURCHASE].shape == (0, 0)


@pytest.mark.parametrize(
    ("width", "parts"), [(1, [4, 4, 1]), (3, [3, 3, 3]), (5, [2] * 4 + [1]), (99, [1] * 9)]
)
def test_wide_lists_are_ranked_fewer_at_a_time(width, parts):
    asked = []

    def work(rows):
        asked.append(len(rows[F.USER_ID]))
        return tf.cast(rows[F.CANDIDATE_ITEM_ID], tf.float32)[None] * 2

    given = {
        F.USER_ID: tf.range(9),
        F.CANDIDATE_ITEM_ID: tf.reshape(tf.range(9 * width), [9, width]),
    }
    answer = in_parts(work, given, rows=4, answers=1, pairs=10)
    assert asked == parts
    np.testing.assert_array_equal(answer[0], 2 * given[F.CANDIDATE_ITEM_ID])


def test_texts_have_a_limit_of_their_own():
    limits = Limits(Serving(max_texts=3), 100, 10)
    assert len(limits.texts(texts(3))[F.TEXT]) == 3
    with pytest.raises(tf.errors.InvalidArgumentError, match=message(ROWS, "max_texts", 3)):
        limits.texts(texts(4))
