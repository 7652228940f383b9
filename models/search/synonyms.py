"""Words that stand for others: the shop's own groups, and pairs that behaviour suggests.

A phrase of two or three words ("soft drink") is a term of its own, written "soft_drink", of the items
that have it; see `models.search.tokens`.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.search import text
from models.search.catalogue import SynonymTable
from models.search.hashing import SortedKeys, key_array, keys
from schema.config import Search

OTHERS = 4  # terms that stand for a word, the strongest ones
_PHRASE = "_"
_LONGEST = 3  # terms of a phrase


@dataclasses.dataclass(frozen=True)
class Synonyms:
    """Words and phrases with what stands for them. G of them.

    Attributes:
      key: int64 [G], fingerprints of terms and phrases, ascending.
      other: int32 [G, OTHERS], numbers of terms; T where there are fewer.
      weight: float32 [G, OTHERS].
    """

    key: np.ndarray
    other: np.ndarray
    weight: np.ndarray


class Pairs:
    """All pairs of terms that the settings and the table give.

    Args:
      settings: groups of synonyms.
      table: pairs by behaviour, or None.

    Attributes:
      weight: term -> other term -> the largest weight; phrases are joined by "_".
    """

    def __init__(self, settings: Search, table: SynonymTable | None) -> None:
        self.weight: dict[str, dict[str, float]] = collections.defaultdict(dict)
        members = [as_terms(np.asarray(group, object)) for group in settings.synonyms]
        for group in members:
            for word, other in itertools.permutations(group, 2):
                self._add(word, other, settings.synonym_weight)
        if table is not None:
            for word, other, weight in zip(
                as_terms(table.word), as_terms(table.other), table.weight, strict=True
            ):
                self._add(word, other, float(weight))

    def _add(self, word: str, other: str, weight: float) -> None:
        short = max(word.count(_PHRASE), other.count(_PHRASE)) < _LONGEST
        if word and other and word != other and short:
            self.weight[word][other] = max(weight, self.weight[word].get(other, 0.0))

    def learn(self, words: Iterable[str], others: Iterable[str], weights: Iterable[float]) -> None:
        """Adds pairs of single terms, in the direction word -> other."""
        for word, other, weight in zip(words, others, weights, strict=True):
            self._add(word, other, weight)

    @property
    def phrases(self) -> list[str]:
        """The phrases among all terms."""
        return sorted({other for others in self.weight.values() for other in others if _PHRASE in other})

    def numbered(self, number: dict[str, int]) -> Synonyms:
        """The tables, without terms that no item has.

        Args:
          number: term -> its number in the postings.
        """
        word = np.asarray(list(self.weight), object)
        key = key_array(word)
        other = np.full((len(word), OTHERS), len(number), np.int32)
        weight = np.zeros((len(word), OTHERS), np.float32)
        for place, others in enumerate(self.weight.values()):
            known = sorted(((value, name) for name, value in others.items() if name in number), reverse=True)[
                :OTHERS
            ]
            other[place, : len(known)] = [number[name] for _, name in known]
            weight[place, : len(known)] = [value for value, _ in known]
        order = np.argsort(key)
        return Synonyms(key[order], other[order], weight[order])


def as_terms(strings: np.ndarray) -> list[str]:
    """The terms of words and phrases (object (str) [N]), joined by "_"; "" where one has no words."""
    found = text.terms(tf.constant(strings, tf.string))
    return [row.decode() for row in tf.strings.reduce_join(found, 1, separator=_PHRASE).numpy()]


class SynonymLookup(tf.Module):
    """Finds what stands for the words and phrases of queries.

    Args:
      synonyms: the tables.
      terms: T.
    """

    def __init__(self, synonyms: Synonyms, terms: int) -> None:
        super().__init__(name="synonyms")
        self.size = len(synonyms.key)
        self._keys = SortedKeys(synonyms.key)
        nothing = np.full((1, OTHERS), terms, np.int32)
        self._other = frozen_table(np.concatenate([synonyms.other, nothing]), tf.int32)
        self._weight = frozen_table(np.concatenate([synonyms.weight, np.zeros((1, OTHERS))]), tf.float32)

    def __call__(self, stems: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(int32 [B, W, OTHERS] terms, float32 [B, W, OTHERS] weights) of stems (string [B, W], "" for
        padding): of the longest phrase that a word is part of, or else of the word.
        """
        entry = self._entry(stems)
        joined = stems
        for length in range(1, _LONGEST):
            # the phrase that begins with each word, found again at each of its words
            joined = joined[:, :-1] + _PHRASE + stems[:, length:]
            found = self._entry(joined)
            for place in range(length + 1):
                shifted = tf.pad(found, [[0, 0], [place, length - place]], constant_values=self.size)
                shifted = shifted[:, : tf.shape(stems)[1]]
                entry = tf.where(shifted < self.size, shifted, entry)
        return tf.gather(self._other, entry), tf.gather(self._weight, entry)

    def _entry(self, strings: tf.Tensor) -> tf.Tensor:
        entry, known = self._keys.find(keys(strings))
        return tf.where(known, entry, self.size)
