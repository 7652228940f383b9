"""Every signature of the servable, as the components build it on the tiny shop.

`signatures` are those of the exported and reloaded SavedModel.
"""

import numpy as np
import pytest
import tensorflow as tf

from components.common import artifacts
from models.funnel.servable import Funnel
from models.retrieval.sources.candidate_sources import SOURCES
from schema import names as F
from tests.shops import tiny_shop
from tests.shops.tiny_shop import CONFIG, CUTOFF, ITEMS, rank_inputs, recommend_inputs, text

LISTED = (F.ITEM_ID, F.ITEM_TEXT, F.SCORE, F.SOURCE, F.REASON)
USERS = ("u01", "u02", "somebody new")


@pytest.fixture(scope="module")
def built():
    return tiny_shop.built()


@pytest.fixture(scope="module")
def signatures(built):
    loaded = tiny_shop.load(artifacts.model_folder(built.servable))
    names = {
        "recommend",
        "search",
        "suggest",
        "similar",
        "rank",
        "explain",
        "embed_text",
        "embed_user",
        "embed_item",
        "serving_default",
    }
    assert set(loaded.signatures) == names

    def call(name, **inputs):
        return {key: text(value) for key, value in loaded.signatures[name](**inputs).items()}

    return call


@pytest.fixture(scope="module")
def histories():
    """What u01 and u02 did, and nothing."""
    log = tiny_shop.log()
    state = log.histories(np.flatnonzero(np.isin(log.users, USERS)), CUTOFF, 12)
    known = [
        [(item, float(age)) for item, age in zip(*row, strict=True) if item]
        for row in zip(state["history_item_id"], state["history_age_days"], strict=True)
    ]
    assert len(known) == 2
    return [*known, []]


@pytest.fixture(scope="module")
def inputs(histories):
    return tiny_shop.request(USERS, histories, ["s1", "s2", "nowhere"])


@pytest.fixture(scope="module")
def candidates(built):
    rows = built.factory.at(CUTOFF).sources.candidate_row.numpy()[:-1]
    return set(tiny_shop.items().item_id[rows])


@pytest.fixture(scope="module")
def everything(signatures, inputs):
    """Longest lists: all that the sources find."""
    return signatures("recommend", **recommend_inputs(inputs, k=80))


def assert_same_list(one, other, row, other_row):
    """Equal but for rounding, which may swap the source's rank of two items that are as near.

    Such a swap shifts their scores a little: hence the wide tolerance. Another request's
    list differs in its items, reasons and in most scores by far more.
    """
    lists = []
    for answer, at in ((one, row), (other, other_row)):
        columns = [answer[name][at].tolist() for name in LISTED]
        lists.append({item: rest for item, *rest in zip(*columns, strict=True) if item})
    assert lists[0].keys() == lists[1].keys()
    changed = 0
    for item, (words, score, source, reason) in lists[0].items():
        assert lists[1][item] == [words, pytest.approx(score, abs=0.05), source, reason]
        changed += abs(lists[1][item][1] - score) > 1e-5
    assert changed <= 4


def text_of(item):
    return tiny_shop.items().text[tiny_shop.items().item_id.tolist().index(item)]


def department_of(item):
    items = tiny_shop.items()
    row = items.item_id.tolist().index(item)
    return items.vocabularies["department"][items.categorical["department"][row]]


@pytest.mark.parametrize(("k", "length"), [(0, 5), (-3, 5), (1, 1), (7, 7), (80, 80), (1000, 80)])
def test_k(signatures, inputs, k, length):
    """0 and less give default_k, more than max_k gives max_k."""
    answer = signatures("recommend", **recommend_inputs(inputs, k=k))
    assert {name: value.shape for name, value in answer.items()} == dict.fromkeys(LISTED, (3, length))
    shorter = signatures("recommend", **recommend_inputs(inputs, k=1))
    for name in (F.ITEM_ID, F.SOURCE, F.REASON):
        np.testing.assert_array_equal(answer[name][:, :1], shorter[name])


def test_each_request_of_a_batch_has_its_own_k(signatures, inputs, everything):
    answer = signatures("recommend", **recommend_inputs(inputs, k=[2, 0, 9]))
    for row, length in enumerate((2, 5, 9)):
        for name in LISTED:
            assert answer[name].shape == (3, 9)
            assert not any(answer[name][row, length:])
        assert answer[F.ITEM_ID][row, :length].tolist() == everything[F.ITEM_ID][row, :length].tolist()
    near = signatures("similar", item_id=tf.constant(["100", "no such item"]), k=tf.constant([1, 3]))
    assert (near[F.ITEM_ID] != "").tolist() == [[True, False, False], [True, True, True]]


