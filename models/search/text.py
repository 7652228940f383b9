r"""From any bytes to words and terms, in the graph.

The catalogue is read by the same functions, run eagerly, when the index is built: a word can not mean one
thing there and another in a query.

A *word* is what a shopper sees ("batteries", "16oz"); a *term* is what is looked up ("battery", "16oz").
Runs of letters that are written without blanks (Chinese, Japanese, Thai and their neighbours) become
overlapping pairs of characters, after Nie, Gao, Zhang and Zhou, "On the use of words and n-grams for
Chinese information retrieval", IRAL 2000.

Between the steps a text has two private marks, which no input can contain since control characters are
taken out first: \x01 stands for a decimal point, \x02 ends a character of a run without blanks.
"""

from __future__ import annotations

import tensorflow as tf
import tensorflow_text as tf_text

QUERY_BYTES = 1024  # of a query that are read
TEXT_BYTES = 16_384  # of a text of the catalogue that are read
QUERY_WORDS = 32
TEXT_WORDS = 2048
WORD_CHARACTERS = 40

_POINT, _END = "\x01", "\x02"
# diacritics; soft hyphen, joiners and marks of direction; Arabic vowels
_SILENT = (
    r"[\x{0300}-\x{036f}\x{00ad}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{feff}"
    r"\x{064b}-\x{0652}\x{fe00}-\x{fe0f}]+"
)
NO_BLANKS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
# vulgar fractions, as characters or spelled out, and their decimals
_FRACTIONS = {
    r"½|\b1/2\b": "5",
    r"¼|\b1/4\b": "25",
    r"¾|\b3/4\b": "75",
    r"⅓|\b1/3\b": "33",
    r"⅔|\b2/3\b": "67",
    r"⅛|\b1/8\b": "125",
}
# Names of a unit after a number -> the one that stands for all. Longer names come first where one
# begins with another.
_UNITS = {
    r"fl(?:uid)?[. -]*(?:oz|ounces?)": "floz",
    r"oz|ounces?": "oz",
    r"lbs?|pounds?": "lb",
    r"kgs?|kilos?|kilograms?": "kg",
    r"g|grs?|grams?": "g",
    r"mg|milligrams?": "mg",
    r"mls?|millilit(?:er|re)s?": "ml",
    r"l|ltrs?|lit(?:er|re)s?": "l",
    r"gals?|gallons?": "gal",
    r"qts?|quarts?": "qt",
    r"pts?|pints?": "pt",
    r"cts?|counts?": "ct",
    r"pks?|packs?": "pack",
    r"pcs?|pieces?": "pc",
    r"in|inch|inches": "inch",
    r"ft|foot|feet": "ft",
    r"yds?|yards?": "yd",
    r"cms?|centimet(?:er|re)s?": "cm",
    r"mms?|millimet(?:er|re)s?": "mm",
    r"m|met(?:er|re)s?": "m",
    r"gbs?|gigabytes?": "gb",
    r"tbs?|terabytes?": "tb",
    r"w|watts?": "w",
    r"v|volts?": "v",
    r"yrs?|years?": "year",
    r"mos?|months?": "month",
}
_MONEY = r"(?:dollars?|usd|bucks|euros?|eur|pounds? sterling|[$€£¥元块円])"
_NUMBER = r"(\d{1,7}(?:\x01\d{1,2})?)"
_PRICE = rf"(?:{_MONEY} ?)?{_NUMBER}(?: ?{_MONEY})?"
_COSTS = rf"(?:(?:{_MONEY} ?){_NUMBER}|{_NUMBER}(?: ?{_MONEY}))"  # money is said: two groups
# what a number after "under" or "to" counts where it is no price
_NOT_MONEY = (
    r".*\b(?:ages?|aged|sizes?|grades?|levels?|kids?|child(?:ren)?|toddlers?|babies|wom[ae]n|m[ae]n|adults?) "
    r"(?:under|below|over|above|up to|\d+ ?(?:to|-)).*"
)
_MOST = (
    r"(?:^| )(?:under|below|less than|cheaper than|up to|at most|no more than|max(?:imum)?|低于|不超过|<) ?"
    + _PRICE,
    rf"(?:^| )?{_PRICE} ?(?:以下|以内|之内)",
)
_LEAST = (
    rf"(?:^| )(?:over|above|more than|at least|min(?:imum)?|高于|超过|>) ?{_COSTS}",
    rf"{_PRICE} ?(?:以上)",
)
_BETWEEN = (
    rf"(?:^| )(?:between|from) {_PRICE} ?(?:to|and|-) ?{_PRICE}",
    rf"(?:^| ){_PRICE} to {_PRICE}",
    rf"(?:^| )\$ ?{_NUMBER} ?- ?\$? ?{_NUMBER}",
    rf"(?:^| )?{_PRICE} ?[到至-] ?{_NUMBER} ?{_MONEY}",
)
_STOPS = r"(?:[ ,.!?]|$)"


