"""Words of shoppers that the catalogue lacks, learned from what was chosen after them.

Who searches for "sneakers" where every title says "running shoes" chooses running shoes: the terms that
most of the chosen titles share stand for the word, also in queries that nobody has typed before and for
items that nobody has chosen yet. This is the translation of queries into the words of what was clicked of
Gao, He and Nie, "Clickthrough-based translation models for web search", CIKM 2010, with shares for
probabilities and only for words that no item has.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import tensorflow as tf

from models.search import text
from models.search.catalogue import QueryLog
from models.search.tokens import Tokens

_BATCH = 4096  # queries that are read at a time
_LEAST_SHARE = 0.5  # of the choices after a word, that have the term in their title
_LEAST_LIFT = 3.0  # times as often as in the whole catalogue
_LEAST_ITEMS = 2  # with the term: one item's title would make all its terms stand for the word


def learned_pairs(
    log: QueryLog, titles: Tokens, term_of_word: np.ndarray, terms: np.ndarray, least: int
) -> pd.DataFrame:
    """What stands for words that no item has.

    Args:
      log: what people chose who searched.
      titles: the words of the field that names items.
      term_of_word: int32 [words], the term of each word.
      terms: object (str) [T], all terms of the catalogue.
      least: choices after a word, all together, from which something is learned.

    Returns:
      Columns word (str, a term), other (int, a number of `terms`), share (float, in [0.5, 1]).
    """
    place, queries = pd.factorize(log.query.astype(object))
    asked = _unknown_terms(queries, terms)
    entries = pd.DataFrame({"query": place, "position": log.position, "weight": log.weight})
    chosen = asked.merge(entries, on="query").groupby(["word", "position"], as_index=False)["weight"].sum()
    total = chosen.groupby("word")["weight"].transform("sum")
    chosen = chosen.assign(share=chosen["weight"] / total)[total >= least]
    position = chosen["position"].to_numpy(np.int64)
    size = titles.length[position]
    # token `place` of each chosen title
    place = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    token = titles.word[np.repeat(titles.start[position], size) + place]
    of_title = chosen.loc[chosen.index.repeat(size), ["word", "position", "share"]]
    of_title = of_title.assign(other=term_of_word[token]).drop_duplicates(["word", "position", "other"])
    pairs = of_title.groupby(["word", "other"], as_index=False).agg(
        share=("share", "sum"), items=("position", "nunique")
    )
    df = _document_frequency(titles, term_of_word, len(terms))
    common = df[pairs["other"].to_numpy(np.int64)] / max(len(titles.length), 1)
    kept = (pairs["share"] >= _LEAST_SHARE) & (pairs["share"] >= _LEAST_LIFT * common)
    return pairs.loc[kept & (pairs["items"] >= _LEAST_ITEMS), ["word", "other", "share"]]


def _unknown_terms(queries: np.ndarray, terms: np.ndarray) -> pd.DataFrame:
    """Columns query (place), word (str): the terms of queries (object (str) [Q]) that no item has."""
    known, parts = pd.Index(terms), [pd.DataFrame({"query": np.zeros(0, np.int64), "word": []})]
    for start in range(0, len(queries), _BATCH):
        found = text.terms(tf.constant(queries[start : start + _BATCH].tolist(), tf.string))
        word = np.asarray([term.decode() for term in found.flat_values.numpy()], object)
        query = start + found.value_rowids().numpy()
        lacking = np.flatnonzero(known.get_indexer(word) < 0)
        parts.append(pd.DataFrame({"query": query[lacking], "word": word[lacking]}))
    return pd.concat([part for part in parts if len(part)] or parts[:1]).drop_duplicates()


def _document_frequency(titles: Tokens, term_of_word: np.ndarray, size: int) -> np.ndarray:
    """int64 [T], titles that have each term."""
    pairs = np.unique(titles.item.astype(np.int64) * max(size, 1) + term_of_word[titles.word])
    return np.bincount(pairs % max(size, 1), minlength=size)