def test_as_many_k_as_requests(signatures, inputs):
    with pytest.raises(tf.errors.InvalidArgumentError, match="k: give one value for each request"):
        signatures("recommend", **recommend_inputs(inputs, k=[2]))
    assert signatures("similar", item_id=tf.constant([], tf.string), k=tf.constant([], tf.int32))[
        F.ITEM_ID
    ].shape == (0, 0)


def test_lists_are_distinct_ordered_and_padded_at_the_end(everything, candidates):
    for row in range(3):
        ids, score = everything[F.ITEM_ID][row], everything[F.SCORE][row]
        count = int((ids != "").sum())
        assert 12 <= count < 80
        assert len(set(ids[:count])) == count
        assert set(ids[:count]) <= candidates
        assert (np.diff(score[:count]) <= 0).all()
        assert (score[:count] > 0).all()
        assert (score[:count] < 1).all()
        assert (ids[count:] == "").all()
        assert (score[count:] == 0).all()
        for name in (F.ITEM_TEXT, F.SOURCE, F.REASON):
            assert (everything[name][row, count:] == "").all()
        assert everything[F.ITEM_TEXT][row, :count].tolist() == [text_of(item) for item in ids[:count]]
        assert set(everything[F.SOURCE][row, :count]) <= set(SOURCES)


def test_all_that_the_sources_find_is_listed(built, inputs, everything):
    retriever = built.factory.at(CUTOFF)
    found = retriever.find(inputs, tf.ones([1, retriever.sources.count], tf.bool))
    ids = text(
        tf.gather(retriever.parser.item_ids, tf.gather(retriever.sources.candidate_row, found.position))
    )
    for row in range(3):
        assert set(everything[F.ITEM_ID][row]) - {""} == set(ids[row]) - {""}


def test_a_batch_answers_as_single_requests_do(signatures, inputs, everything):
    for row in range(3):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        alone = signatures("recommend", **recommend_inputs(one, k=80))
        assert_same_list(alone, everything, 0, row)


def test_more_padding_in_the_history_changes_nothing(signatures, inputs, everything):
    padded = dict(inputs)
    for name, fill in ((F.HISTORY_ITEM_ID, ""), (F.HISTORY_AGE_DAYS, 0), (F.HISTORY_EVENT_TYPE, "")):
        padded[name] = tf.pad(inputs[name], [[0, 0], [2, 3]], constant_values=fill)
    again = signatures("recommend", **recommend_inputs(padded, k=80))
    for row in range(3):
        assert_same_list(again, everything, row, row)


def test_answers_are_personal_and_react_to_the_last_event(signatures, inputs, histories, everything):
    assert everything[F.ITEM_ID][0].tolist() != everything[F.ITEM_ID][1].tolist()
    longer = tiny_shop.request(USERS, [[*history, ("117", 0.01)] for history in histories])
    now = signatures("recommend", **recommend_inputs(longer, k=80))
    for row in range(3):
        assert "117" in now[F.ITEM_ID][row]
        assert now[F.SOURCE][row].tolist()[now[F.ITEM_ID][row].tolist().index("117")] == F.BUY_AGAIN


def test_excluded_items_are_absent(signatures, inputs, everything):
    exclude = [row[:count].tolist() for row, count in zip(everything[F.ITEM_ID], (9, 3, 1), strict=True)]
    exclude = [row + ["", "no such item"] + [""] * (9 - len(row)) for row in exclude]
    answer = signatures("recommend", **recommend_inputs(inputs, 80, exclude))
    for row in range(3):
        kept = set(answer[F.ITEM_ID][row]) - {""}
        assert kept
        assert not kept & set(exclude[row])
        # what is not excluded stays: the sources only give more in the free places
        assert kept >= set(everything[F.ITEM_ID][row]) - set(exclude[row]) - {""}


def test_excluding_the_whole_catalogue_gives_nothing(signatures, inputs):
    answer = signatures("recommend", **recommend_inputs(inputs, 4, [ITEMS] * 3))
    assert (answer[F.ITEM_ID] == "").all()
    assert (answer[F.SCORE] == 0).all()
    assert (answer[F.SOURCE] == "").all()
    assert (answer[F.REASON] == "").all()


