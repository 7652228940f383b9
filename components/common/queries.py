"""Queries that search learns from and is measured on, and what is right for each of them.

Right items come from the judgements, from the log (what people chose who searched), or from the
catalogue itself: a *known item* is asked for with some words of its own text.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd

from models.search.catalogue import SearchCatalogue

SETS = ("train", "eval", "test")  # learned from, stopped by, only measured
_MOST_WORDS = 3  # of a query for a known item
_READ = 16  # words of a text that such a query is made of
_WORD = r"[^\W_]*[^\W\d_][^\W_]*"  # with a letter
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NEAR = {  # neighbours on a keyboard
    letter: row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for place, letter in enumerate(row)
}


@dataclasses.dataclass(frozen=True)
class Queries:
    """Queries and the gains of items.

    Attributes:
      text: object (str) [Q].
      query: int32 [R], which query each entry is of.
      position: int32 [R], an item; its position in the `SearchCatalogue`.
      gain: float32 [R], how right the item is, in [0, 1]; 0 is known to be wrong.
    """

    text: np.ndarray
    query: np.ndarray
    position: np.ndarray
    gain: np.ndarray

    def __len__(self) -> int:
        return len(self.text)

    @classmethod
    def of(
        cls, text: Sequence[str], query: np.ndarray, position: np.ndarray, gain: np.ndarray | float = 1.0
    ) -> Self:
        """From plain values; a query without an item of gain above 0 is left out."""
        gains = np.broadcast_to(np.asarray(gain, np.float32), np.shape(query))
        made = cls(
            np.asarray(text, object),
            np.asarray(query, np.int32),
            np.asarray(position, np.int32),
            gains.copy(),
        )
        return made.where(made.best() > 0)

    @classmethod
    def none(cls) -> Self:
        """No query."""
        return cls(np.zeros(0, object), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))

    @classmethod
    def joined(cls, parts: Sequence[Queries]) -> Self:
        """One after the other; equal texts stay queries of their own."""
        starts = np.cumsum([0, *map(len, parts)])
        query = [part.query + start for part, start in zip(parts, starts, strict=False)]
        columns = [np.concatenate([getattr(p, name) for p in parts]) for name in ("text", "position", "gain")]
        return cls(columns[0], np.concatenate(query).astype(np.int32), *columns[1:])

    def best(self) -> np.ndarray:
        """float32 [Q], the largest gain of each query; 0 without items."""
        best = np.zeros(len(self), np.float32)
        np.maximum.at(best, self.query, self.gain)
        return best

    def where(self, chosen: np.ndarray) -> Self:
        """The queries that `chosen` (bool [Q], or int [n]) names, in its order."""
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        place = np.full(len(self), -1, np.int32)
        place[chosen] = np.arange(len(chosen))
        keep = place[self.query] >= 0
        return dataclasses.replace(
            self,
            text=self.text[chosen],
            query=place[self.query[keep]],
            position=self.position[keep],
            gain=self.gain[keep],
        )

    def asked(self, text: np.ndarray) -> Self:
        """The same queries in other words (object [Q])."""
        return dataclasses.replace(self, text=np.asarray(text, object))

    def gains_of(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is known of items that were found.

        Args:
          position: int32 [Q, N].

        Returns:
          (gain float32 [Q, N], 0 where nothing is known; bool [Q, N], whether something is known).
        """
        if not len(self.query):
            return np.zeros(position.shape, np.float32), np.zeros(position.shape, bool)
        size = 1 + max(int(self.position.max()), int(position.max(initial=0)))
        keys = self.query.astype(np.int64) * size + self.position
        order = np.argsort(keys, kind="stable")
        wanted = np.arange(len(self))[:, None] * size + position
        place = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        known = keys[order][place] == wanted
        return np.where(known, self.gain[order][place], 0).astype(np.float32), known


def normalised(text: str) -> str:
    """A query as it is counted: case and spaces do not make another one."""
    return " ".join(text.casefold().split())


def place_of(texts: np.ndarray) -> np.ndarray:
    """float64 [Q] in [0, 1): the place of each query, always the same for the same words."""
    digests = (hashlib.sha256(normalised(text).encode("utf-8", "replace")).digest() for text in texts)
    return np.asarray([int.from_bytes(digest[:7], "big") / 2**56 for digest in digests])


