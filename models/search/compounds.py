"""Words written together or apart: "dogfood" for "dog food", "tooth paste" for "toothpaste"."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.search.hashing import SortedKeys, key_array, keys
from models.search.tokens import Tokens, factor_counts

_MOST = 50_000  # neighbouring words that are kept, the most frequent ones
_LEAST_ITEMS = 2  # that must have them as neighbours


@dataclasses.dataclass(frozen=True)
class Compounds:
    """Neighbouring words of the catalogue.

    Attributes:
      key: int64 [P], fingerprints of both words without a blank, ascending.
      apart: object (str) [P], the words with a blank.
    """

    key: np.ndarray
    apart: np.ndarray


def build_compounds(tokens: Tokens, words: np.ndarray) -> Compounds:
    """The neighbours in one field.

    Args:
      tokens: the field's words.
      words: object (str), the vocabulary.
    """
    item = tokens.item
    together = item[:-1] == item[1:]
    plain = np.asarray([word.isalpha() and len(word) > 1 for word in words], bool)
    left, right = tokens.word[:-1][together], tokens.word[1:][together]
    fits = plain[left] & plain[right]
    (left, right), count = factor_counts(left[fits], right[fits])
    best = np.argsort(-count, kind="stable")[:_MOST]
    best = best[count[best] >= _LEAST_ITEMS]
    left, right = words[left[best]], words[right[best]]
    key, first = np.unique(key_array(left + right), return_index=True)
    return Compounds(key, (left + " " + right)[first])


class Splitter(tf.Module):
    """Takes words apart that the catalogue has apart.

    Args:
      compounds: the tables.
    """

    def __init__(self, compounds: Compounds) -> None:
        super().__init__(name="splitter")
        self._keys = SortedKeys(compounds.key)
        self._apart = frozen_table(np.asarray([*compounds.apart, ""], object), tf.string)

    def __call__(self, words: tf.Tensor, unknown: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(string, words with a blank in those that were taken apart; bool, which those are).

        Args:
          words: string, any shape.
          unknown: bool, of the same shape: only these are looked at.
        """
        entry, known = self._keys.find(keys(words))
        split = known & unknown
        return tf.where(split, tf.gather(self._apart, tf.where(split, entry, self._keys.size)), words), split
