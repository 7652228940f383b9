import collections
import math

import numpy as np
import tensorflow as tf

from models.search import text
from models.search.lexical import WORD_BITS, WORDS, Lexical
from models.search.lookups import ItemLookup, build_lists
from tests.models.search import small_search as small


def naive(words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(BM25F [C] of a query's terms, BM25 [C, F] of each field), in plain loops."""
    fields = small.catalogue().fields
    read = {
        name: [[term.decode() for term in text.stem(tf.constant(row)).numpy()] if row else [] for row in rows]
        for name, rows in (
            (name, text.text_words(tf.constant(list(texts))).to_list()) for name, texts in fields.items()
        )
    }
    for rows in read.values():  # a phrase with a synonym is a term of its own
        for row in rows:
            row += ["soft_drink"] * sum(pair == ("soft", "drink") for pair in zip(row, row[1:], strict=False))
    count = len(small.ITEMS)
    total, by_field = np.zeros(count), np.zeros((count, len(fields)))
    k1 = small.SETTINGS.k1
    for word in words:
        df = sum(any(word in read[name][item] for name in fields) for item in range(count))
        idf = math.log(1 + (count - df + 0.5) / (df + 0.5))
        for item in range(count):
            occurrences = 0.0
            for which, name in enumerate(fields):
                setting = small.FIELDS[name]
                average = sum(len(row) for row in read[name]) / count
                discount = 1 - setting.b + setting.b * len(read[name][item]) / average
                damped = collections.Counter(read[name][item])[word] / discount
                occurrences += setting.weight * damped
                by_field[item, which] += idf * damped / (k1 + damped)
            total[item] += idf * occurrences / (k1 + occurrences)
    return total, by_field


def asked(lexical: Lexical, words: list[str]) -> tuple[tf.Tensor, tf.Tensor]:
    """The terms, one for each word, and their weights."""
    term = np.full((WORDS, 2), lexical.terms, np.int32)
    term[: len(words), 1] = lexical.number(tf.constant(words)).numpy()
    return tf.constant(term), tf.ones([WORDS, 2])


def test_bm25f_is_the_naive_one():
    lexical = Lexical(small.index().postings, len(small.ITEMS))
    for words in (["chocolate", "milk"], ["shoe", "running", "nothing"], ["手机"], ["food"]):
        term, weight = asked(lexical, words)
        score, bits = lexical.scores(term, weight)
        total, by_field = naive(words)
        np.testing.assert_allclose(score, total, rtol=2e-3, atol=1e-6)  # impacts are float16
        position = tf.range(len(small.ITEMS) + 1)[None]  # with an empty slot
        details = lexical.details(term[None], weight[None], position)
        np.testing.assert_allclose(details.total[0, :-1], total, rtol=2e-3, atol=1e-6)
        np.testing.assert_allclose(details.by_field[0, :-1], by_field, rtol=2e-3, atol=1e-6)
        assert not details.total[0, -1].numpy().any()
        for which, word in enumerate(words):
            alone = naive([word])[0] > 0
            np.testing.assert_array_equal((bits.numpy() >> (WORD_BITS * which)) & 15 > 0, alone)
            np.testing.assert_array_equal(details.covered[0, which, :-1], alone)
            assert not details.covered[0, which, -1]


def test_share_of_a_field_that_the_query_has():
    lexical = Lexical(small.index().postings, len(small.ITEMS))
    term, weight = asked(lexical, ["cat", "food", "paw"])
    share = lexical.details(term[None], weight[None], tf.constant([small.position("d3", "d1")])).field_share
    # d3 "Cat food tuna", d1 "Dog food chicken 5lb"; brand Paws; category Pets
    np.testing.assert_allclose(share[0], [[2 / 3, 1, 0], [1 / 4, 1, 0]])


def test_a_query_of_unknown_words_scores_nothing():
    lexical = Lexical(small.index().postings, len(small.ITEMS))
    score, bits = lexical.scores(*asked(lexical, ["zzz"]))
    assert not score.numpy().any()
    assert not bits.numpy().any()


def test_lists_of_items_by_key():
    key, position = np.asarray([7, 3, 7, 7, 9, 9, 9]), np.asarray([1, 2, 4, 1, 5, 6, 7], np.int32)
    lists = build_lists(key, position, np.asarray([1.0, 1, 3, 4, 1, 1, 1]), most=2)
    lookup = ItemLookup(lists, count=10, size=3)
    found, share = lookup(tf.constant([7, 3, 8, 9], tf.int64))
    # 9 has more than two items, and names a kind
    assert found.numpy().tolist() == [[1, 4, 10], [2, 10, 10], [10] * 3, [10] * 3]
    np.testing.assert_allclose(share[:2], [[5 / 8, 3 / 8, 0], [1, 0, 0]])
