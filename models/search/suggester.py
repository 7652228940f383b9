"""Completions of what a shopper types."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.search import text
from models.search.facets import coded
from models.search.hashing import SortedKeys, key_array, keys
from models.search.index import SearchIndex
from models.search.phrases import INNER_COST, LONGEST_PREFIX, PER_PREFIX
from models.search.spelling import Speller
from schema.config import Search

_CORRECTED_COST = 2.0  # of log popularity, for completions of a corrected beginning
_HEAD_COST = 4.0  # for completions of the last word alone
_LEAST = -6.0  # corrections that score less are not used
_NOTHING = -1e9


class Suggester(tf.Module):
    """Completes prefixes with phrases of the catalogue and of the log.

    Args:
      index: the tables.
      settings: the configuration's section.

    Attributes:
      categories: the names that `affinity` is aligned with ([""] without categories).
    """

    def __init__(self, index: SearchIndex, settings: Search) -> None:
        super().__init__(name="suggester")
        phrases, suggest = index.phrases, settings.suggest
        self._size = len(phrases.phrase)
        self._default_k, self._max_k, self._affinity = suggest.default_k, suggest.max_k, suggest.affinity
        self._phrase = frozen_table([*phrases.phrase, ""], tf.string, "phrase")
        self._score = frozen_table([*phrases.score, _NOTHING], tf.float32)
        self._category = frozen_table([*phrases.category, 0], tf.int32)
        self._share = frozen_table([*phrases.category_share, 0], tf.float32)
        self._keys = SortedKeys(phrases.key)
        self._owner = frozen_table([*phrases.owner, self._size], tf.int32)
        self._inner = frozen_table([*phrases.inner, False], tf.bool)
        self._speller = Speller(index.word_starts)
        self._starts = SortedKeys(np.sort(key_array(index.word_starts.word)))
        codes, names = coded(index.catalogue.category, index.count)
        self._item_category = frozen_table(codes, tf.int32)
        self.categories = tuple(names.tolist())

    @tf.Module.with_name_scope
    def affinity(self, position: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """float32 [B, categories], shares of each category in what a user has had.

        Args:
          position: int32 [B, M], candidate positions, C for empty.
          weight: float32 [B, M], at least 0.
        """
        code = tf.gather(self._item_category, position)
        batch, size = tf.shape(position)[0], len(self.categories)
        flat = tf.reshape(code + (tf.range(batch) * size)[:, None], [-1])
        mass = tf.math.unsorted_segment_sum(tf.reshape(weight, [-1]), flat, batch * size)
        mass = tf.reshape(mass, [batch, size]) * tf.cast(tf.range(size) > 0, tf.float32)
        return tf.math.divide_no_nan(mass, tf.reduce_sum(mass, 1, keepdims=True))

    @tf.Module.with_name_scope
    def __call__(
        self, prefix: tf.Tensor, k: tf.Tensor, affinity: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The likeliest completions.

        Args:
          prefix: string [B], any bytes whatsoever.
          k: int32 [B], how many; 0 or less is the shop's default.
          affinity: float32 [B, categories], or None.

        Returns:
          (completion string [B, K], score float32 [B, K]), best first; scores of a request add up to 1;
          "" and 0 beyond a request's k and where there are fewer.
        """
        k = tf.minimum(tf.where(k > 0, k, self._default_k), self._max_k)
        typed = _typed(prefix)
        whole = self._found(typed, affinity)
        enough = tf.reduce_sum(tf.cast(whole[0] < self._size, tf.int32), 1) >= k

        def more() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            corrected = self._corrected(typed)
            again = self._found(tf.where(enough, "", corrected), affinity, _CORRECTED_COST)
            # "red choco" as "red" and what "choco" begins
            head = tf.strings.regex_replace(corrected, r"[^ ]+ ?$", "")
            last = tf.strings.substr(corrected, tf.strings.length(head), tf.strings.length(corrected))
            tail = self._found(tf.where(enough | (head == ""), "", last), affinity, _HEAD_COST, False)
            parts = [whole, again, tail]
            before = [tf.zeros_like(part[0], tf.int32) for part in parts[:2]] + [tf.ones_like(tail[0])]
            heads = tf.where(tf.concat(before, 1) > 0, head[:, None], "")
            return (*(tf.concat(columns, 1) for columns in zip(*parts, strict=True)), heads)

        def only() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return *whole, tf.fill(tf.shape(whole[0]), "")

        number, score, head = tf.cond(tf.reduce_all(enough | (typed == "")), only, more)
        completion = tf.where(number < self._size, head + tf.gather(self._phrase, number), "")
        score = tf.where(_repeated(completion), _NOTHING, score)
        places = tf.maximum(tf.reduce_max(k), 0)
        missing = tf.maximum(places - tf.shape(score)[1], 0)
        score = tf.pad(score, [[0, 0], [0, missing]], constant_values=_NOTHING)
        completion = tf.pad(completion, [[0, 0], [0, missing]], constant_values="")
        score, slot = tf.math.top_k(score, places)
        real = (score > _NOTHING / 2) & (tf.range(places) < k[:, None])
        completion = tf.where(real, tf.gather(completion, slot, batch_dims=1), "")
        return completion, tf.where(real, tf.nn.softmax(tf.where(real, score, _NOTHING)), 0.0)

    def _found(
        self, typed: tf.Tensor, affinity: tf.Tensor | None, cost: float = 0.0, within: bool = True
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(int32 [B, PER_PREFIX] phrases, float32 scores) that beginnings (string [B]) lead to; `within`:
        also those of later words.
        """
        start, end = self._keys.run(keys(tf.strings.substr(typed, 0, LONGEST_PREFIX, unit="UTF8_CHAR")))
        end = tf.where(typed == "", start, end)
        entry = start[:, None] + tf.range(PER_PREFIX)
        entry = tf.where(entry < end[:, None], entry, self._keys.size)
        number, inner = tf.gather(self._owner, entry), tf.gather(self._inner, entry)
        flat = tf.reshape(tf.gather(self._phrase, number), [-1])
        size = tf.repeat(tf.strings.length(typed), PER_PREFIX)
        begins = tf.strings.substr(flat, tf.zeros_like(size), size) == tf.repeat(typed, PER_PREFIX)
        begins = tf.reshape(begins, tf.shape(number)) & ~inner
        number = tf.where(begins | inner if within else begins, number, self._size)
        score = tf.gather(self._score, number) - INNER_COST * tf.cast(inner, tf.float32) - cost
        if affinity is not None:
            share = tf.gather(affinity, tf.gather(self._category, number), batch_dims=1)
            # a user who buys nothing else lifts a phrase as a hundred times its popularity would
            score += self._affinity * tf.math.log1p(99.0 * share * tf.gather(self._share, number))
        return number, score

    def _corrected(self, typed: tf.Tensor) -> tf.Tensor:
        """string [B], beginnings whose misspelt words are replaced."""
        words = tf.strings.split(typed)
        flat = words.flat_values
        unknown = ~self._starts.find(keys(flat))[1]
        number, score = self._speller.correct(tf.where(unknown, flat, ""))
        better = unknown & (score[:, 0] > _LEAST)
        flat = tf.where(better, self._speller.words(number[:, 0]), flat)
        return tf.strings.reduce_join(words.with_values(flat), 1, separator=" ")


def _typed(prefix: tf.Tensor) -> tf.Tensor:
    """string [B], beginnings as phrases have them; a blank at the end says that the word is whole."""
    clean = text.letters(text.fold(prefix))
    ended = tf.strings.regex_full_match(text.valid(prefix), r".*\s") & (clean != "")
    return tf.where(ended, clean + " ", clean)


def _repeated(completion: tf.Tensor) -> tf.Tensor:
    """bool [B, M], completions that stand further left already."""
    same = tf.cast(completion[..., None] == completion[:, None], tf.int32)
    return tf.reduce_sum(tf.linalg.band_part(same, -1, 0), -1) > 1
