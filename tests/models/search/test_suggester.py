import numpy as np
import pytest
import tensorflow as tf

from models.search.suggester import Suggester
from tests.models.search import small_search as small


def complete(*prefixes, k=5, affinity=None, suggester=None):
    made = suggester or small.suggester()
    if affinity is not None:
        affinity = tf.constant(affinity, tf.float32)
    completion, score = made(tf.constant(list(prefixes), tf.string), tf.fill([len(prefixes)], k), affinity)
    assert completion.shape == score.shape == (len(prefixes), min(max(k, 0) or 8, 20))
    total = score.numpy().sum(1)
    some = (completion.numpy() != b"").any(1)
    np.testing.assert_allclose(total, some.astype(np.float32), atol=1e-5)
    assert (np.diff(score.numpy(), axis=1) <= 1e-6).all()
    return [[word.decode() for word in row if word] for row in completion.numpy()]


def test_completions_begin_as_typed_and_popular_ones_come_first():
    found = complete("cho")[0]
    assert found[0] == "chocolate"
    assert "chocolate bar dark" in found
    assert complete("chocolate mi")[0][0] == "chocolate milk 16oz"
    assert complete("CHOCOLATE  Mi")[0][0] == "chocolate milk 16oz"
    assert complete("dog f")[0][0] == "dog food"


def test_a_blank_ends_the_word():
    assert "shoes" in complete("shoes")[0]
    assert all(each.startswith("running ") for each in complete("running ")[0][:1])


def test_later_words_complete_too():
    assert "running shoes" in complete("shoe", k=20)[0]
    # the last word alone is never completed by a phrase of which it is a later one
    assert not any(each.startswith("trail trail") for each in complete("trail shoe", k=20)[0])


def test_categories_brands_and_logged_queries():
    assert "meadow" in complete("mea")[0]
    assert "candy" in complete("can")[0]
    assert complete("breakf")[0] == ["breakfast"]
    assert complete("手机")[0][0].startswith("手机")


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("choclate", "chocolate"), ("runing sho", "running shoes"), ("tothp", "toothpaste mint 6oz")],
)
def test_misspelt_beginnings(typed, wanted):
    assert wanted in complete(typed)[0]


def test_the_last_word_is_completed_after_unknown_ones():
    assert "purple chocolate" in complete("purple choc")[0]


def test_the_users_categories_lift_phrases():
    made = small.suggester()
    shares = made.affinity(
        tf.constant([small.position("a4", "a5"), small.position("a1", "a2")]), tf.ones([2, 2])
    ).numpy()
    candy, milk = made.categories.index("Candy"), made.categories.index("Dairy > Milk")
    np.testing.assert_allclose(shares[:, [candy, milk]], [[1, 0], [0, 1]])
    found = complete("ch", "ch", k=20, affinity=shares)
    assert found[0].index("chocolate chip cookies") < found[0].index("chocolate milk 16oz")
    assert found[1].index("chocolate milk 16oz") < found[1].index("chocolate chip cookies")
    nobody = made.affinity(tf.fill([1, 3], len(small.ITEMS)), tf.ones([1, 3])).numpy()
    assert not nobody.any()


def test_each_request_gets_its_k():
    completion, score = small.suggester()(tf.constant(["c", "c", "c"]), tf.constant([1, 3, 0]))
    assert completion.shape == (3, 8)  # the default
    counts = (completion.numpy() != b"").sum(1)
    assert counts[:2].tolist() == [1, 3]
    assert ((score.numpy() > 0).sum(1) == counts).all()


def test_no_completion_twice():
    for row in complete("c", "sho", "choclate", "m", k=20):
        assert len(set(row)) == len(row)


def test_anything_typed_is_answered():
    typed = [
        "",
        " ",
        "😀",
        "a" * 10_000,
        b"\xff\xfe",
        "\x00",
        "手" * 3000,
        "a " * 5000,
        "\\",
        "'; --",
        "\u200b",
        "½",
    ]
    found = complete(*typed)
    assert found[0] == found[1] == found[2] == []


def test_a_catalogue_without_phrases_suggests_nothing():
    rows = [("x", "!!!", "", "", np.nan, 0, 0)]
    tables = small.SearchIndex.build(small.catalogue(rows), small.SETTINGS)
    assert complete("a", "", suggester=Suggester(tables, small.SETTINGS)) == [[], []]
