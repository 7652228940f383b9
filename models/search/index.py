"""The tables of a search: built once from a catalogue, saved, loaded, read by the graph."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from models.data import arrays
from models.search import text
from models.search.catalogue import QueryLog, SearchCatalogue, SynonymTable
from models.search.compounds import Compounds, build_compounds
from models.search.hashing import keys
from models.search.learned_synonyms import learned_pairs
from models.search.lookups import ItemLists, build_lists
from models.search.phrases import Phrases, build_phrases
from models.search.postings import Postings, build_postings
from models.search.query import canonical, clean_text, ignored_words
from models.search.spelling import Spellings, build_spellings
from models.search.synonyms import Pairs, Synonyms
from models.search.tokens import Tokens, factor_counts, read_fields
from schema.config import Search
from schema.errors import ConfigError

_BATCH = 4096  # texts whose terms are joined at a time
_STRINGS = "strings.json"
_ARRAYS = "arrays.npz"


@dataclasses.dataclass(frozen=True)
class SearchIndex:
    """All tables that `Searcher` and `Suggester` read; no vectors, no weights of models.

    Attributes:
      catalogue: the items.
      field_names: the text fields, in the order of `postings.field_impact`.
      title: the field that names an item.
      postings, spellings, compounds, synonyms, phrases: see their modules.
      word_starts: beginnings of the phrases' words.
      names: items by exact title or id.
      log: items by query.
    """

    catalogue: SearchCatalogue
    field_names: tuple[str, ...]
    title: str
    postings: Postings
    spellings: Spellings
    compounds: Compounds
    synonyms: Synonyms
    names: ItemLists
    log: ItemLists
    phrases: Phrases
    word_starts: Spellings

    @property
    def count(self) -> int:
        """C."""
        return len(self.catalogue)

    @classmethod
    def build(
        cls,
        catalogue: SearchCatalogue,
        settings: Search,
        synonyms: SynonymTable | None = None,
        log: QueryLog | None = None,
    ) -> SearchIndex:
        """Builds the tables.

        Args:
          catalogue: the shop's items.
          settings: fields and their weights, synonyms, spelling, suggestions.
          synonyms: words that stand for others by behaviour, besides `settings.synonyms`.
          log: what people chose who searched; synonyms are learned from it too.

        Raises:
          ConfigError: `settings` names a field that the catalogue lacks.
        """
        title = _title(catalogue, settings)
        pairs = Pairs(settings, synonyms)
        tokens, words = read_fields(catalogue.fields, pairs.phrases)
        term_of_word, terms = _terms(words)
        if log is not None and settings.learned_synonyms:
            found = learned_pairs(log, tokens[title], term_of_word, terms, settings.learned_synonyms)
            pairs.learn(found["word"], terms[found["other"]], settings.synonym_weight * found["share"])
        postings, number = build_postings(tokens, term_of_word, terms, settings)
        phrases, starts = build_phrases(catalogue, catalogue.fields[title], log, settings)
        return cls(
            catalogue=catalogue,
            field_names=tuple(catalogue.fields),
            title=title,
            postings=postings,
            spellings=build_spellings(words, _frequency(tokens, len(words))),
            compounds=build_compounds(tokens[title], words),
            synonyms=pairs.numbered(dict(zip(terms.tolist(), number.tolist(), strict=True))),
            names=_names(catalogue, title, settings),
            log=_logged(log, settings),
            phrases=phrases,
            word_starts=starts,
        )

    def save(self, folder: str) -> None:
        """Writes the tables as arrays.npz (numbers) and strings.json; the folder is created if missing."""
        numbers, strings = {}, {}
        for name, value in _flattened(self).items():
            if isinstance(value, np.ndarray) and value.dtype != object:
                numbers[name] = value
            else:
                strings[name] = value.tolist() if isinstance(value, np.ndarray) else value
        arrays.save(os.path.join(folder, _ARRAYS), numbers)
        with tf.io.gfile.GFile(os.path.join(folder, _STRINGS), "w") as file:
            json.dump(strings, file, ensure_ascii=False)

    @classmethod
    def load(cls, folder: str) -> SearchIndex:
        """Reads what :meth:`save` wrote."""
        with tf.io.gfile.GFile(os.path.join(folder, _STRINGS)) as file:
            strings = json.load(file)
        flat: dict[str, Any] = {
            name: np.asarray(value, object) if isinstance(value, list) else value
            for name, value in strings.items()
        }
        flat |= arrays.load(os.path.join(folder, _ARRAYS))
        group = _groups(flat)
        catalogue = _groups(group.pop("catalogue"))
        none = {"category": None, "brand": None, "fields": {}}
        kinds = {each.name: each.type for each in dataclasses.fields(cls)}
        parts = {
            name: globals()[kinds[name]](**value) for name, value in group.items() if isinstance(value, dict)
        }
        return cls(
            catalogue=SearchCatalogue(**(none | catalogue)),
            field_names=tuple(group["field_names"].tolist()),
            title=group["title"],
            **parts,
        )


def _flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Arrays and strings of nested dataclasses and dicts, by their names with slashes between."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        inner = [_flattened(each, f"{prefix}/{name}" if prefix else name) for name, each in value.items()]
        return {name: each for part in inner for name, each in part.items()}
    if value is None:
        return {}
    return {prefix: np.asarray(value, object) if isinstance(value, tuple) else value}


def _groups(flat: dict[str, Any]) -> dict[str, Any]:
    """The first part of each name -> what is named so, or a dict of what is behind the slash."""
    groups: dict[str, Any] = {}
    for name, value in flat.items():
        first, slash, rest = name.partition("/")
        if slash:
            groups.setdefault(first, {})[rest] = value
        else:
            groups[first] = value
    return groups


def _title(catalogue: SearchCatalogue, settings: Search) -> str:
    known = list(catalogue.fields)
    for name in [*settings.fields, *([settings.title] if settings.title else [])]:
        if name not in known:
            raise ConfigError(f"search: '{name}' is not one of the items' text fields {known}")
    return settings.title or known[0]


def _terms(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int32 [words] term of each word, object (str) [T] terms)."""
    stems = text.stem(tf.constant(words, tf.string)).numpy() if len(words) else np.zeros(0, object)
    term_of_word, terms = pd.factorize(np.asarray(stems, object))
    return term_of_word.astype(np.int32), np.asarray([term.decode() for term in terms], object)


