"""Times, numbers and texts as files write them, in whole columns."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import hmac
import html
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.columns import as_strings

_TIME = pa.timestamp("us", "UTC")
_ISO = r"^\d{4}[-/]\d{2}[-/]\d{2}([T ]\d{2}(:\d{2}(:\d{2}([.,]\d+)?)?)?)?\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?$"
_ZONED = r"\d:\d{2}.*(Z|[+-]\d{2}:?\d{2})$"
#: Digits of a whole number of these units since 1970, for the years 1973 to 2286.
_UNITS = {9: "s", 10: "s", 12: "ms", 13: "ms", 15: "us", 16: "us", 18: "ns", 19: "ns"}
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", ", %I:%M %p")
_DAYS = {"day_first": ("%d/%m/%Y", "%d/%m/%y"), "month_first": ("%m/%d/%Y", "%m/%d/%y")}
_MONTHS = ("%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%Y%m%d")
_EARLIEST, _LATEST = dt.datetime(1990, 1, 1, tzinfo=dt.UTC), dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
_FIT = 0.98  # share of the values that a format must fit
#: Of a price all that is no number: signs and codes of currencies, blanks and marks of thousands.
_CURRENCY = (
    r"^([A-Z]{3}|R\$|Rs\.?|kr\.?|Fr\.?)\s*|\s*([A-Z]{3}|zł|kr\.?|TL|Fr\.?)$|[\p{Sc}\s\x{00A0}\x{202F}']"
)
SYMBOLS = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₺": "TRY", "₽": "RUB", "zł": "PLN"}


@dataclasses.dataclass(frozen=True)
class TimeFormat:
    """How a column writes times.

    Attributes:
      kind: native (Arrow's own type), iso, a unit (s, ms, us, ns) or a format of strptime.
      zoned: each value says its offset from UTC, or is a number of seconds since 1970 UTC.
      order: day_first or month_first where days and months could be confused, else "".
    """

    kind: str
    zoned: bool
    order: str = ""

    def __str__(self) -> str:
        units = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
        if self.kind in units:
            return f"{units[self.kind]} since 1970"
        return {"native": "a timestamp", "iso": "ISO 8601"}.get(self.kind, f"as {self.kind}")


def time_formats(sample: pa.Array) -> list[TimeFormat]:
    """The formats that fit a column, best first; two where days and months could be either.

    Args:
      sample: values [rows], of any type.
    """
    sample = sample.drop_null()
    kind = sample.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return [TimeFormat("native", pa.types.is_timestamp(kind) and kind.tz is not None)]
    if not len(sample) or pa.types.is_nested(kind) or pa.types.is_boolean(kind):
        return []
    text = _trimmed(sample)
    found = [form for form in _candidates(text) if _fits(text, form)]
    whole = [form for form in found if not form.order]
    return whole[:1] or found


def to_times(array: pa.Array, form: TimeFormat, zone: str) -> pa.Array:
    """Times [rows] in UTC, null where a value is none.

    Args:
      array: values as read.
      form: how they are written.
      zone: IANA name of the zone of values that say none.
    """
    if form.kind == "native":
        array = array.cast(pa.timestamp("us", getattr(array.type, "tz", None)), safe=False)
        return array.cast(_TIME) if array.type.tz else _local(array, zone)
    text = _trimmed(array)
    if form.kind in _UNITS.values():
        whole = pc.replace_substring_regex(text, r"\.\d*$", "")
        valid = pc.match_substring_regex(whole, r"^(\d{1,18}|[1-8]\d{18})$")
        number = pc.if_else(valid, whole, pa.scalar(None, pa.string())).cast(pa.int64())
        scale = {"s": 1_000_000, "ms": 1000, "us": 1}.get(form.kind)
        number = pc.multiply(number, scale) if scale else pc.divide(number, 1000)
        return number.cast(_TIME)
    if form.kind == "iso":
        return _iso(text, zone)
    if "%y" in form.kind or "%Y" in form.kind:
        digits = 4 if "%Y" in form.kind else 2
        text = pc.replace_substring_regex(text, r"[.\-]", "/") if form.order else text
        right = pc.match_substring_regex(text, rf"(^|[^\d])\d{{{digits}}}($|[^\d])|^\d{{8}}$")
        text = pc.if_else(right, text, pa.scalar(None, pa.string()))
    return _local(pc.strptime(text, format=form.kind, unit="us", error_is_null=True), zone)


def plausible(times: pa.Array, latest: dt.datetime = _LATEST) -> pa.Array:
    """Booleans [rows]: a time from 1990 to `latest`; false where there is none."""
    low, high = pa.scalar(_EARLIEST, _TIME), pa.scalar(latest, _TIME)
    return pc.fill_null(pc.and_(pc.greater(times, low), pc.less(times, high)), False)


def decimal_mark(sample: pa.Array) -> str | None:
    """What stands before decimals: "point" or "comma", None where no value tells."""
    if not len(sample) or not _is_text(sample):
        return None
    text = _trimmed(sample.drop_null())
    count = lambda pattern: pc.sum(pc.match_substring_regex(text, pattern)).as_py() or 0  # noqa: E731
    comma, point = count(r"\d,\d{1,2}(\D*)$"), count(r"\d\.\d{1,2}(\D*)$")
    comma += count(r"\.\d{3},\d")
    point += count(r",\d{3}\.\d")
    return None if comma == point == 0 else "comma" if comma > point else "point"


def to_numbers(array: pa.Array, mark: str = "point") -> pa.Array:
    """Numbers [rows] as float64, without currency and thousands marks; null where a value is none.

    Args:
      array: numbers, or texts such as "$1,299.00" and "1.299,00 EUR".
      mark: what stands before decimals, point or comma.
    """
    if not _is_text(array):
        return array.cast(pa.float64())
    text = pc.replace_substring_regex(_trimmed(array), _CURRENCY, "")
    if mark == "comma":
        text = pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")
    else:
        text = pc.replace_substring(text, ",", "")
    valid = pc.match_substring_regex(text, r"^[-+]?(\d+\.?\d*|\.\d+)$")
    return pc.if_else(valid, text, pa.scalar(None, pa.string())).cast(pa.float64())


def currencies(array: pa.Array) -> set[str]:
    """The currencies, as codes of three letters, that prices name."""
    if not _is_text(array):
        return set()
    letters = pc.replace_substring_regex(_trimmed(array), r"[\d\s.,'+\-]", "").unique()
    found = {SYMBOLS.get(name, name) for name in letters.to_pylist() if name}
    return {name for name in found if re.fullmatch(r"[A-Z]{3}", name)}


def to_ids(array: pa.Array, null_words: tuple[str, ...] = ()) -> pa.Array:
    """Ids [rows] as text; null where there is none. "17850.0" of a spreadsheet is 17850."""
    text = _trimmed(array)
    text = pc.if_else(pc.is_in(text, pa.array(["", *null_words])), pa.scalar(None, pa.string()), text)
    floats = pc.match_substring_regex(text, r"^\d+\.0$")
    if pc.all(floats).as_py():  # nulls are skipped; a column of "1.0" and "1.5" stays as it is
        text = pc.replace_substring_regex(text, r"\.0$", "")
    return text


def broken_ids(array: pa.Array) -> str | None:
    """An id that a spreadsheet has rounded ("1.23E+18"); None where there is none."""
    if not _is_text(array):
        return None
    rounded = pc.match_substring_regex(_trimmed(array), r"^\d([.,]\d+)?[eE]\+\d+$")
    found = pc.index(rounded, True).as_py()
    return None if found < 0 else str(array[found].as_py())


def pseudonyms(ids: pa.Array, key: bytes) -> pa.Array:
    """Ids [rows] as keyed hashes (HMAC-SHA-256, 32 hexadecimal digits), without regard to case."""
    coded = ids.dictionary_encode()
    names = [
        hmac.new(key, v.lower().encode(), hashlib.sha256).hexdigest()[:32]
        for v in coded.dictionary.to_pylist()
    ]
    return pa.array(names, pa.string()).take(coded.indices)


def to_text(array: pa.Array) -> pa.Array:
    """Texts [rows] without HTML and with single blanks; null where nothing is left."""
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        array = pc.binary_join(array.cast(pa.list_(pa.string())), ", ")
    text = _trimmed(array)
    text = pc.replace_substring_regex(text, r"(?is)<(script|style)\b.*?</(script|style)\s*>", " ")
    text = pc.replace_substring_regex(text, r"(?s)<!--.*?-->|</?[a-zA-Z][^<>]*>", " ")
    text = pc.replace_substring(text, "\\n", " ")
    if pc.any(pc.match_substring(text, "&")).as_py():
        coded = text.dictionary_encode()
        text = pa.array([html.unescape(v) for v in coded.dictionary.to_pylist()], pa.string()).take(
            coded.indices
        )
    text = pc.utf8_trim_whitespace(pc.replace_substring_regex(text, r"[\s\p{Cc}\p{Z}]+", " "))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def path_parts(array: pa.Array, separator: str, root: str = "") -> tuple[pa.Array, pa.Array]:
    """The first and the last name of category paths, [rows] each; null where there is no path.

    Args:
      array: paths such as "Home > Kitchen"; of several paths in a cell, "Home > Kitchen, Sale", the first.
      separator: what stands between names of a path.
      root: a first name that says nothing, left out.
    """
    path = (
        pc.replace_substring_regex(to_text(array), rf"^{re.escape(root)}\s*{re.escape(separator)}", "")
        if root
        else to_text(array)
    )
    mark = re.escape(separator)
    first = pc.utf8_trim_whitespace(pc.replace_substring_regex(path, rf"(?s){mark}.*$", ""))
    last = pc.utf8_trim_whitespace(pc.replace_substring_regex(path, rf"(?s)^.*{mark}", ""))
    return first, last


def _candidates(text: pa.StringArray) -> list[TimeFormat]:
    lengths = pc.utf8_length(pc.replace_substring_regex(text, r"\.0*$", ""))
    typical = int(np.median(lengths.to_numpy(zero_copy_only=False)))
    found = []
    if typical in _UNITS:
        found.append(TimeFormat(_UNITS[typical], True))
    zoned = pc.mean(pc.match_substring_regex(_offsets(text), _ZONED).cast(pa.float64())).as_py() > _FIT
    found.append(TimeFormat("iso", zoned))
    found += [TimeFormat(day + clock, False) for day in _MONTHS for clock in _CLOCKS]
    found += [
        TimeFormat(day + clock, False, order)
        for order, days in _DAYS.items()
        for day in days
        for clock in _CLOCKS
    ]
    return found


def _fits(text: pa.StringArray, form: TimeFormat) -> bool:
    try:
        times = to_times(text, form, "UTC")
    except pa.ArrowInvalid:
        return False
    return pc.mean(plausible(times).cast(pa.float64())).as_py() >= _FIT


def _iso(text: pa.StringArray, zone: str) -> pa.Array:
    text = pc.if_else(pc.match_substring_regex(text, _ISO), _offsets(text), pa.scalar(None, pa.string()))
    text = pc.replace_substring_regex(text, r"^(\d{4})/(\d{2})/", r"\1-\2-")
    text = pc.replace_substring_regex(text, r"[.,](\d{1,6})\d*", r".\1")
    text = pc.replace_substring_regex(text, r"^(\S{10}[T ]\d{2})$", r"\1:00")
    zoned = pc.match_substring_regex(text, _ZONED)
    empty = pa.scalar(None, pa.string())
    with_offset = pc.if_else(zoned, text, empty).cast(_TIME)
    without = pc.if_else(zoned, empty, text).cast(pa.timestamp("us"))
    return pc.coalesce(with_offset, _local(without, zone))


def _offsets(text: pa.StringArray) -> pa.StringArray:
    """ISO times with their offset right behind the clock: Z, or +hhmm."""
    return pc.replace_substring_regex(
        pc.replace_substring_regex(text, r"\s*(UTC|GMT)$", "Z"), r"(:\d{2}\S*)\s+([+-]\d{2}:?\d{2})$", r"\1\2"
    )


def _local(times: pa.Array, zone: str) -> pa.Array:
    return pc.assume_timezone(times, zone, ambiguous="earliest", nonexistent="earliest").cast(_TIME)


def _is_text(array: pa.Array) -> bool:
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _trimmed(array: pa.Array) -> pa.StringArray:
    return pc.utf8_trim_whitespace(as_strings(array).cast(pa.string()))
