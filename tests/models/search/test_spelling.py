import random

import numpy as np
import tensorflow as tf

from models.search import spelling

WORDS = [
    "chocolate",
    "milk",
    "silk",
    "headphones",
    "headphone",
    "bread",
    "board",
    "café",
    "ab",
    "x" * 30,
    "a1b",
]
FREQUENCY = np.asarray([90, 500, 3, 60, 10, 80, 70, 5, 9, 9, 9], float)


def speller() -> spelling.Speller:
    return spelling.Speller(spelling.build_spellings(np.asarray(WORDS, object), FREQUENCY))


def correct(*typed: str) -> list[list[str]]:
    made = speller()
    number, score = made.correct(tf.constant(typed, tf.string))
    assert (np.diff(score.numpy(), axis=1) <= 0).all()
    return [[word.decode() for word in row if word] for row in made.words(number).numpy()]


def naive_distance(left: str, right: str) -> int:
    """Damerau and Levenshtein, where a letter is changed once at most."""
    table = np.zeros((len(left) + 1, len(right) + 1), int)
    table[:, 0], table[0] = np.arange(len(left) + 1), np.arange(len(right) + 1)
    for row in range(1, len(left) + 1):
        for column in range(1, len(right) + 1):
            same = left[row - 1] == right[column - 1]
            table[row, column] = min(
                table[row - 1, column] + 1,
                table[row, column - 1] + 1,
                table[row - 1, column - 1] + (not same),
            )
            if row > 1 and column > 1 and left[row - 2 : row] == right[column - 2 : column][::-1]:
                table[row, column] = min(table[row, column], table[row - 2, column - 2] + 1)
    return table[-1, -1]


def test_every_single_error_is_undone():
    rng = random.Random(5)
    letters = "abcdefghijklmnopqrstuvwxyz"
    typed = []
    word = "chocolate"
    for place in range(len(word)):
        letter = rng.choice(letters)
        typed.append(word[:place] + word[place + 1 :])
        typed.append(word[:place] + letter + word[place:])
        typed.append(word[:place] + letter + word[place + 1 :])
    typed += [
        word[:place] + word[place + 1] + word[place] + word[place + 2 :] for place in range(len(word) - 1)
    ]
    for wrong, found in zip(typed, correct(*typed), strict=True):
        assert wrong == word or found[0] == word, wrong


def test_two_errors_only_in_long_words():
    assert correct("hedphons", "headdphonez", "mlkk", "brd") == [["headphones", "headphone"]] * 2 + [[], []]


def test_the_more_frequent_word_is_likelier():
    assert correct("ilk")[0] == ["milk", "silk"]


def test_short_words_digits_and_unlike_ones_find_nothing():
    assert correct("a", "", "a2b", "zzzzzz", "手机壳", "y" * 30, "ac") == [[]] * 7
    number, _ = speller().correct(tf.zeros([0], tf.string))
    assert number.shape == (0, spelling.CANDIDATES)


def test_an_empty_vocabulary_corrects_nothing():
    made = spelling.Speller(spelling.build_spellings(np.zeros(0, object), np.zeros(0)))
    number, _ = made.correct(tf.constant(["milk"]))
    assert made.words(number).numpy().tolist() == [[b"", b"", b""]]


def test_distance_is_the_naive_one():
    rng = random.Random(2)
    left = ["".join(rng.choices("abc", k=rng.randint(0, 6))) for _ in range(60)]
    right = ["".join(rng.choices("abc", k=rng.randint(0, 6))) for _ in range(60)]
    found = spelling.edit_distance(tf.constant(left), tf.constant(right)).numpy()
    for one, other, distance in zip(left, right, found, strict=True):
        # a swap counts as one error only where it is the only one
        wanted = naive_distance(one, other)
        assert distance == wanted or (wanted > 1 and distance >= wanted), (one, other)