def test_category_filter(signatures, inputs, candidates):
    wanted = [["dairy", ""], ["", ""], ["produce", "bakery"]]
    answer = signatures("recommend", **recommend_inputs(inputs, 80, category=wanted))
    for row, names in enumerate(wanted):
        ids = [item for item in answer[F.ITEM_ID][row] if item]
        assert len(ids) >= 8
        if any(names):
            assert {department_of(item) for item in ids} <= set(names)
    assert {department_of(item) for item in answer[F.ITEM_ID][1] if item} >= set(tiny_shop.DEPARTMENTS)
    # more of a category than a search without the filter would leave of it
    assert "" in {department_of(item) for item in candidates}


def test_an_unknown_category_gives_nothing(signatures, inputs):
    answer = signatures("recommend", **recommend_inputs(inputs, 3, category=[["toys"]] * 3))
    assert (answer[F.ITEM_ID] == "").all()


def test_an_unknown_user_without_history_gets_trends_and_the_towers(everything):
    sources = set(everything[F.SOURCE][2]) - {""}
    assert {F.TWO_TOWER, F.TRENDING} <= sources <= {F.TWO_TOWER, F.TRENDING, F.NEW_ITEMS, F.PLANNED}


def test_both_kinds_of_personal_reasons_occur(everything):
    assert {F.BUY_AGAIN, F.CO_PURCHASED} <= set(everything[F.SOURCE][:2].ravel())


def test_the_named_source_is_the_one_in_which_the_item_stands_highest(built, inputs, everything):
    retriever = built.factory.at(CUTOFF)
    found = retriever.find(inputs, tf.ones([1, retriever.sources.count], tf.bool))
    for row in range(3):
        for item, source in zip(everything[F.ITEM_ID][row], everything[F.SOURCE][row], strict=True):
            if not item or source == F.BUY_AGAIN:
                continue
            position = int(retriever.positions(tf.constant([item]))[0])
            share = {
                name: float(found.ranks()[name][row, position]) / retriever.sources.sizes[name]
                for name in retriever.sources.sizes
                if name != F.BUY_AGAIN
            }
            assert share[source] == min(share.values()) < 1


# --- rank ------------------------------------------------------------------------------


def test_rank_keeps_the_order_and_gives_the_scores_of_recommend(signatures, inputs, everything):
    longest = int((everything[F.ITEM_ID] != "").sum(1).min())
    ids, score = everything[F.ITEM_ID][:, :longest], everything[F.SCORE][:, :longest]
    order = np.random.default_rng(3).permutation(longest)
    answer = signatures("rank", **rank_inputs(inputs, tf.constant(ids[:, order].tolist())))
    for name in (F.SCORE, F.P_PURCHASE):
        np.testing.assert_allclose(answer[name], score[:, order], atol=1e-5)
    assert set(answer) == {F.SCORE, F.P_PURCHASE, F.P_REPEAT, F.EXPECTED_VALUE}
    assert (answer[F.P_REPEAT] > 0).all()
    assert (answer[F.P_REPEAT] <= answer[F.P_PURCHASE]).all()
    assert (answer[F.EXPECTED_VALUE] >= 0).all()


def test_rank_explain_and_examples_with_exclusions_see_what_recommend_sees(signatures, inputs, everything):
    """What is left out moves the others up in their sources, and so changes their scores."""
    exclude = [row[:6].tolist() for row in everything[F.ITEM_ID]]
    listed = signatures("recommend", **recommend_inputs(inputs, 80, exclude))
    longest = int((listed[F.ITEM_ID] != "").sum(1).min())
    ids, score = listed[F.ITEM_ID][:, :longest], listed[F.SCORE][:, :longest]
    asked = rank_inputs(inputs, tf.constant(ids.tolist()), exclude)
    np.testing.assert_allclose(signatures("rank", **asked)[F.SCORE], score, atol=1e-5)
    explained = signatures("explain", **asked)[F.LOG_ODDS]
    np.testing.assert_allclose(1 / (1 + np.exp(-explained)), score, atol=1e-5)
    examples = examples_of(inputs, ids.tolist(), exclude=exclude)
    np.testing.assert_allclose(
        signatures("serving_default", examples=examples)[F.P_PURCHASE], score, atol=1e-5
    )
    plain = signatures("rank", **rank_inputs(inputs, tf.constant(ids.tolist())))[F.SCORE]
    assert (np.abs(plain - score) > 1e-3).any(1).all()


