"""What each column of an unknown file is, by its name, its type and its values."""

from __future__ import annotations

import dataclasses
import re
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc

from components.common.columns import as_strings
from pipeline.onboarding import values
from pipeline.onboarding.flatten import fold
from pipeline.onboarding.vocabulary import NAMES, OTHER_TIMES, PERSONAL, SENSITIVE, SURE_TYPES, TYPES

_EXACT, _PART, _CONTENT = 0.95, 0.75, 0.6
_TYPE_OF = {word: kind for kind, words in TYPES.items() for word in words}
_EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
_PHONE = r"^\+?[\d\s().\-/]{9,20}$"
_DISCOUNTED, _TAXED, _NEAR = 0.3, 1.35, 0.9  # of price times quantity, and the share of rows that are so
_ONE = 0.99
_CODES = 12  # kinds of events that are not named, at most
_LEAST_ROWS = 3  # of each value of an attribute of items, on average
_MOST_VALUES = 5000  # of an attribute of items
_FEW = 100  # values of an attribute of users, or of what they do

#: Roles of a table in the order in which columns are given away, what is certain first.
ROLES = {
    "events": (
        *(
            "timestamp",
            "item_id",
            "user_id",
            "session_id",
            "event_type",
            "quantity",
            "price",
            "value",
            "currency",
        ),
        *("status", "query", "subcategory", "category", "brand", "title"),
    ),
    "items": (
        *(
            "item_id",
            "subcategory",
            "category",
            "brand",
            "title",
            "description",
            "price",
            "currency",
            "added",
            "popularity",
        ),
    ),
    "users": ("user_id",),
    "promotions": ("item_id", "store", "time"),
}


@dataclasses.dataclass(frozen=True)
class Guess:
    """What a column is.

    Attributes:
      role: one of `ROLES`.
      column: its name.
      confidence: from 0 to 1.
      reason: why, for a person.
    """

    role: str
    column: str
    confidence: float
    reason: str


def type_of(name: str) -> str | None:
    """What users do, one of `vocabulary.TYPES`, by a shop's own name for it; None if it is unknown."""
    return _TYPE_OF.get(fold(name))


def guess(table: str, sample: pa.Table) -> tuple[dict[str, Guess], dict[str, str]]:
    """The roles of a file's columns, and why each other one is left out.

    Args:
      table: one of `ROLES`.
      sample: the file's first rows.

    Returns:
      Role -> its column; column -> reason, of the columns without a role.
    """
    columns = {name: sample.column(name).combine_chunks() for name in sample.schema.names}
    left = {name: reason for name, column in columns.items() if (reason := unusable(name, column))}
    open_columns = {name: column for name, column in columns.items() if name not in left}
    found: dict[str, Guess] = {}
    for role in ROLES[table]:
        taken = {one.column for one in found.values()}
        ranked = [
            score
            for name, column in open_columns.items()
            if name not in taken and (score := _score(role, name, column))
        ]
        if ranked:
            found[role] = max(ranked, key=lambda one: one.confidence)
    _by_content(table, found, open_columns)
    _check_value(found, open_columns, left)
    if table == "events" and "user_id" not in found:
        mails = [name for name, column in columns.items() if _share(column, _EMAIL) > 0.5]
        if mails:
            found["user_id"] = Guess(
                "user_id", mails[0], 0.8, "e-mail addresses, of which pseudonyms are made"
            )
            left.pop(mails[0], None)
    taken = {one.column for one in found.values()}
    left |= {
        name: "no role is known for it" for name in open_columns if name not in taken and name not in left
    }
    return found, left


