"""Careless writing: what may change and what may not."""

import numpy as np
import tensorflow as tf

from models.text.noise import noisy

TEXTS = [
    "chocolate chip cookies. 12 oz. grocery",
    "",
    "a bb",
    "crème brûlée surgelée à la vanille",
    "豆腐 牛奶",
]


def write(share, seed, texts=TEXTS):
    out = noisy(tf.constant(texts), share, tf.constant([seed, 1])).numpy()
    return [text.decode() for text in out]


def test_a_share_of_zero_changes_nothing():
    assert write(0.0, 3) == TEXTS


def test_the_same_seed_writes_the_same():
    assert write(1.0, 3) == write(1.0, 3)
    assert len({tuple(write(1.0, seed)) for seed in range(10)}) > 5


def test_words_are_dropped_cut_and_mistyped_but_never_all():
    """Every outcome is one of the documented ones, and each occurs."""
    kinds = set()
    for out in write(1.0, 1, ["chocolate wafers 12"] * 300):
        words = out.split(" ")
        assert 1 <= len(words) <= 3
        if len(words) < 3:
            kinds.add("dropped")
            continue
        first, _, last = words
        assert last == "12"  # too short to be mistyped
        if first == "cho":
            kinds.add("cut")
        elif first == "chclte":
            kinds.add("bare")
        elif len(first) == 8:
            kinds.add("left out")
            assert any("chocolate"[:at] + "chocolate"[at + 1 :] == first for at in range(1, 8))
        elif first != "chocolate":
            kinds.add("swapped")
            assert sorted(first) == sorted("chocolate")
            assert sum(a != b for a, b in zip(first, "chocolate", strict=True)) == 2
    assert kinds == {"dropped", "cut", "bare", "left out", "swapped"}


def test_the_share_is_the_chance_of_each_text():
    texts = ["several words that surely change somehow"] * 2000
    changed = np.mean([text != texts[0] for text in write(0.25, 5, texts)])
    assert 0.15 < changed < 0.25  # some are lucky in every word


def test_empty_and_short_texts_stay():
    for seed in range(5):
        out = write(1.0, seed)
        assert out[1] == ""
        assert out[2] in ("a bb", "a", "bb")
        assert out[4] in ("豆腐 牛奶", "豆腐", "牛奶")
