"""The phrases that complete what a shopper types, by every beginning that leads to them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import tensorflow as tf

from models.search import text
from models.search.catalogue import QueryLog, SearchCatalogue
from models.search.facets import coded
from models.search.hashing import keys
from models.search.spelling import Spellings, build_spellings
from models.search.tokens import Vocabulary, factor_counts
from schema.config import Search

LONGEST_PREFIX = 24  # characters of a beginning that are a key; longer ones share it
PER_PREFIX = 24  # phrases kept for each beginning, the most popular ones
INNER_COST = 1.5  # of log popularity, for phrases of which a later word is typed
_INNER_PREFIX = 12  # characters of a beginning at a later word
_LOG_WEIGHT = 4.0  # a logged query counts as much as this many items of the catalogue
_WORD_START = 10  # characters of the longest beginning of a word that may be misspelt, unless it is whole
_BATCH = 8192
_LEVELS = " > "  # between the levels of a category's path


@dataclasses.dataclass(frozen=True)
class Phrases:
    """Phrases and their beginnings. H phrases, E (beginning, phrase) pairs.

    Attributes:
      phrase: object (str) [H].
      score: float32 [H], log(1 + popularity).
      category: int32 [H], code (see `facets.coded`) of the category of most of its items; 0 for none.
      category_share: float32 [H], share of its items in that category.
      key: int64 [E], fingerprints of beginnings, ascending.
      owner: int32 [E], phrases, best first within a beginning.
      inner: bool [E], whether the beginning is of a later word.
    """

    phrase: np.ndarray
    score: np.ndarray
    category: np.ndarray
    category_share: np.ndarray
    key: np.ndarray
    owner: np.ndarray
    inner: np.ndarray


def build_phrases(
    catalogue: SearchCatalogue, titles: np.ndarray, log: QueryLog | None, settings: Search
) -> tuple[Phrases, Spellings]:
    """Collects phrases: words of titles, categories, brands and logged queries.

    Args:
      catalogue: the items.
      titles: object (str) [C].
      log: what people searched for.
      settings: how many phrases, of how many words.

    Returns:
      (the phrases; beginnings of their words, to correct misspelt ones).
    """
    weight = 1 + np.log1p(np.maximum(catalogue.popularity, 0))
    code, _ = coded(catalogue.category, len(catalogue))
    parts = [_of_titles(titles, weight, code[:-1], settings)]
    for values in (catalogue.category, catalogue.brand):
        if values is not None:
            names = np.asarray([value.split(_LEVELS)[-1] for value in values], object)
            parts.append(_whole(names, weight, code[:-1]))
    if log is not None:
        logged = np.asarray(log.weight, np.float64) * _LOG_WEIGHT
        parts.append(_whole(log.query, logged, code[log.position]))
    table = _best(pd.concat(parts, ignore_index=True), settings.suggest.phrases)
    phrase = table["phrase"].to_numpy(object)
    score = np.log1p(table["weight"].to_numpy()).astype(np.float32)
    key, owner, inner = _beginnings(phrase, score)
    return Phrases(
        phrase=phrase,
        score=score,
        category=table["category"].to_numpy(np.int32),
        category_share=table["share"].to_numpy(np.float32),
        key=key,
        owner=owner,
        inner=inner,
    ), _word_starts(phrase, table["weight"].to_numpy())


def clean(strings: np.ndarray) -> np.ndarray:
    """object (str) [N], strings as phrases have them: in one spelling, runs without blanks as they are."""
    parts = [np.zeros(0, object)]
    for start in range(0, len(strings), _BATCH):
        batch = tf.constant(list(strings[start : start + _BATCH]), tf.string)
        parts.append(text.letters(text.fold(batch)).numpy())
    return np.asarray([each.decode() for each in np.concatenate(parts)], object)


def _whole(strings: np.ndarray, weight: np.ndarray, category: np.ndarray) -> pd.DataFrame:
    """Strings as phrases: columns phrase, weight, category."""
    place, distinct = pd.factorize(strings.astype(object))
    table = pd.DataFrame({"phrase": clean(distinct)[place], "weight": weight, "category": category})
    return table[table["phrase"] != ""]


def _of_titles(
    titles: np.ndarray, weight: np.ndarray, category: np.ndarray, settings: Search
) -> pd.DataFrame:
    """Whole titles and neighbouring words that several of them share, without those that only occur within
    longer ones; columns phrase, weight, category.
    """
    place, distinct = pd.factorize(titles.astype(object))
    vocabulary, size, word = Vocabulary(), [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for start in range(0, len(distinct), _BATCH):
        batch = tf.constant(distinct[start : start + _BATCH].tolist(), tf.string)
        found = tf.strings.split(text.letters(text.fold(batch)))
        size.append(found.row_lengths().numpy())
        word.append(vocabulary.number(found.flat_values))
    sizes, words, strings = np.concatenate(size), np.concatenate(word), vocabulary.strings
    ignored = np.isin(strings, settings.ignored_words)
    text_of = np.repeat(np.arange(len(sizes)), sizes)
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(words))  # words to the end of the text
    total = np.bincount(place, weight, minlength=len(distinct))
    first_item = np.unique(place, return_index=True)[1]
    parts, gram, shorter = [], words.astype(np.int64), None
    for length in range(1, settings.suggest.phrase_words + 1):
        begin = np.flatnonzero(left >= length)
        if length > 1:
            joined = gram[begin] * max(len(strings), 1) + words[begin + length - 1]
            gram = np.full(len(words), -1, np.int64)
            gram[begin] = np.unique(joined, return_inverse=True)[1]
        count = np.bincount(gram[begin])
        if shorter is not None:
            # what is as frequent as a longer phrase that holds it only occurs there
            for shift in (0, 1):
                inside = shorter[0][begin + shift]
                within = (shorter[1][inside] == count[gram[begin]]) & (count[gram[begin]] > 1)
                shorter[2][inside[within]] = False
            parts.append(_grams(shorter, length - 1, words, strings, text_of, total, category[first_item]))
        edge = ignored[words[begin]] | ignored[words[begin + length - 1]]
        # of a single text only the whole, or as much of its beginning as a phrase may have
        starts = left[begin] == sizes[text_of[begin]]
        whole = starts & ((left[begin] == length) | (length == settings.suggest.phrase_words))
        kept = count > 1
        kept[gram[begin][whole]] = True
        kept[gram[begin][edge & ~whole]] = False
        shorter = (gram.copy(), count, kept, begin)
    parts.append(
        _grams(shorter, settings.suggest.phrase_words, words, strings, text_of, total, category[first_item])
    )
    return pd.concat(parts, ignore_index=True)


def _grams(
    found: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    length: int,
    words: np.ndarray,
    strings: np.ndarray,
    text_of: np.ndarray,
    total: np.ndarray,
    category: np.ndarray,
) -> pd.DataFrame:
    """The kept phrases of `length` words, one row for each text that has them."""
    gram, _, kept, begin = found
    begin = begin[kept[gram[begin]]]
    number, first = np.unique(gram[begin], return_index=True)
    phrase = strings[words[begin[first]]] if len(first) else np.zeros(0, object)
    for offset in range(1, length):
        phrase = phrase + " " + strings[words[begin[first] + offset]]
    (which, text), _ = factor_counts(np.searchsorted(number, gram[begin]), text_of[begin])
    return pd.DataFrame({"phrase": phrase[which], "weight": total[text], "category": category[text]})


def _best(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """The phrases with most weight: columns phrase, weight, category (that of most weight), share."""
    by_category = rows.groupby(["phrase", "category"], sort=True)["weight"].sum().reset_index()
    weight = by_category.groupby("phrase")["weight"].transform("sum")
    table = by_category.assign(share=by_category["weight"] / weight)
    table = table.sort_values(["phrase", "weight"], ascending=[True, False], kind="stable")
    table["weight"] = table.groupby("phrase")["weight"].transform("sum")
    table = table.drop_duplicates("phrase")
    return table.sort_values(["weight", "phrase"], ascending=[False, True]).head(most).reset_index(drop=True)


def _beginnings(phrase: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys of all beginnings, ascending, with their phrases and whether they are of a later word."""
    words = [np.asarray(each.split(" ")[1:], object) for each in phrase]
    later = np.repeat(np.arange(len(phrase)), [len(each) for each in words])
    tails = np.asarray([" ".join(each[place:]) for each in words for place in range(len(each))], object)
    string = np.concatenate([phrase, tails])
    owner = np.concatenate([np.arange(len(phrase)), later])
    inner = np.arange(len(string)) >= len(phrase)
    size = np.asarray([len(each) for each in string], np.int64)
    size = np.minimum(size, np.where(inner, _INNER_PREFIX, LONGEST_PREFIX))
    row = np.repeat(np.arange(len(string)), size)
    length = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size) + 1
    key = [np.zeros(0, np.int64)]
    for start in range(0, len(row), 1 << 20):
        part = slice(start, start + (1 << 20))
        texts = tf.constant(string[row[part]].tolist(), tf.string)
        sizes = tf.constant(length[part], tf.int32)
        beginning = tf.strings.substr(texts, tf.zeros_like(sizes), sizes, unit="UTF8_CHAR")
        key.append(keys(beginning).numpy())
    key, owner, inner = np.concatenate(key), owner[row], inner[row]
    order = np.lexsort((owner, inner, -(score[owner] - INNER_COST * inner), key))
    key, owner, inner = key[order], owner[order], inner[order]
    kept = np.arange(len(key)) - np.searchsorted(key, key, "left") < PER_PREFIX
    return key[kept], owner[kept].astype(np.int32), inner[kept]


def _word_starts(phrase: np.ndarray, weight: np.ndarray) -> Spellings:
    """Beginnings of the phrases' words, of which misspelt ones are corrected."""
    words = [each.split(" ") for each in phrase]
    every = pd.DataFrame(
        {
            "word": np.asarray([word for each in words for word in each], object),
            "weight": np.repeat(weight, [len(each) for each in words]),
        }
    )
    by_word = every.groupby("word", sort=True)["weight"].sum()
    size = np.minimum(by_word.index.str.len(), _WORD_START)
    starts = [by_word.index.str[: int(length)][size >= length] for length in range(3, _WORD_START + 1)]
    weights = [by_word.to_numpy()[size >= length] for length in range(3, _WORD_START + 1)]
    whole = pd.Series(by_word.to_numpy(), by_word.index)
    table = pd.concat(
        [pd.Series(value, start) for start, value in zip(starts, weights, strict=True)] + [whole]
    )
    table = table.groupby(level=0, sort=True).sum()
    return build_spellings(table.index.to_numpy(object), table.to_numpy(np.float64))