def valid(texts: tf.Tensor, limit: int = QUERY_BYTES) -> tf.Tensor:
    """string [N]: the first `limit` bytes of any bytes, with blanks for control characters and for what
    is no UTF-8.
    """
    return tf.strings.unicode_transcode(
        tf.strings.substr(texts, 0, limit),
        "UTF-8",
        "UTF-8",
        errors="replace",
        replacement_char=32,
        replace_control_characters=True,
    )


def fold(texts: tf.Tensor, limit: int = QUERY_BYTES) -> tf.Tensor:
    """Valid text in one case and width, with numbers and units in one spelling.

    Unicode NFKC and case folding; diacritics, marks of direction and control characters are gone; what
    is no UTF-8 is a blank. "16 ounces", "16-oz" and "16OZ" become "16oz", "½ gal" becomes "0.5gal"
    (with a private mark as the point).

    Args:
      texts: string [N], any bytes.
      limit: bytes that are read.

    Returns:
      string [N].
    """
    texts = valid(texts, limit)
    for fraction, decimals in _FRACTIONS.items():
        texts = tf.strings.regex_replace(texts, fraction, _END + decimals)
    texts = tf_text.normalize_utf8(texts, "NFKD")
    texts = tf_text.normalize_utf8(tf.strings.regex_replace(texts, _SILENT, ""), "NFKC")
    texts = tf.strings.regex_replace(tf_text.case_fold_utf8(texts), r"['’‘`´]+([^'’‘`´]|$)", r"\1")
    # most queries have no number, and these steps are most of the work
    return tf.cond(_any_digit(texts), lambda: _with_units(_with_numbers(texts)), lambda: texts)


def _any_digit(texts: tf.Tensor) -> tf.Tensor:
    return tf.reduce_any(tf.strings.regex_full_match(texts, r"(?s).*\d.*"))


def _with_numbers(texts: tf.Tensor) -> tf.Tensor:
    """Decimal points and fractions as marks, no thousands' separators, dimensions in one word."""
    for pattern, rewrite in (
        (r"(\d)[ -]?" + _END, r"\1" + _POINT),  # 1½
        (_END, " 0" + _POINT),
        (r"(\d),(\d\d\d)\b", r"\1\2"),
        (r"(\d)\.(\d)", rf"\1{_POINT}\2"),
        (r"(^|[^\w.])\.(\d)", rf"\1 0{_POINT}\2"),
        (rf"({_POINT}\d*[1-9])0+\b", r"\1"),
        (rf"{_POINT}0+\b", ""),
        (r"(\d) ?[x×] ?(\d)", r"\1x\2"),
        (r"(\d) in (\d)", r"\1in\2"),  # "2 in 1" is no inch
        (r"(\d) ?(?:\"|″|”)", r"\1inch "),
        (r"(\d) ?(?:%|percent\b|pct\b)", r"\1pct "),
        (r"\b(?:pack|set|case|box) of (\d+)\b", r"\1pack"),
    ):
        texts = tf.strings.regex_replace(texts, pattern, rewrite)
    return texts


def _with_units(texts: tf.Tensor) -> tf.Tensor:
    for names, unit in _UNITS.items():
        texts = tf.strings.regex_replace(texts, rf"(\d)[ -]*(?:{names})\b\.?", rf"\1{unit}")
    return texts