def divided(texts: np.ndarray, valid_share: float, test_share: float) -> np.ndarray:
    """object (str) [Q]: which of `SETS` each query is in, by the hash of its words.

    Args:
      texts: object (str) [Q].
      valid_share: share of the queries that training is stopped by.
      test_share: share of the queries that nothing is learned from.
    """
    place = place_of(texts)
    return np.select(
        [place < test_share, place < test_share + valid_share], ["test", "eval"], "train"
    ).astype(object)


def with_typo(texts: np.ndarray, seed: int = 0) -> np.ndarray:
    """Each query with one typing error: a letter left out, doubled, swapped or taken from the next key.

    The error is in a word of four letters or more where there is one, never in its first letter, and
    always the same for the same query and seed. A query without a word of two letters stays as it is.

    Args:
      texts: object (str) [Q].
      seed: of the errors.
    """
    return np.asarray([_mistyped(text, seed) for text in texts], object)


def _mistyped(text: str, seed: int) -> str:
    digest = hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "replace")).digest()
    rng = np.random.default_rng(np.frombuffer(digest, np.uint32))
    words = text.split()
    long = [place for place, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    long = long or [place for place, word in enumerate(words) if len(word) >= 2]
    if not long:
        return text
    place = long[rng.integers(len(long))]
    word = words[place]
    at = int(rng.integers(1, len(word)))
    near = _NEAR.get(word[at].lower()) or _LETTERS
    kinds = [word[:at] + word[at + 1 :], word[:at] + word[at - 1] + word[at:]]
    kinds.append(word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :] if at > 1 else kinds[0])
    kinds.append(word[:at] + near[rng.integers(len(near))] + word[at + 1 :])
    different = [kind for kind in kinds if kind != word and kind]
    words[place] = different[rng.integers(len(different))] if different else word
    return " ".join(words)


def known_items(catalogue: SearchCatalogue, count: int, seed: int) -> Queries:
    """Queries for known items: up to three of the first words of a text, for which every item with the same
    first words is right.

    Only sixteen words are read, and no number alone: what people remember of an item is its name, not what
    stands far down in its description. Half of the items are drawn evenly, half by the square root of
    their popularity. A word is drawn the likelier the fewer texts have it. Names of two words or fewer
    are asked as they are.

    Args:
      catalogue: the items.
      count: how many queries at most; fewer where the words of two would be equal.
      seed: of the draw.
    """
    texts, text_of = distinct_texts(catalogue)
    rng = np.random.default_rng(seed)
    weight = np.bincount(text_of, np.sqrt(np.maximum(catalogue.popularity, 0)), len(texts))
    usable = np.flatnonzero(texts != "")
    if not len(usable) or not count:
        return Queries.none()
    half = min(count - count // 2, len(usable))
    drawn = rng.choice(usable, half, replace=False)
    if weight[usable].sum():
        share = weight[usable] / weight[usable].sum()
        popular = rng.choice(usable, min(count // 2, int((share > 0).sum())), replace=False, p=share)
        drawn = np.unique(np.concatenate([drawn, popular]))
    listed = pd.Series(texts).str.casefold().str.findall(_WORD)
    words, counts = listed.iloc[drawn], listed.explode().value_counts()
    asked = [_drawn(one, counts, rng) for one in words]
    first = ~pd.Series(asked).duplicated().to_numpy()
    keep = first & np.asarray([bool(query) for query in asked])
    place = np.full(len(texts), -1)
    place[drawn[keep]] = np.arange(int(keep.sum()))
    right = place[text_of]
    found = np.flatnonzero(right >= 0)
    return Queries.of(np.asarray(asked, object)[keep], right[found], found)


def _drawn(words: list[str], counts: pd.Series, rng: np.random.Generator) -> str:
    words = list(dict.fromkeys(word for word in words if len(word) > 1))
    if len(words) > 2:
        rare = 1 / np.log2(2 + counts[words].to_numpy(float))
        size = min(len(words), int(rng.integers(2, _MOST_WORDS + 1)))
        chosen = rng.choice(len(words), size, replace=False, p=rare / rare.sum())
        words = [words[place] for place in sorted(chosen)]
    return " ".join(words)


def distinct_texts(catalogue: SearchCatalogue) -> tuple[np.ndarray, np.ndarray]:
    """(object (str) [T] distinct first words of texts, all fields joined; int [C], which each item has)."""
    fields = list(catalogue.fields.values())
    joined = pd.Series(fields[0]).str.cat([pd.Series(field) for field in fields[1:]], sep=" ")
    first = joined.str.split(n=_READ).str[:_READ].str.join(" ")
    text_of, texts = pd.factorize(first.to_numpy(object))
    return np.asarray(texts, object), text_of