def test_rank_of_unknown_repeated_and_missing_items(signatures, inputs):
    ids = [["101", "no such item", "101", tiny_shop.NEVER, "", "100"]] * 3
    answer = signatures("rank", **rank_inputs(inputs, tf.constant(ids)))
    for values in answer.values():
        assert (values[:, [1, 3, 4]] == 0).all()
    score = answer[F.SCORE]
    assert (score[:, [0, 2, 5]] > 0).all()
    np.testing.assert_array_equal(score[:, 0], score[:, 2])


def examples_of(inputs, ids, leave_out=(), exclude=None):
    """Serialized tf.Examples of a batch of requests, without padding."""
    out = []
    for row in range(len(ids)):
        example = tf.train.Example()
        listed = [(F.CANDIDATE_ITEM_ID, tf.constant(ids))]
        listed += [(F.EXCLUDE_ITEM_ID, tf.constant(exclude))] if exclude else []
        for name, values in (*inputs.items(), *listed):
            if name in leave_out:
                continue
            value = text(values)[row]
            if np.ndim(value):
                real = np.ones(len(value), bool)
                if name.startswith("history_"):
                    real = text(inputs[F.HISTORY_ITEM_ID])[row] != ""
                value = value[real].tolist()
            else:
                value = [value]
            feature = example.features.feature[name]
            if values.dtype == tf.string:
                feature.bytes_list.value.extend(v.encode() for v in value)
            elif values.dtype == tf.int64:
                feature.int64_list.value.extend(value)
            else:
                feature.float_list.value.extend(value)
        out.append(example.SerializeToString())
    return tf.constant(out)


def test_serving_default_equals_rank(signatures, inputs):
    ids = [["101", "103", "no such item"], ["104", "100", "112"], ["101", "102", "103"]]
    expected = signatures("rank", **rank_inputs(inputs, tf.constant(ids)))
    answer = signatures("serving_default", examples=examples_of(inputs, ids))
    assert set(answer) == {F.P_PURCHASE, F.P_REPEAT, F.EXPECTED_VALUE}
    for name, values in answer.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)


def test_serving_default_of_examples_that_all_lack_a_history(signatures, inputs):
    """The parsed history then has no place at all: not even one for padding."""
    ids = [["101", "103"]]
    one = {name: value[2:] for name, value in inputs.items()}
    expected = signatures("rank", **rank_inputs(one, tf.constant(ids)))[F.P_PURCHASE]
    answer = signatures("serving_default", examples=examples_of(one, ids))[F.P_PURCHASE]
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_serving_default_fills_what_an_example_lacks(signatures, inputs):
    ids = [["101", "103"]] * 3
    lacks = (F.USER_ID, F.CONTEXT_TIMESTAMP, "context_store_id")
    answer = signatures("serving_default", examples=examples_of(inputs, ids, lacks))[F.P_PURCHASE]
    blank = inputs | {
        F.USER_ID: tf.fill([3], ""),
        F.CONTEXT_TIMESTAMP: tf.zeros([3], tf.int64),
        "context_store_id": tf.fill([3], ""),
    }
    expected = signatures("rank", **rank_inputs(blank, tf.constant(ids)))[F.P_PURCHASE]
    np.testing.assert_allclose(answer, expected, atol=1e-5)


# --- similar ---------------------------------------------------------------------------


def test_similar_equals_naive_nearness(built, signatures, candidates):
    vectors, items = built.factory.item_vectors, tiny_shop.items()
    names = items.item_id.tolist()
    asked = ["100", tiny_shop.NEVER]  # a candidate, and an item of the catalogue that is none
    answer = signatures("similar", item_id=tf.constant(asked), k=tf.constant([6, 6]))
    for row, item in enumerate(asked):
        near = {
            other: float(vectors[names.index(item)] @ vectors[names.index(other)])
            for other in candidates - {item}
        }
        best = sorted(near.values(), reverse=True)[:6]
        np.testing.assert_allclose(answer[F.SCORE][row], best, atol=1e-5)
        np.testing.assert_allclose([near[other] for other in answer[F.ITEM_ID][row]], best, atol=1e-5)
        assert item not in answer[F.ITEM_ID][row]
        assert set(answer[F.SOURCE][row]) == {F.SIMILAR}
        assert set(answer[F.REASON][row]) == {f"Similar to {text_of(item).split('. ')[0]}"}
        assert answer[F.ITEM_TEXT][row].tolist() == [text_of(other) for other in answer[F.ITEM_ID][row]]