def prices(folded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What a query says about the price: "under 20", "below $20", "over $5", "20 to 30".

    A lower bound needs a word or sign of money, since "women over 50" is no price.

    Args:
      folded: string [B], from :func:`fold`.

    Returns:
      (float32 [B, 2], least and most, -1 where nothing is said; string [B], the query without it).
    """
    return tf.cond(
        _any_digit(folded),
        lambda: _prices(folded),
        lambda: (tf.fill([tf.size(folded), 2], -1.0), folded),
    )


def _prices(folded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    speaks = ~tf.strings.regex_full_match(folded, _NOT_MONEY)
    nothing = tf.fill(tf.shape(folded), -1.0)
    least, most, rest = nothing, nothing, folded
    for pattern in _BETWEEN:
        found, numbers, shorter = _extract(rest, pattern, ("\\1", "\\2"))
        found &= speaks & (least < 0) & (most < 0)
        low, high = tf.minimum(*numbers), tf.maximum(*numbers)
        least, most = tf.where(found, low, least), tf.where(found, high, most)
        rest = tf.where(found, shorter, rest)
    for pattern in _MOST:
        found, (number,), shorter = _extract(rest, pattern, ("\\1",))
        found &= speaks & (most < 0)
        most, rest = tf.where(found, number, most), tf.where(found, shorter, rest)
    for pattern, groups in zip(_LEAST, (r"\1\2", r"\1"), strict=True):
        found, (number,), shorter = _extract(rest, pattern, (groups,))
        found &= speaks & (least < 0)
        least, rest = tf.where(found, number, least), tf.where(found, shorter, rest)
    return tf.stack([least, most], 1), rest


def _extract(
    texts: tf.Tensor, pattern: str, groups: tuple[str, ...]
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
    """(bool [B] whether the pattern occurs, its numbers float32 [B] each, the texts without it)."""
    whole = rf"^.*?{pattern}{_STOPS}.*$"
    found = tf.strings.regex_full_match(texts, whole)
    numbers = []
    for group in groups:
        digits = tf.strings.regex_replace(tf.where(found, texts, "0"), whole, group)
        numbers.append(tf.strings.to_number(tf.strings.regex_replace(digits, _POINT, ".")))
    return found, numbers, tf.strings.regex_replace(texts, pattern + _STOPS, " ", replace_global=False)


def letters(folded: tf.Tensor) -> tf.Tensor:
    """string [N]: words with one blank between them, of folded texts (string [N])."""
    texts = tf.strings.regex_replace(folded, rf"([{NO_BLANKS}]+)", r" \1 ")
    texts = tf.strings.regex_replace(texts, rf"[^\pL\pN\pM{_POINT}]+", " ")
    return tf.strings.strip(tf.strings.regex_replace(texts, _POINT, "."))


def words(texts: tf.Tensor, most: int = QUERY_WORDS, singles: bool = False) -> tf.RaggedTensor:
    """The words of texts.

    Args:
      texts: string [N], from :func:`letters`.
      most: words of a text at most.
      singles: whether characters of runs without blanks are words too, besides pairs of them; so that
        a query of one character finds them.

    Returns:
      Ragged string [N, words]: a word is never empty and at most `WORD_CHARACTERS` long.
    """
    marked = tf.strings.regex_replace(texts, rf"([{NO_BLANKS}])", rf"\1{_END}")
    marked = tf.strings.regex_replace(marked, rf"{_END}( |$)", r"\1")
    runs = tf.strings.split(marked)[:, :most]
    pieces = tf.strings.split(runs.flat_values, _END)
    grams = tf.strings.ngrams(pieces, (1, 2) if singles else 2, separator="", preserve_short_sequences=True)
    found = runs.with_values(grams).merge_dims(1, 2)[:, :most]
    return tf.ragged.map_flat_values(tf.strings.substr, found, 0, WORD_CHARACTERS, unit="UTF8_CHAR")


def stem(flat: tf.Tensor) -> tf.Tensor:
    """Terms, string [N], of words (string [N]): English plurals lose their ending.

    A light stemmer after Harman, "How effective is suffixing?", JASIS 42, 1991, with more endings:
    "boxes" is "box", "tomatoes" "tomato", and "cookie" is what "cookies" becomes.
    """
    for pattern, rewrite in (
        (r"^([a-z]{2,}[^aeiou\W\d_])(?:ies|ie)$", r"\1y"),
        (r"^([a-z]{2,}(?:x|ch|sh|ss|zz))es$", r"\1"),
        (r"^([a-z]{3,}[^h])oes$", r"\1o"),
        (r"^([a-z]{2,}[^usi])s$", r"\1"),
    ):
        flat = tf.strings.regex_replace(flat, pattern, rewrite)
    return flat


def text_words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Ragged string [N, words], the words of the catalogue's texts (string [N])."""
    return words(letters(fold(texts, TEXT_BYTES)), TEXT_WORDS, singles=True)


def terms(texts: tf.Tensor) -> tf.RaggedTensor:
    """Ragged string [N, terms], the terms of queries (string [N]); never an error, whatever they are."""
    return tf.ragged.map_flat_values(stem, words(letters(fold(texts))))
