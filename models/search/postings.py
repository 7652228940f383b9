"""BM25F as sparse postings: what each word says for each item that has it, computed when the index is built.

Robertson and Zaragoza, "The probabilistic relevance framework: BM25 and beyond", 2009, section 3.6: the
occurrences of a term t in the fields f of an item, each weighted and discounted by the field's length,
add up before they saturate:

    occurrences(t) = sum_f weight_f * tf_f(t) / (1 - b_f + b_f * length_f / average_length_f)
    score(t) = idf(t) * occurrences(t) / (k1 + occurrences(t))
    idf(t) = log(1 + (C - df(t) + 0.5) / (df(t) + 0.5))
"""

from __future__ import annotations

import dataclasses

import numpy as np

from models.search.hashing import key_array
from models.search.tokens import Tokens, factor_counts
from schema.config import Search, SearchField

# Terms with more postings than this have a second list, by descending impact, of which a query with many
# common words reads the first part.
SHORT_LIST = 4096


@dataclasses.dataclass(frozen=True)
class Postings:
    """All (term, item) pairs. T terms, C items, F fields, P postings, R of them in lists by impact.

    Attributes:
      term_key: int64 [T], fingerprints, ascending: a term's number is its place here.
      term: object (str) [T].
      idf: float32 [T].
      start: int32 [T + 1], where the postings of each term begin.
      position: int32 [P + R], items; ascending within a term's postings.
      impact: float16 [P + R], BM25F without idf.
      field_impact: float16 [P, F], the same of each field alone, with weight 1.
      ranked_start: int32 [T], where the list to be read begins: the postings of a rare term, or the
        list by impact of a common one.
      field_terms: float32 [C, F], distinct terms of each field.
    """

    term_key: np.ndarray
    term: np.ndarray
    idf: np.ndarray
    start: np.ndarray
    position: np.ndarray
    impact: np.ndarray
    field_impact: np.ndarray
    ranked_start: np.ndarray
    field_terms: np.ndarray


def build_postings(
    tokens: dict[str, Tokens], term_of_word: np.ndarray, terms: np.ndarray, settings: Search
) -> tuple[Postings, np.ndarray]:
    """The postings of a catalogue.

    Args:
      tokens: field -> its words.
      term_of_word: int32 [words], the term of each word of the vocabulary.
      terms: object (str) [T], in any order.
      settings: weights of the fields, k1.

    Returns:
      (the postings; int32 [T], the number in the postings of each of `terms`).
    """
    keys = key_array(terms)
    order = np.argsort(keys)
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    count = len(next(iter(tokens.values())).start) - 1
    pairs, occurrences, field_terms = [], [], []
    for field in tokens.values():
        (term, item), times = factor_counts(number[term_of_word[field.word]], field.item)
        pairs.append(term.astype(np.int64) * count + item)
        occurrences.append(times)
        field_terms.append(np.bincount(item, minlength=count))
    pair = np.unique(np.concatenate(pairs))
    term, position = (pair // max(count, 1)).astype(np.int32), (pair % max(count, 1)).astype(np.int32)
    total = np.zeros(len(pair), np.float32)
    field_impact = np.zeros((len(pair), len(tokens)), np.float16)
    for which, (name, field) in enumerate(tokens.items()):
        setting = settings.fields.get(name, SearchField()) if settings.fields else SearchField()
        where = np.searchsorted(pair, pairs[which])
        length = field.length / max(field.length.mean(), 1e-9)
        discount = 1 - setting.b + setting.b * length[position[where]]
        damped = (occurrences[which] / np.maximum(discount, 1e-9)).astype(np.float32)
        total[where] += setting.weight * damped if _is_read(name, settings) else 0.0
        field_impact[where, which] = damped / (settings.k1 + damped)
    df = np.bincount(term, minlength=len(terms))
    start = np.concatenate([[0], np.cumsum(df)]).astype(np.int32)
    impact = total / (settings.k1 + total)
    ranked, ranked_start = _ranked(impact, start)
    return (
        Postings(
            term_key=keys[order],
            term=terms[order],
            idf=np.log1p((count - df + 0.5) / (df + 0.5)).astype(np.float32),
            start=start,
            position=np.concatenate([position, position[ranked]]),
            impact=np.concatenate([impact, impact[ranked]]).astype(np.float16),
            field_impact=field_impact,
            ranked_start=ranked_start,
            field_terms=np.stack(field_terms, 1).astype(np.float32),
        ),
        number,
    )


def _is_read(name: str, settings: Search) -> bool:
    """Whether a field counts: all do where the settings name none."""
    return not settings.fields or name in settings.fields


def _ranked(impact: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The postings of common terms by descending impact, and where each term's list begins."""
    long = np.flatnonzero(np.diff(start) > SHORT_LIST)
    lists = [start[term] + np.argsort(-impact[start[term] : start[term + 1]], kind="stable") for term in long]
    begins = start[:-1].copy()
    size = np.asarray([len(each) for each in lists], np.int64)
    begins[long] = start[-1] + np.cumsum(size) - size
    return np.concatenate([np.zeros(0, np.int64), *lists]), begins.astype(np.int32)