def attributes(sample: pa.Table, taken: set[str]) -> tuple[list[str], list[str]]:
    """Columns with few values, and those of them that are sensitive.

    Args:
      sample: first rows of a table of users or items.
      taken: columns that have a role already.
    """
    few = []
    for name in sample.schema.names:
        column = sample.column(name).combine_chunks()
        if name in taken or unusable(name, column) or pa.types.is_nested(column.type):
            continue
        count = pc.count_distinct(column).as_py()
        if 1 < count <= min(_FEW, len(column) // 2):
            few.append(name)
    return few, [name for name in few if _holds(_plain(name), SENSITIVE)]


def words(sample: pa.Table, taken: set[str]) -> tuple[list[str], list[str]]:
    """Of a table of items, further columns of words, and columns whose values many items share.

    Args:
      sample: the first rows.
      taken: columns that have a role already.
    """
    texts, shared = [], []
    for name in sample.schema.names:
        column = sample.column(name).combine_chunks()
        if name in taken or unusable(name, column) or not _is_words(name, column):
            continue
        count = pc.count_distinct(column).as_py()
        if 1 < count <= min(_MOST_VALUES, len(column) // _LEAST_ROWS):
            shared.append(name)
        if count > 1 and _share(column, r"\p{L}{2}") > 0.5:
            texts.append(name)
    return texts, shared


def _is_words(name: str, column: pa.Array) -> bool:
    """Whether a column names things: texts that are no links, dates or numbers, or ids of something else."""
    if pa.types.is_integer(column.type):
        return _plain(name).endswith(("id", "code"))
    if not pa.types.is_string(column.type) or _share(column, r"^(https?:|/|[\w-]+\.(jpe?g|png)$)") > 0.5:
        return False
    present = column.drop_null()
    if values.to_numbers(present).is_valid().true_count > len(present) // 2:
        return _plain(name).endswith(("id", "code"))
    return not values.time_formats(present)


def unusable(name: str, column: pa.Array) -> str | None:
    """Why a column is never written, None if nothing speaks against it."""
    if column.null_count == len(column):
        return "empty"
    if pa.types.is_nested(column.type):
        return "nested"
    if _share(column, _EMAIL) > 0.5:
        return "personal data (e-mail addresses)"
    if _holds(_plain(name), PERSONAL) and not _plain(name).endswith("id"):
        return "personal data (by its name)"
    if _share(column, r"^\+[\d\s().\-/]{8,20}$") > 0.5:
        return "personal data (telephone numbers)"
    return None


def _score(role: str, name: str, column: pa.Array) -> Guess | None:
    names = NAMES[role]
    plain = _plain(name)
    if plain in names.whole:
        confidence = _EXACT - 0.005 * names.whole.index(plain)
        reason = "its name"
    elif any(word in plain for word in names.parts) and plain.endswith(names.ends):
        confidence, reason = _PART, "a word in its name"
    else:
        return None
    seen = _fits(role, plain, column)
    if not seen:
        return None
    return Guess(role, name, confidence, f"{reason}; {seen}")


def _fits(role: str, plain: str, column: pa.Array) -> str:
    """What of a column's values fits a role; empty if they do not."""
    present = column.drop_null()
    distinct = pc.count_distinct(present).as_py()
    if role in ("timestamp", "added", "time"):
        if role != "time" and _holds(plain, OTHER_TIMES):
            return ""
        forms = values.time_formats(present)
        if not forms:
            periods = role == "time" and _share(as_strings(present), r"^\d{1,4}$") == 1
            return "numbers of periods" if periods else ""
        return f"times, {forms[0]}"
    if role in ("quantity", "price", "value", "popularity"):
        mark = values.decimal_mark(present) or "point"
        share = values.to_numbers(present, mark).is_valid().true_count / len(present)
        return "numbers" if share > 0.95 and not pa.types.is_boolean(present.type) else ""
    if role == "event_type":
        names = as_strings(present).unique().to_pylist()
        known = [one for one in names if type_of(one)]
        if known and len(names) <= _FEW:
            return f"{len(names)} kinds, such as {known[0]}"
        # codes need a person: if they were ignored, views would count as purchases
        return f"{len(names)} kinds, none known" if plain in SURE_TYPES and 1 < len(names) <= _CODES else ""
    if role in ("user_id", "item_id", "session_id", "store"):
        if pa.types.is_floating(present.type) or pa.types.is_boolean(present.type):
            return ""
        return f"{distinct:,} ids in {len(column):,} rows"
    if role == "currency":
        return f"{distinct} codes" if _share(present, r"^[A-Za-z]{3}$") > 0.9 else ""
    if role == "status":
        return f"{distinct} states" if distinct <= _FEW else ""
    if role == "title" and not pa.types.is_integer(present.type):
        return f"{distinct:,} texts" if values.decimal_mark(present) is None and distinct > 1 else ""
    return f"{distinct:,} values"


def _by_content(table: str, found: dict[str, Guess], columns: dict[str, pa.Array]) -> None:
    """Finds by their values the ids that names do not tell."""
    taken = lambda: {one.column for one in found.values()}  # noqa: E731
    if "timestamp" not in found and table == "events":
        for name, column in columns.items():
            if name not in taken() and (forms := values.time_formats(column)):
                found["timestamp"] = Guess("timestamp", name, _CONTENT, f"the only times, {forms[0]}")
                break
    if "item_id" not in found and "title" in found:
        title = columns[found["title"].column]
        best, share = _determining(columns, taken(), title)
        if best and share > 0.9:
            reason = f"each of its values has one {found['title'].column} ({share:.0%} of the rows)"
            found["item_id"] = Guess("item_id", best, _CONTENT, reason)
    if table == "events" and "item_id" not in found and "title" in found:
        name = found["title"].column
        found["item_id"] = Guess("item_id", name, _CONTENT, "no column of ids; items are named by their text")
    if "user_id" not in found and "session_id" in found:
        session = columns[found["session_id"].column]
        for name, column in columns.items():
            one_user = determines(session, column)
            if (
                name not in taken()
                and _is_id(column)
                and one_user > 0.99
                and determines(column, session) < 0.9
            ):
                reason = f"each {found['session_id'].column} has one of its values"
                found["user_id"] = Guess("user_id", name, _CONTENT, reason)
                break


def _check_value(found: dict[str, Guess], columns: dict[str, pa.Array], left: dict[str, str]) -> None:
    """Takes the value away from a column that is the total of an order, not of its line."""
    if "value" not in found:
        return
    mark = lambda column: values.decimal_mark(column) or "point"  # noqa: E731
    number = lambda role: values.to_numbers(  # noqa: E731
        columns[found[role].column], mark(columns[found[role].column])
    )
    value = number("value")
    if "price" in found and "quantity" in found:
        # a line's total is at most its price times its quantity, and a discount seldom more than 70 %
        whole = pc.multiply(number("price"), number("quantity"))
        share = pc.divide(value, pc.if_else(pc.equal(whole, 0), pa.scalar(None, pa.float64()), whole))
        near = pc.and_(pc.greater(share, _DISCOUNTED), pc.less(share, _TAXED))
        of_order = (pc.mean(pc.fill_null(near, False).cast(pa.float64())).as_py() or 0) < _NEAR
    elif "session_id" in found:
        session, item = columns[found["session_id"].column], columns[found["item_id"].column]
        same = determines(session, value) > _ONE and pc.count_distinct(value).as_py() > 1
        of_order = same and determines(session, item) < _ONE
    else:
        return
    if of_order:
        left[found.pop("value").column] = "it seems to be the total of an order, not of its line"


def _determining(columns: dict[str, pa.Array], taken: set[str], of: pa.Array) -> tuple[str | None, float]:
    best: tuple[str | None, float] = (None, 0.0)
    for name, column in columns.items():
        if name in taken or not _is_id(column) or pc.count_distinct(column).as_py() > 0.8 * len(column):
            continue
        share = determines(column, of)
        if share > best[1] and determines(of, column) > 0.5:
            best = name, share
    return best


def determines(left: pa.Array, right: pa.Array) -> float:
    """Share of the rows whose `right` is the most frequent one of rows with the same `left`."""
    table = pa.table({"l": as_strings(left), "r": as_strings(right)}).filter(pc.is_valid(left))
    if not table.num_rows:
        return 0.0
    pairs = table.group_by(["l", "r"]).aggregate([([], "count_all")])
    return (
        pc.sum(pairs.group_by("l").aggregate([("count_all", "max")])["count_all_max"]).as_py()
        / table.num_rows
    )


def _is_id(column: pa.Array) -> bool:
    if pa.types.is_integer(column.type):
        return True
    return pa.types.is_string(column.type) and _share(column, r"^[\w\-.:/]{1,64}$") > 0.95


def _share(column: pa.Array, pattern: str) -> float:
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or column.null_count == len(column):
        return 0.0
    return pc.mean(pc.match_substring_regex(column, pattern).cast(pa.float64())).as_py()


def _plain(name: str) -> str:
    # RecBole names the type; of a nested field its own name and its parent's count
    plain = fold(".".join(re.sub(r":(token|float)(_seq)?$", "", name).split(".")[-2:]))
    plain = unicodedata.normalize("NFKD", plain)
    return re.sub(r"[^\w]|_", "", "".join(mark for mark in plain if not unicodedata.combining(mark)))


def _holds(plain: str, words: tuple[str, ...]) -> bool:
    # short words only whole or at the start ("age" is no part of "image" or "package")
    return any(word in plain if len(word) > 4 else plain.startswith(word) or plain == word for word in words)