def test_similar_to_an_unknown_item_is_what_trends(built, signatures):
    sources, items = built.factory.at(CUTOFF).sources, tiny_shop.items()
    answer = signatures("similar", item_id=tf.constant(["no such item", ""]), k=tf.constant([4, 4]))
    best = items.item_id[
        sources.candidate_row.numpy()[np.argsort(-sources.trending.numpy(), kind="stable")[:4]]
    ]
    for row in range(2):
        assert answer[F.ITEM_ID][row].tolist() == best.tolist()
        assert set(answer[F.SOURCE][row]) == {F.TRENDING}
        assert set(answer[F.REASON][row]) == {"Popular with our customers"}


def test_similar_with_k_beyond_the_catalogue(signatures, candidates):
    answer = signatures("similar", item_id=tf.constant(["100"]), k=tf.constant([80]))
    ids = answer[F.ITEM_ID][0].tolist()
    assert set(ids) - {""} == candidates - {"100"}
    assert ids.count("") == 80 - len(candidates) + 1
    assert ids[len(candidates) - 1 :] == [""] * ids.count("")
    assert signatures("similar", item_id=tf.constant(["100"]), k=tf.constant([0]))[F.ITEM_ID].shape == (1, 5)


# --- embeddings ------------------------------------------------------------------------


def test_embeddings(built, signatures, inputs):
    retriever, items = built.factory.at(CUTOFF), tiny_shop.items()
    vectors = retriever.search_vectors.numpy()
    got = signatures("embed_item", item_id=tf.constant(["100", "no such item", tiny_shop.NEVER]))[F.EMBEDDING]
    names = items.item_id.tolist()
    np.testing.assert_allclose(got[0], vectors[names.index("100")], atol=1e-6)
    np.testing.assert_allclose(got[2], vectors[names.index(tiny_shop.NEVER)], atol=1e-6)
    assert not got[1].any()
    user = signatures("embed_user", **inputs)[F.EMBEDDING]
    np.testing.assert_allclose(user, retriever.query(retriever.parser(inputs)), atol=1e-5)
    words = signatures("embed_text", text=tf.constant(["whole milk", ""]))[F.EMBEDDING]
    learned = CONFIG.retrieval.embedding_dim
    assert got.shape == user.shape == (3, learned + CONFIG.candidates.collaborative.rank)
    assert words.shape == (2, tiny_shop.BERT_DIM)
    encoder = tiny_shop.load(artifacts.model_folder(built.text_encoder))
    np.testing.assert_allclose(words, encoder.encode(tf.constant(["whole milk", ""])), atol=1e-5)
    for values in (user[:, :learned] / retriever._towers.scale, words, got[[0, 2], :learned]):
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-5)


def test_two_tower_candidates_are_the_nearest_item_vectors_to_the_users(
    built, signatures, inputs, candidates
):
    """embed_user and embed_item live in one space, the one `recommend` searches."""
    retriever = built.factory.at(CUTOFF)
    user = signatures("embed_user", **inputs)[F.EMBEDDING]
    names = sorted(candidates)
    items = signatures("embed_item", item_id=tf.constant(names))[F.EMBEDDING]
    found = retriever.find(inputs, tf.ones([1, retriever.sources.count], tf.bool))
    position = retriever.positions(tf.constant(names)).numpy()
    for row in range(3):
        score = items @ user[row]
        size = CONFIG.candidates.two_tower
        expected = np.sort(score)[::-1][:size]
        rank = found.ranks()[F.TWO_TOWER].numpy()[row][position]
        np.testing.assert_allclose(np.sort(score[rank < size])[::-1], expected, atol=1e-5)


# --- another shop -------------------------------------------------------------------------


def test_a_shop_without_a_category_ignores_the_filter(built, inputs):
    config = CONFIG.model_copy(update={"items": CONFIG.items.model_copy(update={"category": None})})
    ranker = tiny_shop.load(artifacts.model_folder(built.ranking))
    retriever = built.factory.at(CUTOFF)
    funnel = Funnel(retriever, ranker, None, None, tiny_shop.items(), config)
    plain, filtered = (
        text(funnel.recommend(recommend_inputs(inputs, 5, category=[[name]] * 3))[F.ITEM_ID])
        for name in ("", "dairy")
    )
    np.testing.assert_array_equal(plain, filtered)
    assert (plain != "").all()
