"""More than 500 queries that no shop expects, the same every time: what `search` must survive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

LONG = 10_000

_BLANKS = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
_FORMAT = (
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\xad"
)
_EMOJI = ("😀", "🥛", "❤️", "👩‍👩‍👧‍👦", "🇵🇱", "🏳️‍🌈", "👍🏽", "🫠", "©️", "1️⃣")
_WORLD = (
    *("молоко", "γάλα", "ミルク", "牛乳", "우유", "นม", "दूध", "பால்", "દૂધ", "ღმერთი", "կաթ", "ወተት"),
    *(
        "חלב",
        "حليب",
        "حلیب‌پاک",
        "پنير قديم",
        "שמן זית 500",
        "Straße",
        "İSTANBUL",
        "ǅ",
        "ﬀ",
        "ｍｉｌｋ",
        "㎏",
        "½",
    ),
    *("Å", "e\u0301", "ﷺ", "𝔪𝔦𝔩𝔨", "Ⅷ", "①②③", "ͅ", "ß", "ﬃ", "ſ", "K"),
)
_INJECTIONS = (
    *(
        "' OR '1'='1",
        "'; DROP TABLE items; --",
        '" OR ""="',
        "1; SELECT pg_sleep(10)",
        "admin'--",
        "%' AND 1=0",
    ),
    *(
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "&lt;b&gt;",
        "]]>",
        "<!--",
        "javascript:alert(1)",
    ),
    *(
        "{{7*7}}",
        "${7*7}",
        "#{7*7}",
        "<%= 7*7 %>",
        "{0}",
        "{query}",
        "{match}; {times}",
        "%s%s%s%n",
        "%x",
        "%00",
    ),
    *(
        "$(reboot)",
        "`id`",
        "| cat /etc/passwd",
        "&& ls",
        "../../../../etc/passwd",
        "file:///etc/passwd",
        "\\\\host\\x",
    ),
    *(
        "*",
        "?",
        "[",
        "(",
        ")",
        "a{1,1000000000}",
        "(a+)+$",
        ".*" * 50,
        "\\",
        "\\1",
        "\\Q",
        "^$",
        "|",
        "(?P<x>",
        "[[:alpha:]]",
    ),
    *(
        "*)(uid=*))(|(uid=*",
        '{"$gt": ""}',
        "{'a': 1}",
        "[]",
        "null",
        "None",
        "NaN",
        "undefined",
        "true",
        "-",
        "--help",
    ),
    *(
        "\x1b[31mred\x1b[0m",
        "a\r\nSet-Cookie: x=1",
        "\u202emilk",
        "milk\u2066\u202e",
        "=1+1",
        "@SUM(1)",
        "+1",
        "~1",
        "!important",
    ),
)
_NUMBERS = (
    *(
        "0",
        "-0",
        "-1",
        "9" * 400,
        "1e309",
        "-1e309",
        "1e-400",
        "0x7f",
        "1.2.3.4",
        "1,5",
        "1.5.",
        ".5",
        "1/0",
        "½ gal",
    ),
    *(
        "16oz",
        "16 oz",
        "16 ounces",
        "1.5L",
        "999999999999999999999999 oz",
        "0 kg",
        "-3 lb",
        "12x330ml",
        "5 %",
        "50cm x 20cm",
    ),
    *(
        "under $20",
        "under $",
        "under under 5",
        "below -5",
        "under 1e309",
        "under nan",
        "under infinity",
        "20 to 10",
        "5 to",
    ),
    *(
        "to 5",
        "between 5 and 10",
        "cheaper than cheap",
        "under 0",
        "over 99999999999999",
        "$",
        "$$$$",
        "€5",
        "¥100",
        "under 五",
    ),
)


def hostile_queries(titles: Sequence[str], seed: int = 7) -> list[bytes]:
    """Queries as bytes, each once; some of them are no UTF-8.

    Args:
      titles: names of the shop's items, which some of the queries garble.
      seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    parts = (_empty(), _long(), _signs(rng), _written(), _bytes(rng), _garbled(titles, rng))
    every = itertools.chain.from_iterable(parts)
    return list(dict.fromkeys(text if isinstance(text, bytes) else text.encode() for text in every))


def _empty() -> Iterator[str]:
    yield from ("", *_BLANKS, *(blank * 50 for blank in " \t\u3000"), _BLANKS, _FORMAT, *_FORMAT)


def _long() -> Iterator[str]:
    for unit in (
        "a",
        " ",
        "milk ",
        "牛",
        "é",
        "e\u0301",
        "😀",
        "\0",
        "1",
        "\u202e",
        "a-",
        "ab ",
        "' ",
        "\u0e19",
    ):
        yield (unit * LONG)[:LONG]
    yield " ".join(f"word{number}" for number in range(1400))
    yield "milk " + "x" * LONG
    yield "x" * LONG + " milk"
    yield "a" + "\u0301" * LONG


def _signs(rng: np.random.Generator) -> Iterator[str]:
    yield from (chr(code) for code in range(0x20))  # control characters
    yield from (chr(code) for code in range(0x7F, 0xA0))
    yield from (f"mi{chr(code)}lk" for code in (*range(0x20), *range(0x7F, 0xA0)))
    yield from (sign for sign in "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~¡¿€™•…–—“”‘’«»" if sign)
    yield from _EMOJI
    yield from ("".join(rng.choice(np.asarray(_EMOJI, object), 3)) for _ in range(15))
    yield from (f"milk {emoji}" for emoji in _EMOJI)
    for _ in range(40):  # anything that Unicode has, or may have one day
        codes = rng.integers(1, 0x10FFFF, int(rng.integers(1, 12)))
        yield "".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF)
    for _ in range(15):  # letters under heaps of accents
        yield "".join(
            letter + "".join(chr(code) for code in rng.integers(0x300, 0x36F, 8)) for letter in "milk"
        )


def _written() -> Iterator[str]:
    yield from _WORLD
    yield from (f"milk {word}" for word in _WORLD)
    yield from _INJECTIONS
    yield from _NUMBERS
    yield from (f"milk {number}" for number in _NUMBERS)


def _bytes(rng: np.random.Generator) -> Iterator[bytes]:
    """What is no UTF-8: cut, overlong and lone parts of characters, surrogates, noise."""
    yield from (
        b"\xff",
        b"\xc3",
        b"\xe7\x89",
        b"\xf0\x9f\x98",
        b"\x80",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
    )
    yield from (
        b"milk \xc3",
        b"\xffmilk",
        b"mi\x80lk",
        "milk".encode("utf-16"),
        "лк".encode("cp1251"),
        b"\xf4\x90\x80\x80",
    )
    for _ in range(40):
        yield rng.integers(0, 256, int(rng.integers(1, 40))).astype(np.uint8).tobytes()


def _garbled(titles: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Names of items as hasty or odd people type them."""
    for title in rng.choice(np.asarray(titles, object), 40):
        letters = list(str(title))
        rng.shuffle(letters)
        yield "".join(letters)
        yield str(title)[::-1]
        yield "".join(letter.upper() if rng.random() < 0.5 else letter for letter in str(title))
        yield "\u200b".join(str(title))
