"""How a query is read: its words, what may stand for them, what it says about the price.

Shapes: B queries, W words of the longest one, S = `lexical.WORDS` words that are looked up, E terms that
stand for a word, T terms.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models.search import text
from models.search.compounds import Splitter
from models.search.hashing import SortedKeys, key_array, keys
from models.search.lexical import TERMS, WORDS, Lexical
from models.search.spelling import CANDIDATES, Speller
from models.search.synonyms import OTHERS, SynonymLookup

# A correction that scores less is used, but the query is not shown as corrected: "yeezy" is no "breezy".
_SURE = -4.0
_LEAST = -6.5  # corrections that score less are not used at all
_JOINED = 0.9  # weight of "toothpaste" for the words "tooth paste"
assert 1 + 2 + CANDIDATES + OTHERS <= TERMS


@dataclasses.dataclass(frozen=True)
class ReadQuery:
    """A batch of queries as the search understands them.

    Attributes:
      clean: string [B], the query in one spelling.
      canonical: string [B], its terms without ignored words: equal queries have equal ones.
      display: string [B, W], its words, corrected; "" for padding.
      place: int32 [B, W], which of the S words each is, by descending informativeness; S for a word
        that is not looked up.
      term: int32 [B, S, E], T for none.
      weight: float32 [B, S, E].
      idf: float32 [B, S], informativeness; 0 in empty places.
      count: int32 [B], words that are looked up.
      lost: bool [B], whether a word is unknown and resembles none.
      corrected: bool [B], whether a word was replaced.
      blank: bool [B], whether there is no word at all.
      price: float32 [B, 2], least and most price that the query names, -1 for none.
    """

    clean: tf.Tensor
    canonical: tf.Tensor
    display: tf.Tensor
    place: tf.Tensor
    term: tf.Tensor
    weight: tf.Tensor
    idf: tf.Tensor
    count: tf.Tensor
    lost: tf.Tensor
    corrected: tf.Tensor
    blank: tf.Tensor
    price: tf.Tensor

    def joined(self, kept: tf.Tensor) -> tf.Tensor:
        """string [B], the words (bool [B, W]) that are kept, in the query's order."""
        some = tf.where(kept & (self.display != ""), self.display + " ", "")
        return tf.strings.strip(tf.strings.reduce_join(some, 1))


