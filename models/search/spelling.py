"""Misspelt words: those of the catalogue from which they differ by a letter or two.

Words are found by what remains of them when letters are left out, after Garbe's symmetric delete
algorithm ("SymSpell", 2012; Bocek, Hunt and Stiller, "Fast similarity search in large dictionaries", 2007):
two words that differ by one letter put in, left out, replaced or swapped have a remainder in common when
each loses at most one letter, or two letters where they are long. The true distance is computed
afterwards: Levenshtein's, with swapped neighbours as one error (Damerau, CACM 1964).

A candidate c for a typed word w scores log P(c) + log P(w | c): `log(1 + items that have c)` against a
fixed cost of each error (the noisy channel of Kernighan, Church and Gale, COLING 1990).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.search.hashing import SortedKeys, keys

CANDIDATES = 3  # words that may replace one
_SHORTEST, _LONGEST = 3, 20  # characters of words that are corrected
_TWO_FROM = 7  # characters from which a word may have two errors
_TWO_WORDS = 20_000  # words of the vocabulary that may lack two letters, the most frequent ones
_PER_KEY = 12  # words kept for each remainder, the most frequent ones
_COMPARED = 48  # words whose distance is computed
_MOST_WORDS = 200_000  # of the vocabulary that corrections may be
_ERROR_COST = 3.5  # of log frequency, for each error
_FIRST_COST = 1.5  # more, where the first letters differ
_MARK = "\x01"  # ends a word, so that a position behind its last letter exists
_NONE = -1e9


@dataclasses.dataclass(frozen=True)
class Spellings:
    """Words and their remainders. W words, R remainders.

    Attributes:
      word: object (str) [W], by descending frequency.
      frequency: float32 [W], items that have the word.
      key: int64 [R], fingerprints of remainders, ascending.
      owner: int32 [R], the word of each remainder.
    """

    word: np.ndarray
    frequency: np.ndarray
    key: np.ndarray
    owner: np.ndarray


def build_spellings(words: np.ndarray, frequency: np.ndarray) -> Spellings:
    """The tables of a vocabulary.

    Args:
      words: object (str) [N], distinct.
      frequency: float [N], items that have each.
    """
    size = np.asarray([len(word) for word in words], np.int64)
    letters = np.asarray([word.isalpha() for word in words], bool)
    fits = np.flatnonzero((size >= _SHORTEST) & (size <= _LONGEST) & letters & (frequency > 0))
    order = fits[np.argsort(-frequency[fits], kind="stable")][:_MOST_WORDS]
    word = words[order]
    marked = tf.constant([each + _MARK for each in word], tf.string)
    every = np.arange(len(word))
    long = every[size[order] >= _TWO_FROM][:_TWO_WORDS]
    parts = [(marked, every), _shorter(marked, every)]
    parts.append(_shorter(*_shorter(tf.gather(marked, long), long)))
    key = np.concatenate([keys(strings).numpy() for strings, _ in parts])
    owner = np.concatenate([whose for _, whose in parts])
    # equal remainders of a word: "aab" without either a, and two letters left out in either order
    joined = np.unique(np.stack([key, owner], 1), axis=0) if len(key) else np.zeros((0, 2), np.int64)
    key, owner = joined[:, 0], joined[:, 1]  # within a key by descending frequency
    rank = np.arange(len(key)) - np.searchsorted(key, key, "left")
    kept = rank < _PER_KEY
    return Spellings(word, frequency[order].astype(np.float32), key[kept], owner[kept].astype(np.int32))


def _shorter(marked: tf.Tensor, owner: np.ndarray) -> tuple[tf.Tensor, np.ndarray]:
    """Words (string [N], with their mark) that have lost one letter, and whose (int [N]) each is."""
    shorter = _without_one(marked)
    return shorter.flat_values, np.repeat(owner, shorter.row_lengths())


def _without_one(marked: tf.Tensor) -> tf.RaggedTensor:
    """Ragged string [N, letters]: words, with their mark, that have lost one letter."""
    size = tf.strings.length(marked, unit="UTF8_CHAR") - 1
    place = tf.ragged.range(size)
    owner = place.value_rowids()
    flat = tf.gather(marked, owner)
    place_flat = place.flat_values
    left = tf.strings.substr(flat, tf.zeros_like(place_flat), place_flat, unit="UTF8_CHAR")
    right = tf.strings.substr(
        flat, place_flat + 1, tf.fill(tf.shape(place_flat), _LONGEST + 1), unit="UTF8_CHAR"
    )
    return place.with_values(left + right)


class Speller(tf.Module):
    """Finds what a misspelt word may mean.

    Args:
      spellings: the tables.

    Attributes:
      size: W; also the number that stands for no word.
    """

    def __init__(self, spellings: Spellings) -> None:
        super().__init__(name="speller")
        self.size = len(spellings.word)
        self._word = frozen_table(np.asarray([*spellings.word, ""], object), tf.string)
        self._log = frozen_table(np.append(np.log1p(spellings.frequency), 0), tf.float32)
        self._keys = SortedKeys(spellings.key)
        self._owner = frozen_table(np.append(spellings.owner, self.size), tf.int32)

    def words(self, number: tf.Tensor) -> tf.Tensor:
        """string, the words of numbers (int32); "" for W."""
        return tf.gather(self._word, number)

    def log_frequency(self, number: tf.Tensor) -> tf.Tensor:
        """float32, log(1 + items) of numbers (int32)."""
        return tf.gather(self._log, number)

    def correct(self, typed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The likeliest words of the catalogue.

        Args:
          typed: string [U], distinct or not; words that are too short, too long or have digits find
            nothing. Only the first `_LONGEST` characters of each are looked at.

        Returns:
          (int32 [U, CANDIDATES], best first, W where there are fewer; float32 [U, CANDIDATES], scores
          in units of log frequency, very low where there is no word).
        """
        size = tf.strings.length(typed, unit="UTF8_CHAR")
        fits = (size >= _SHORTEST) & (size <= _LONGEST) & tf.strings.regex_full_match(typed, r"\pL+")
        typed = tf.where(fits, typed, "")
        remainder = self._remainders(typed, size)
        start, end = self._keys.run(keys(remainder.flat_values))
        start = tf.where(remainder.flat_values == _MARK, end, start)
        found = tf.ragged.range(start, end)
        number = remainder.with_values(found.with_values(tf.gather(self._owner, found.flat_values)))
        number = number.merge_dims(1, 2)[:, : 4 * _COMPARED].to_tensor(self.size)
        number = tf.pad(number, [[0, 0], [0, CANDIDATES]], constant_values=self.size)
        number = self._frequent(number)
        best, slot = tf.math.top_k(self._score(typed, number), CANDIDATES)
        return tf.where(best > _NONE / 2, tf.gather(number, slot, batch_dims=1), self.size), best

    def _remainders(self, typed: tf.Tensor, size: tf.Tensor) -> tf.RaggedTensor:
        """Ragged string [U, any]: the words, and without one letter, long ones also without two."""
        marked = typed + _MARK
        one = _without_one(marked)
        long = tf.ragged.boolean_mask(one, _rows(size >= _TWO_FROM, one))
        two = _without_one(long.flat_values)
        two = long.with_values(two).merge_dims(1, 2)
        return tf.concat([tf.RaggedTensor.from_tensor(marked[:, None]), one, two], 1)

    def _frequent(self, number: tf.Tensor) -> tf.Tensor:
        """int32 [U, M]: distinct words out of numbers (int32 [U, any]); the lowest are the most frequent."""
        number = tf.sort(number, axis=1)
        repeated = tf.concat([tf.zeros_like(number[:, :1], tf.bool), number[:, 1:] == number[:, :-1]], 1)
        return tf.sort(tf.where(repeated, self.size, number), axis=1)[:, :_COMPARED]

    def _score(self, typed: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """float32 [U, M], how likely typed words (string [U]) mean words (int32 [U, M])."""
        shape = tf.shape(number)
        word = tf.reshape(self.words(number), [-1])
        repeated = tf.repeat(typed, shape[1])
        distance = tf.reshape(edit_distance(repeated, word), shape)
        first = tf.strings.substr(repeated, 0, 1, unit="UTF8_CHAR") != tf.strings.substr(
            word, 0, 1, unit="UTF8_CHAR"
        )
        cost = _ERROR_COST * distance + _FIRST_COST * tf.cast(tf.reshape(first, shape), tf.float32)
        # two errors in a short word leave too little of it
        length = tf.strings.length(typed, unit="UTF8_CHAR")[:, None]
        most = tf.where(length >= _TWO_FROM, 2.0, 1.0)
        real = (number < self.size) & (distance <= most) & (distance > 0)
        return tf.where(real, self.log_frequency(number) - cost, _NONE)


def _rows(condition: tf.Tensor, like: tf.RaggedTensor) -> tf.RaggedTensor:
    """Ragged bool of the shape of `like`: a row's condition (bool [N]) for each of its values."""
    return like.with_values(tf.gather(condition, like.value_rowids()))


def edit_distance(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """float32 [N]: letters to put in, leave out or replace between words (string [N] each); two
    neighbours that have changed places count as one error.
    """
    # the op refuses lists of nothing: a word more, and a mark at the end of each
    count = tf.size(left)
    left, right = (tf.concat([words, [""]], 0) + _MARK for words in (left, right))
    letters = [tf.strings.unicode_split(words, "UTF-8") for words in (left, right)]
    distance = tf.edit_distance(letters[0].to_sparse(), letters[1].to_sparse(), normalize=False)
    dense = [each.to_tensor("", shape=[None, _LONGEST + 2]) for each in letters]
    differ = dense[0] != dense[1]
    crossed = (dense[0][:, :-1] == dense[1][:, 1:]) & (dense[0][:, 1:] == dense[1][:, :-1])
    swapped = tf.reduce_any(crossed & differ[:, :-1], 1) & (tf.reduce_sum(tf.cast(differ, tf.int32), 1) == 2)
    return tf.where(swapped, 1.0, distance)[:count]