def _frequency(tokens: dict[str, Tokens], size: int) -> np.ndarray:
    """float [words], (field, item) pairs that have each word."""
    frequency = np.zeros(size)
    for field in tokens.values():
        (word, _), _ = factor_counts(field.word, field.item)
        frequency += np.bincount(word, minlength=size)
    return frequency


def _canonical(strings: np.ndarray, settings: Search) -> np.ndarray:
    """int64 [N] keys of the canonical form of texts (object (str) [N]); 0 where there is no word."""
    ignored = ignored_words(settings.ignored_words)
    place, distinct = pd.factorize(strings.astype(object))
    key = [np.zeros(0, np.int64)]
    for start in range(0, len(distinct), _BATCH):
        batch = tf.constant(distinct[start : start + _BATCH].tolist(), tf.string)
        clean, _ = clean_text(batch, settings.price_words)
        found = canonical(text.words(clean).to_tensor(""), ignored)
        key.append(tf.where(found == "", tf.constant(0, tf.int64), keys(found)).numpy())
    return np.concatenate(key)[place]


def id_key(strings: tf.Tensor) -> tf.Tensor:
    """int64 keys of item ids, or of queries that may be one: blanks around and case do not count."""
    return keys("\x03" + tf.strings.lower(tf.strings.strip(strings)))


def _names(catalogue: SearchCatalogue, title: str, settings: Search) -> ItemLists:
    """Items by title and id; titles that many items bear name a kind, and are left out."""
    every = np.arange(len(catalogue), dtype=np.int32)
    by_title = _canonical(catalogue.fields[title], settings)
    titled = by_title != 0
    by_id = id_key(tf.constant(catalogue.item_id, tf.string)).numpy()
    key = np.concatenate([by_title[titled], by_id])
    position = np.concatenate([every[titled], every])
    return build_lists(key, position, 1 + catalogue.popularity[position], settings.exact)


def _logged(log: QueryLog | None, settings: Search) -> ItemLists:
    if log is None:
        return build_lists(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0))
    key = _canonical(log.query, settings)
    real = key != 0
    return build_lists(key[real], log.position[real], log.weight[real])