def clean_text(texts: tf.Tensor, price_words: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """(string [N], texts in one spelling without what they say of the price; float32 [N, 2] least and most
    price, -1 for none) of any bytes (string [N]).
    """
    folded = text.fold(texts)
    price = tf.fill([tf.size(texts), 2], -1.0)
    if price_words:
        price, folded = text.prices(folded)
    return text.letters(folded), price


def canonical(words: tf.Tensor, ignored: SortedKeys) -> tf.Tensor:
    """string [N], terms with a blank between them, without ignored words unless there are no others.

    Args:
      words: string [N, W], "" for padding.
      ignored: fingerprints of ignored words.
    """
    stems = tf.where(words != "", text.stem(words) + " ", "")
    kept = tf.where(ignored.find(keys(words))[1], "", stems)
    kept, whole = (tf.strings.strip(tf.strings.reduce_join(each, 1)) for each in (kept, stems))
    return tf.where(kept == "", whole, kept)


def ignored_words(words: list[str]) -> SortedKeys:
    """Fingerprints of words as queries have them."""
    clean = text.letters(text.fold(tf.constant(words, tf.string)))
    return SortedKeys(np.unique(key_array(np.asarray(text.words(clean).flat_values.numpy(), object))))


class QueryReader(tf.Module):
    """Reads queries.

    Args:
      lexical: looks terms up.
      speller: corrects words; None where words are taken as they are typed.
      splitter: takes words apart.
      synonyms: what stands for words.
      ignored: words that say nothing.
      price_words: whether the price is read.
    """

    def __init__(
        self,
        lexical: Lexical,
        speller: Speller | None,
        splitter: Splitter,
        synonyms: SynonymLookup,
        ignored: list[str],
        price_words: bool,
    ) -> None:
        super().__init__(name="query_reader")
        self._lexical, self._speller = lexical, speller
        self._splitter, self._synonyms = splitter, synonyms
        self._ignored = ignored_words(ignored)
        self._price_words = price_words

    @tf.Module.with_name_scope
    def __call__(self, query: tf.Tensor) -> ReadQuery:
        """Reads queries (string [B]), any bytes whatsoever."""
        clean, price = clean_text(query, self._price_words)
        typed = text.words(clean).to_tensor("")
        # one place at least, so that there is something to look up
        typed = tf.pad(typed, [[0, 0], [0, 1]], constant_values="")
        words, split = self._apart(typed)
        stems = text.stem(words)
        term = self._lexical.number(stems)
        others, others_weight = self._synonyms(stems)
        # a word that something stands for is no misspelling, though no item has it
        named = (term == self._lexical.terms) & tf.reduce_any(others < self._lexical.terms, 2)
        display, spelt, spelt_weight, corrected = self._spelling(words, term, named)
        joined = self._joined(words)
        every = tf.concat([term[..., None], joined, spelt, others], 2)
        weight = [tf.ones_like(term, tf.float32)[..., None], tf.fill(tf.shape(joined), _JOINED)]
        weight = tf.concat([*weight, spelt_weight, others_weight], 2)
        every = tf.where(_repeated(every), self._lexical.terms, every)
        value = tf.reduce_max(weight * self._lexical.idf(every), 2)
        spoken = words != ""
        known = tf.reduce_any(every < self._lexical.terms, 2)
        ignored = self._ignored.find(keys(words))[1] & spoken
        ignored &= tf.reduce_any(spoken & ~ignored & known, 1, keepdims=True)
        asked = spoken & ~ignored
        # pairs of characters that lie across two words are in no text, and nobody misses them
        apart = tf.strings.regex_full_match(words, rf"[{text.NO_BLANKS}]+")
        lost = tf.reduce_any(asked & ~known & ~apart, 1)
        return ReadQuery(
            clean=clean,
            canonical=canonical(typed, self._ignored),
            display=display,
            lost=lost,
            corrected=tf.reduce_any(corrected | split, 1),
            blank=~tf.reduce_any(spoken, 1),
            price=price,
            **self._looked_up(every, weight, tf.where(asked & known, value, -1.0)),
        )

    def _apart(self, typed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """string [B, W] words, where some were taken apart; bool [B, 1], whether some were."""
        unknown = (self._lexical.number(text.stem(typed)) == self._lexical.terms) & (typed != "")
        apart, split = self._splitter(typed, unknown)

        def again() -> tf.Tensor:
            joined = tf.strings.reduce_join(apart, 1, separator=" ")
            words = tf.strings.split(joined)[:, : text.QUERY_WORDS].to_tensor("")
            return tf.pad(words, [[0, 0], [0, 1]], constant_values="")

        words = tf.cond(tf.reduce_any(split), again, lambda: typed)
        return tf.ensure_shape(words, [None, None]), tf.reduce_any(split, 1, keepdims=True)

    def _joined(self, words: tf.Tensor) -> tf.Tensor:
        """int32 [B, W, 2]: the term that a word is together with the one before or after it."""
        both = (words[:, :-1] != "") & (words[:, 1:] != "")
        term = self._lexical.number(text.stem(words[:, :-1] + words[:, 1:]))
        term = tf.where(both, term, self._lexical.terms)
        ends = [[0, 0], [1, 0]], [[0, 0], [0, 1]]
        return tf.stack([tf.pad(term, end, constant_values=self._lexical.terms) for end in ends], 2)

    def _spelling(
        self, words: tf.Tensor, term: tf.Tensor, named: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Words as they may be meant.

        A word that the catalogue lacks becomes a blend of words that it has. One that it has, but
        seldom, may be a misspelling in the catalogue too: the frequent words that resemble it join it.

        Args:
          words: string [B, W].
          term: int32 [B, W].
          named: bool [B, W], words that are no misspellings.

        Returns:
          (string [B, W] words to show; int32 [B, W, CANDIDATES] terms; float32 weights; bool [B, W]).
        """
        shape = tf.shape(words)
        none = tf.fill([shape[0], shape[1], CANDIDATES], self._lexical.terms)
        nothing = words, none, tf.zeros_like(none, tf.float32), tf.zeros_like(words, tf.bool)
        if self._speller is None:
            return nothing
        own = tf.math.log1p(tf.cast(self._lexical.df(term), tf.float32))
        doubtful = (words != "") & (own < 1.2) & ~named  # in at most two items
        doubtful &= ~self._ignored.find(keys(words))[1]
        return tf.cond(
            tf.reduce_any(doubtful), lambda: self._corrected(words, term, own, doubtful), lambda: nothing
        )

    def _corrected(
        self, words: tf.Tensor, term: tf.Tensor, own: tf.Tensor, doubtful: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        number, score = self._speller.correct(tf.boolean_mask(words, doubtful))
        place = tf.where(doubtful)
        unknown = tf.gather_nd(term, place) == self._lexical.terms
        least = tf.where(unknown, _LEAST, tf.gather_nd(own, place))[:, None]
        used = (number < self._speller.size) & (score > least)
        best = tf.maximum(score[:, :1], least)
        weight = tf.where(used, tf.exp(score - best), 0.0)
        meant = self._speller.words(number)
        terms = tf.where(used, self._lexical.number(text.stem(meant)), self._lexical.terms)
        sure = unknown & used[:, 0] & (score[:, 0] > _SURE)
        shown = tf.where(sure, meant[:, 0], tf.gather_nd(words, place))
        shape = tf.shape(words, tf.int64)
        wide = tf.concat([shape, [CANDIDATES]], 0)
        return (
            tf.tensor_scatter_nd_update(words, place, shown),
            tf.tensor_scatter_nd_update(tf.fill(wide, self._lexical.terms), place, terms),
            tf.scatter_nd(place, weight, wide),
            tf.tensor_scatter_nd_update(tf.fill(shape, False), place, sure),
        )

    def _looked_up(self, term: tf.Tensor, weight: tf.Tensor, value: tf.Tensor) -> dict[str, tf.Tensor]:
        """The S most informative words (informativeness float32 [B, W], negative where there is none)."""
        width = tf.shape(value)[1]
        missing = [[0, 0], [0, tf.maximum(WORDS - width, 0)]]
        best, slot = tf.math.top_k(tf.pad(value, missing, constant_values=-1.0), WORDS)
        slot = tf.minimum(slot, width - 1)
        real = best >= 0
        # a word's rank among all is its place
        order = tf.argsort(value, 1, direction="DESCENDING", stable=True)
        place = tf.argsort(order, 1, stable=True)
        place = tf.where((value >= 0) & (place < WORDS), place, WORDS)
        return {
            "place": place,
            "term": tf.where(real[..., None], tf.gather(term, slot, batch_dims=1), self._lexical.terms),
            "weight": tf.gather(weight, slot, batch_dims=1) * tf.cast(real, tf.float32)[..., None],
            "idf": tf.maximum(best, 0.0),
            "count": tf.reduce_sum(tf.cast(real, tf.int32), 1),
        }


def _repeated(term: tf.Tensor) -> tf.Tensor:
    """bool [B, W, E]: terms that stand for their word already, further left."""
    same = tf.cast(term[..., None] == term[..., None, :], tf.int32)
    return tf.reduce_sum(tf.linalg.band_part(same, -1, 0), -1) > 1
