"""The picture of an item whose catalogue has none: a colour, a shape and a pictogram, always the same.

The category decides the colour (so that a shelf of one category looks like one), the item's id the
shape behind the pictogram, and the words of category and title the pictogram, which stands in
`static/tiles.svg`. What no word is known of gets the first letter of its title.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path

HUES = 18  # classes hue-0 ... of static/page.css
SHAPES = 5  # classes shape-0 ...

_PAIRS = re.compile(r"(?<=\bice)[ -](?=cream)|(?<=\bhot)[ -](?=dogs?\b)")  # read as one word
_WORD = re.compile(r"[a-z]+|[\u4e00-\u9fff]+")


@dataclasses.dataclass(frozen=True)
class Tile:
    """What a template needs to draw a tile.

    Attributes:
      hue: 0 to HUES - 1.
      shape: 0 to SHAPES - 1.
      pictogram: a symbol of static/tiles.svg, "" for none.
      letter: shown where there is no pictogram.
    """

    hue: int
    shape: int
    pictogram: str
    letter: str


def tile(item_id: str, title: str, category: str | None) -> Tile:
    """The tile of an item; the same in every process and on every machine."""
    return Tile(
        hue=_number(category or title) % HUES,
        shape=_number(item_id) % SHAPES,
        pictogram=_pictogram(category or "") or _pictogram(title),
        letter=next((sign.upper() for sign in title if sign.isalnum()), "·"),
    )


@functools.lru_cache(maxsize=4096)
def _pictogram(text: str) -> str:
    words = _WORD.findall(_PAIRS.sub("", text.lower()))
    for name, beginnings in _beginnings():
        if any(_begins(word, beginnings) for word in words):
            return name
    return ""


def _begins(word: str, beginnings: tuple[str, ...]) -> bool:
    if not word.isascii():
        return any(beginning in word for beginning in beginnings)
    # A short word must be the whole word or its plural: "cat" is no "category", "ham" no "shampoo".
    return any(
        word.startswith(beginning) if len(beginning) > 4 else word in (beginning, f"{beginning}s")
        for beginning in beginnings
    )


@functools.cache
def _beginnings() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Pictogram -> beginnings of words that stand for it.

    A word of a category counts before one of a title, and of several in one text the first pictogram of the
    file: frozen pizza is a pizza.
    """
    words = json.loads((Path(__file__).resolve().parent / "pictograms.json").read_text(encoding="utf-8"))
    return tuple((name, tuple(text.split())) for name, text in words.items())


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
