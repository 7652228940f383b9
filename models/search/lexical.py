"""BM25F in the graph: scores of all items for one query, and what the words say of chosen pairs.

Shapes: B queries, S words of a query, E terms that stand for a word (itself, corrections, synonyms),
C items, N items of a list, F fields, T terms.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models.data.frozen import frozen_table
from models.search.hashing import SortedKeys, keys
from models.search.postings import SHORT_LIST, Postings

# Words of a query that are looked up, the most informative ones, and terms for each. A word has four bits
# of an int64 in which the terms are counted that an item has of it; the last four are the price's.
WORDS = 15
TERMS = 15
_MOST_POSTINGS = 262_144  # of a query that are read, unless it has many rare terms
WORD_BITS = 4


@dataclasses.dataclass(frozen=True)
class Details:
    """What the words of queries say of listed items.

    Attributes:
      total: float32 [B, N], BM25F.
      by_field: float32 [B, N, F], BM25 of each field alone.
      covered: bool [B, S, N], whether the item has the word.
      covered_by_field: bool [B, S, N, F].
      field_share: float32 [B, N, F], share of the field's distinct terms that the query has.
    """

    total: tf.Tensor
    by_field: tf.Tensor
    covered: tf.Tensor
    covered_by_field: tf.Tensor
    field_share: tf.Tensor


class Lexical(tf.Module):
    """Looks terms up and scores items.

    Args:
      postings: the tables.
      count: C.

    Attributes:
      terms: T; also the number that stands for no term.
      fields: F.
    """

    def __init__(self, postings: Postings, count: int) -> None:
        super().__init__(name="lexical")
        self.terms, self.count = len(postings.term), count
        self.fields = postings.field_impact.shape[1]
        self._keys = SortedKeys(postings.term_key)
        self._idf = frozen_table(np.append(postings.idf, 0), tf.float32)
        # term T has no postings
        df = np.append(np.diff(postings.start), 0)
        self._df = frozen_table(df, tf.int32)
        self._start = frozen_table(np.append(postings.ranked_start, 0), tf.int32)
        self._position = frozen_table(postings.position, tf.int32)
        self._impact = frozen_table(postings.impact, tf.float16)
        size = len(postings.field_impact)
        owner = np.repeat(np.arange(self.terms, dtype=np.int64), np.diff(postings.start))
        self._pair = SortedKeys(owner * count + postings.position[:size])
        # one row more, of zeros, for pairs that do not occur
        none = np.zeros((1, self.fields), np.float16)
        self._field_impact = frozen_table(np.concatenate([postings.field_impact, none]), tf.float16)
        self._pair_impact = frozen_table(np.append(postings.impact[:size], np.float16(0)), tf.float16)
        self._field_terms = frozen_table(
            np.concatenate([postings.field_terms, np.ones((1, self.fields))]), tf.float32
        )

    def number(self, stems: tf.Tensor) -> tf.Tensor:
        """int32, the term of each stem (string), T where the catalogue lacks it."""
        entry, known = self._keys.find(keys(stems))
        return tf.where(known, entry, self.terms)

    def idf(self, term: tf.Tensor) -> tf.Tensor:
        """float32 of int32; 0 for T."""
        return tf.gather(self._idf, term)

    def df(self, term: tf.Tensor) -> tf.Tensor:
        """int32, items that have the term; 0 for T."""
        return tf.gather(self._df, term)

    def scores(self, term: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """BM25F of every item for one query; the work is bounded.

        Where terms have more than `SHORT_LIST` postings each and all together more than 262,144, only
        the best of them are read.

        Args:
          term: int32 [S, E], T for none.
          weight: float32 [S, E].

        Returns:
          (float32 [C]; int64 [C], the terms of word s that the item has, counted in bits 4s to 4s + 3).
        """
        flat = tf.reshape(term, [-1])
        wanted = tf.where(flat < self.terms)[:, 0]
        flat = tf.gather(flat, wanted)
        word = tf.cast(wanted // tf.shape(term, tf.int64)[1], tf.int64)
        factor = tf.gather(tf.reshape(weight, [-1]), wanted) * self.idf(flat)
        most = tf.maximum(_MOST_POSTINGS // tf.maximum(tf.size(flat), 1), SHORT_LIST)
        start, size = tf.gather(self._start, flat), tf.minimum(self.df(flat), most)
        entry = tf.ragged.range(start, start + size).flat_values
        owner = tf.repeat(tf.range(tf.size(flat)), size)
        position = tf.gather(self._position, entry)
        impact = tf.cast(tf.gather(self._impact, entry), tf.float32) * tf.gather(factor, owner)
        bit = tf.bitwise.left_shift(tf.ones_like(word), WORD_BITS * word)
        return (
            tf.math.unsorted_segment_sum(impact, position, self.count),
            tf.math.unsorted_segment_sum(tf.gather(bit, owner), position, self.count),
        )

    def details(self, term: tf.Tensor, weight: tf.Tensor, position: tf.Tensor) -> Details:
        """What the words say of listed items.

        Args:
          term: int32 [B, S, E], T for none.
          weight: float32 [B, S, E].
          position: int32 [B, N], C for an empty slot.
        """
        batch, words = tf.shape(term)[0], tf.shape(term)[1]
        # most places of E are empty: only the others, A of them, are looked up
        wanted = tf.where(term < self.terms)
        query = tf.cast(wanted[:, 0], tf.int32)
        word = query * words + tf.cast(wanted[:, 1], tf.int32)
        which = tf.gather_nd(term, wanted)
        factor = (tf.gather_nd(weight, wanted) * self.idf(which))[:, None]
        listed = tf.gather(position, query)  # [A, N]
        pair = tf.cast(which, tf.int64)[:, None] * self.count + tf.cast(listed, tf.int64)
        entry, has = self._pair.find(tf.where(listed < self.count, pair, -1))
        entry = tf.where(has, entry, self._pair.size)
        total = factor * tf.cast(tf.gather(self._pair_impact, entry), tf.float32)
        impact = tf.cast(tf.gather(self._field_impact, entry), tf.float32)  # [A, N, F]
        occurs = tf.cast(impact > 0, tf.float32)
        by_word = tf.math.unsorted_segment_sum(occurs, word, batch * words) > 0
        by_word = tf.reshape(by_word, [batch, words, -1, self.fields])
        matched = tf.math.unsorted_segment_sum(occurs, query, batch)
        return Details(
            total=tf.math.unsorted_segment_sum(total, query, batch),
            by_field=tf.math.unsorted_segment_sum(factor[..., None] * impact, query, batch),
            covered=tf.reduce_any(by_word, -1),
            covered_by_field=by_word,
            field_share=tf.minimum(matched / tf.maximum(tf.gather(self._field_terms, position), 1.0), 1.0),
        )
