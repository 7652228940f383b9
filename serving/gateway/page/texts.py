"""The page's words: one JSON file for each language, all with the same keys."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

LANGUAGES = ("en", "zh")


class Texts:
    """The words of one language.

    Args:
      language: one of LANGUAGES.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._words = words_of(language)

    def __call__(self, key: str, **values: object) -> str:
        """The words of a key, with `{name}` filled in.

        Raises:
          KeyError: there is no such key, or a value is not given.
        """
        text = self._words[key]
        return text.format(**values) if values else text

    def counted(self, key: str, count: int) -> str:
        """`key.one` for 1, else `key.other`, with {count}."""
        return self(f"{key}.one" if count == 1 else f"{key}.other", count=f"{count:,}")

    def get(self, key: str) -> str:
        """The words of a key, "" if there is none."""
        return self._words.get(key, "")


@functools.cache
def words_of(language: str) -> Mapping[str, str]:
    """Key -> words of one language."""
    path = Path(__file__).resolve().parent / "words" / f"{language}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def languages() -> list[tuple[str, str]]:
    """Code and own name of each language."""
    return [(code, words_of(code)["language"]) for code in LANGUAGES]


def choose(asked: str | None, kept: str | None, accepted: str, default: str) -> str:
    """The language of an answer.

    Args:
      asked: the query parameter `lang`.
      kept: the cookie.
      accepted: the header Accept-Language.
      default: of the shop.

    Returns:
      The first of these that is one of LANGUAGES; English if none is.
    """
    for wanted in (asked, kept, *_by_quality(accepted), default):
        code = (wanted or "").split("-")[0].lower()
        if code in LANGUAGES:
            return code
    return LANGUAGES[0]


def _by_quality(accepted: str) -> list[str]:
    """Language tags of an Accept-Language header (RFC 9110, 12.5.4), the most wanted first."""
    found: list[tuple[float, str]] = []
    for part in accepted[:500].split(","):
        tag, _, rest = part.strip().partition(";")
        quality = rest.strip().removeprefix("q=") if rest else "1"
        try:
            weight = float(quality)
        except ValueError:
            continue
        if tag and 0 < weight <= 1:
            found.append((-weight, tag))
    return [tag for _, tag in sorted(found, key=lambda pair: pair[0])]
