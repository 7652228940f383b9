"""The words of all texts of a catalogue, as columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pandas as pd
import tensorflow as tf

from models.search import text
from models.search.hashing import keys

_BATCH = 1024  # texts that are read at a time
_PHRASE = "_"  # between the terms of a phrase; never within a word


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The words of one field, item after item.

    Attributes:
      start: int64 [C + 1], where each item's tokens begin.
      word: int32, index in the vocabulary of words.
    """

    start: np.ndarray
    word: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """int64 [C], tokens of each item."""
        return np.diff(self.start)

    @property
    def item(self) -> np.ndarray:
        """int32, the item of each token."""
        return np.repeat(np.arange(len(self.start) - 1, dtype=np.int32), self.length)


class Vocabulary:
    """Distinct strings, collected batch by batch and numbered in the order in which they came."""

    def __init__(self) -> None:
        self._index = pd.Index(np.zeros(0, np.int64))
        self._strings: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._index)

    @property
    def keys(self) -> np.ndarray:
        """int64 [size], the fingerprint of each string."""
        return self._index.to_numpy()

    @property
    def strings(self) -> np.ndarray:
        """object (str) [size]."""
        return np.concatenate(self._strings) if self._strings else np.zeros(0, object)

    def number(self, strings: tf.Tensor) -> np.ndarray:
        """int32 [N], the numbers of strings (string [N]), new ones added."""
        found, first, back = np.unique(keys(strings).numpy(), return_index=True, return_inverse=True)
        place = self._index.get_indexer(found)
        new = place < 0
        if new.any():
            place[new] = len(self) + np.arange(new.sum())
            self._index = self._index.append(pd.Index(found[new]))
            raw = tf.gather(strings, first[new]).numpy()
            self._strings.append(np.asarray([word.decode() for word in raw], object))
        return place[back].astype(np.int32)


def read_fields(
    fields: dict[str, np.ndarray], phrases: Iterable[str] = ()
) -> tuple[dict[str, Tokens], np.ndarray]:
    """Reads the texts of all fields.

    Args:
      fields: name -> object (str) [C].
      phrases: terms joined by "_" that are words of their own where they follow each other.

    Returns:
      (name -> tokens; object (str), the words).
    """
    vocabulary = Vocabulary()
    wanted = np.asarray(sorted(keys(tf.constant(list(phrases), tf.string)).numpy().tolist()), np.int64)
    tokens = {name: _read(texts, vocabulary, wanted) for name, texts in fields.items()}
    return tokens, vocabulary.strings


def _read(texts: np.ndarray, vocabulary: Vocabulary, phrases: np.ndarray) -> Tokens:
    # many shops give many items one text
    place, distinct = pd.factorize(texts.astype(object))
    size, word = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for start in range(0, len(distinct), _BATCH):
        batch = tf.constant(list(distinct[start : start + _BATCH]), tf.string)
        found = text.text_words(batch)
        if len(phrases):
            found = tf.concat([found, phrases_in(found, phrases)], 1)
        size.append(found.row_lengths().numpy())
        word.append(vocabulary.number(found.flat_values))
    sizes, words = np.concatenate(size), np.concatenate(word)
    first = np.cumsum(sizes) - sizes
    length = sizes[place]
    start = np.concatenate([[0], np.cumsum(length)])
    index = np.arange(start[-1]) + np.repeat(first[place] - start[:-1], length)
    return Tokens(start, words[index])


def phrases_in(words: tf.RaggedTensor, phrases: np.ndarray) -> tf.RaggedTensor:
    """The phrases of two and three terms (keys int64, ascending) that occur among words."""
    stems = tf.ragged.map_flat_values(text.stem, words)
    grams = tf.strings.ngrams(stems, (2, 3), separator=_PHRASE)
    known = tf.ragged.map_flat_values(lambda flat: tf.constant(np.isin(keys(flat).numpy(), phrases)), grams)
    return tf.ragged.boolean_mask(grams, known)


def factor_counts(*columns: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Distinct rows of equally long int columns, sorted by the first column, then the second.

    Returns:
      (the columns of the distinct rows; int64, how often each occurs).
    """
    size = [int(column.max(initial=0)) + 1 for column in columns]
    joined = np.zeros(len(columns[0]), np.int64)
    for column, base in zip(columns, size, strict=True):
        joined = joined * base + column
    distinct, count = np.unique(joined, return_counts=True)
    parts = []
    for base in reversed(size):
        parts.append((distinct % base).astype(np.int32))
        distinct = distinct // base
    return parts[::-1], count
