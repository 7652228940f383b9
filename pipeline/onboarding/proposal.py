"""What is to be done with every column of a shop's files."""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.onboarding import joining, values
from pipeline.onboarding import roles as roles_lib
from pipeline.onboarding.files import Source, together
from pipeline.onboarding.flatten import flat, fold, lookups
from pipeline.onboarding.formats import Format, recognise
from pipeline.onboarding.questions import Answers
from pipeline.onboarding.roles import Guess, type_of
from pipeline.onboarding.vocabulary import SERVICE_CODES, SERVICE_WORDS
from schema.errors import ConfigError, DataError

_NEEDED = {
    "events": {"user_id": "user", "item_id": "item", "timestamp": "time"},
    "items": {"item_id": "item"},
    "users": {"user_id": "user"},
    "promotions": {"item_id": "item", "time": "time"},
}
_TIMES = ("timestamp", "added", "time")
_NUMBERS = ("quantity", "price", "value", "popularity")
_STRENGTH = ("purchase", "cart", "favourite", "view")
_SEPARATORS = (" > ", ">", "|", " / ", "/")
_PRICED = 0.8  # share of the rows with a price, below which prices are not used
_NUMBERED = 0.8  # share of the rows whose item has a digit in its id, where ids are numbers
_MANY = 0.2  # share of the values that hold a separator of category paths


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one table is made of files.

    Attributes:
      table: events, items, users or promotions.
      sources: its files.
      columns: names of the columns of its rows.
      format: the export that it is, if it is a known one.
      others: further files that the format's `shape` needs, by its name for them.
      roles: role -> column.
      left: column -> why it is left out.
      texts: further columns of words about items.
      attributes: columns that are attributes of items or users.
      sensitive: those of them that are never a feature.
      times: role -> how its column writes times.
      marks: role -> what stands before the decimals of its column.
      period: week or day, where the times of promotions are numbers of these; else "".
      origin: when period 1 begins, as a person wrote it.
      separator: what stands between names of a category path, "" where categories are no paths.
      pseudonyms: whether users are named by keyed hashes.
      service: pattern of item ids that are no goods.
    """

    table: str
    sources: tuple[Source, ...]
    columns: tuple[str, ...]
    format: Format | None
    others: Mapping[str, pa.Table]
    roles: Mapping[str, Guess]
    left: Mapping[str, str]
    texts: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    times: Mapping[str, values.TimeFormat] = dataclasses.field(default_factory=dict)
    marks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    period: str = ""
    origin: str = ""
    separator: str = ""
    pseudonyms: bool = False
    service: str = ""

    def shaped(self, table: pa.Table) -> pa.Table:
        """Flat rows of rows as read."""
        if self.format and self.format.shape:
            return self.format.shape(table, self.others)
        return flat(table)

    @property
    def whole(self) -> bool:
        """Whether :meth:`shaped` needs all rows of a file together."""
        return bool(self.format and self.format.whole)

    def column(self, role: str) -> str | None:
        """The column of a role, None without one."""
        return self.roles[role].column if role in self.roles else None


def plans(given: Mapping[str, Sequence[Source]], answers: Answers) -> dict[str, Plan]:
    """A plan of each table.

    Args:
      given: table -> files that a person named for it.
      answers: what a person says.

    Raises:
      DataError: files that cannot be one table, or hold none.
      ConfigError: a column that nobody can tell.
    """
    found = {}
    for table, sources in given.items():
        found |= _plans_of(table, list(sources), answers, {name for name in given if given[name]})
    return {name: found[name] for name in _NEEDED if name in found}


def _plans_of(table: str, sources: list[Source], answers: Answers, named: set[str]) -> dict[str, Plan]:
    """The plan of a table, and of further ones that its files hold and nobody named."""
    groups: dict[str, dict[Format, list[Source]]] = {}
    unknown: list[Source] = []
    for source in sources:
        form = recognise(source.columns, table) or recognise(source.columns)
        if form is None or (form.table != table and form.table in named):
            unknown.append(source)
        else:
            groups.setdefault(form.table, {}).setdefault(form, []).append(source)
    found = {}
    for name, forms in groups.items():
        if len(forms) > 1:
            kinds = "; ".join(f"{form.name}: {files[0].path}" for form, files in forms.items())
            raise DataError(f"--{table}: files of several kinds ({kinds}); give those of one")
        ((form, files),) = forms.items()
        others, unknown = _others(form, unknown)
        found[name] = _plan(name, files, form, others, answers)
    if table in found:
        return found
    by_header: dict[frozenset[str], list[Source]] = {}
    for source in unknown:
        by_header.setdefault(frozenset(fold(name) for name in source.columns), []).append(source)
    if len(by_header) == 2 and table == "events" and (halves := joining.halves(*by_header.values())):
        form, lines, heads = halves
        others = {joining.HEADS: together([part for one in heads for part in one.tables(whole=True)])}
        return found | {table: _plan(table, lines, form, others, answers)}
    if len(by_header) > 1:
        paths = ", ".join(group[0].path for group in by_header.values())
        raise DataError(f"--{table}: {paths} have different columns; give the files of one table")
    if not unknown:
        raise DataError(f"--{table}: the files are {', '.join(found) or 'empty'}, none of them {table}")
    return found | {table: _plan(table, unknown, None, {}, answers)}


def _others(form: Format, unknown: list[Source]) -> tuple[dict[str, pa.Table], list[Source]]:
    others: dict[str, list[pa.Table]] = {}
    rest = []
    for source in unknown:
        name = form.joins(source.columns)
        if name is None:
            rest.append(source)
        else:
            others.setdefault(name, []).extend(source.tables(whole=True))
    return {name: together(parts) for name, parts in others.items() if parts}, rest


def _plan(
    table: str, sources: list[Source], form: Format | None, others: dict[str, pa.Table], answers: Answers
) -> Plan:
    plan = Plan(table, tuple(sources), sources[0].columns, form, others, {}, {})
    heads = [source.sample() for source in sources[:1] + sources[1:][-1:]]
    with lookups() as read:
        sample = together([plan.shaped(head) for head in heads])
    if not sample.num_rows:
        raise DataError(f"{sources[0].path}: the file has no rows; give a file with data")
    left: dict[str, str] = {}
    if form is not None and form.roles:
        columns = form.columns_of(tuple(sample.schema.names))
        found = {role: Guess(role, name, 1.0, f"the format {form.name}") for role, name in columns.items()}
        left = {
            name: roles_lib.unusable(name, sample.column(name).combine_chunks())
            or "the format has no use for it"
            for name in sample.schema.names
            if name not in columns.values()
        }
        unread = [name for name in heads[0].schema.names if name not in {*read, *sample.schema.names}]
        for name in unread if form.shape else ():
            column = heads[0].column(name).combine_chunks()
            left[name] = roles_lib.unusable(name, column) or "the format has no use for it"
    else:
        found, left = roles_lib.guess(table, sample)
    _answered(table, found, left, sample, answers)
    if table == "events":
        _check_money(found, left, sample)
    for source in sources:
        left |= dict.fromkeys(source.repeated, "its name is there twice")
    taken = {one.column for one in found.values()}
    few, sensitive, texts = [], [], []
    if table != "events" and (form is None or form.attributes):
        if table == "items":
            texts, few = roles_lib.words(sample, taken)
        else:
            few, sensitive = roles_lib.attributes(sample, taken)
        left = {name: reason for name, reason in left.items() if name not in {*few, *texts}}
    times = _times(table, found, sample, answers)
    period, origin = ("", "") if table != "promotions" or "time" in times else _period(found, answers)
    return dataclasses.replace(
        plan,
        period=period,
        origin=origin,
        columns=tuple(sample.schema.names),
        roles=found,
        left=left,
        texts=tuple(texts),
        attributes=tuple(few),
        sensitive=tuple(sensitive),
        times=times,
        marks=_marks(found, sample, answers),
        separator=_separator(form, found, sample),
        service=_service(found, sample, answers) if table == "events" else "",
        pseudonyms="user_id" in found and _is_personal(found["user_id"].column, sample),
    )


def _check_money(found: dict[str, Guess], left: dict[str, str], sample: pa.Table) -> None:
    """Takes their role from columns of money that many purchases have no number in."""
    if "event_type" in found:
        names = values.to_ids(sample.column(found["event_type"].column).combine_chunks())
        bought = [name for name in names.unique().drop_null().to_pylist() if type_of(name) == "purchase"]
        if bought:
            sample = sample.filter(pc.is_in(names, pa.array(bought)))
    for role in ("price", "value"):
        if role in found and found[role].reason != "your answer":
            column = sample.column(found[role].column).combine_chunks()
            numbers = values.to_numbers(column, values.decimal_mark(column) or "point")
            share = numbers.is_valid().true_count / max(len(numbers), 1)
            if share < _PRICED:
                left[found.pop(role).column] = f"{1 - share:.0%} of the purchases have no number there"


def _answered(
    table: str, found: dict[str, Guess], left: dict[str, str], sample: pa.Table, answers: Answers
) -> None:
    """Takes over what a person says about columns, and asks for what is missing."""
    for role, name in answers.starting(f"{table}.").items():
        if role not in (*roles_lib.ROLES[table], "session_id"):
            raise ConfigError(f"--answer {table}.{role}: roles are {', '.join(roles_lib.ROLES[table])}")
        _give(found, left, role, name, sample, table)
    for role, what in _NEEDED[table].items():
        if role not in found:
            question = f"{table}: which column is the {what} ({', '.join(sample.schema.names)})"
            _give(found, left, role, answers.choose(f"{table}.{role}", question, None), sample, table)


def _give(
    found: dict[str, Guess], left: dict[str, str], role: str, name: str, sample: pa.Table, table: str
) -> None:
    if name == "none":
        if role in found:
            left[found.pop(role).column] = "left out by your answer"
        return
    if name not in sample.schema.names:
        raise ConfigError(
            f"--answer {table}.{role}={name}: no such column; columns are {', '.join(sample.schema.names)}"
        )
    for other in [other for other, one in found.items() if one.column == name]:
        del found[other]
    left.pop(name, None)
    found[role] = Guess(role, name, 1.0, "your answer")


def _times(
    table: str, found: Mapping[str, Guess], sample: pa.Table, answers: Answers
) -> dict[str, values.TimeFormat]:
    forms = {}
    for role in _TIMES:
        if role not in found:
            continue
        name = found[role].column
        column = sample.column(name).combine_chunks()
        fitting = values.time_formats(column)
        if not fitting:
            if role == "timestamp":
                first = column.drop_null()[:1].to_pylist()
                raise DataError(
                    f"{table}: column '{name}' holds no times that can be read (such as {first}); name "
                    f"another by --answer {table}.{role}=COLUMN"
                )
            continue
        forms[role] = fitting[0]
        if fitting[0].order and len({form.order for form in fitting}) > 1:
            best = min(fitting, key=lambda form: _disorder(values.to_times(column, form, "UTC")))
            options = ("day_first", "month_first")
            order = answers.choose("dates", f"{table}.{name}: which comes first", best.order, options)
            forms[role] = next(form for form in fitting if form.order == order)
    return forms


def _period(found: Mapping[str, Guess], answers: Answers) -> tuple[str, str]:
    """The period that a column of promotions counts, and when the first one begins."""
    name = found["time"].column
    period = "day" if "day" in fold(name) else "week"
    question = f"promotions: when does {period} 1 of column '{name}' begin, such as 2024-01-01"
    origin = answers.choose("origin", question, None)
    try:
        return period, dt.datetime.fromisoformat(origin).isoformat()
    except ValueError as error:
        raise ConfigError(f"--answer origin={origin}: no date, such as 2024-01-01") from error


def _disorder(times: pa.Array) -> tuple[int, int]:
    """How often a time is before the one above, and the span: of two readings the smaller is likelier."""
    micros = times.drop_null().cast(pa.int64()).to_numpy()
    return int((np.diff(micros) < 0).sum()), int(np.ptp(micros)) if len(micros) else 0


def _marks(found: Mapping[str, Guess], sample: pa.Table, answers: Answers) -> dict[str, str]:
    decided = answers.get("decimal")
    marks = {}
    for role in _NUMBERS:
        if role in found:
            column = sample.column(found[role].column).combine_chunks()
            marks[role] = values.decimal_mark(column)
    known = next((mark for mark in marks.values() if mark), "point")  # a file has one style
    return {role: decided or mark or known for role, mark in marks.items()}


def _separator(form: Format | None, found: Mapping[str, Guess], sample: pa.Table) -> str:
    if "category" not in found:
        return ""
    text = values.to_text(sample.column(found["category"].column).combine_chunks()).drop_null()
    for mark in (form.separator, *_SEPARATORS) if form else _SEPARATORS:
        if mark and len(text):
            share = pc.mean(pc.match_substring(text, mark).cast(pa.float64())).as_py()
            if share >= (0.01 if form and mark == form.separator else _MANY):
                return mark
    return ""


def _service(found: Mapping[str, Guess], sample: pa.Table, answers: Answers) -> str:
    if answers.get("no_goods") == "keep":
        return "^$"
    ids = values.to_ids(sample.column(found["item_id"].column).combine_chunks()).drop_null()
    digits = pc.sum(pc.match_substring_regex(ids, r"\d")).as_py() or 0
    # "M" is a manual line where ids are numbers, and may be an item where they are letters
    words = [SERVICE_WORDS, *([SERVICE_CODES] if digits > _NUMBERED * len(ids) else [])]
    return f"(?i)^({'|'.join(words)})$"


def _is_personal(name: str, sample: pa.Table) -> bool:
    return bool((roles_lib.unusable(name, sample.column(name).combine_chunks()) or "").startswith("personal"))


def zone_of(found: Mapping[str, Plan], answers: Answers) -> str:
    """The zone of times that say none.

    Raises:
      ConfigError: no zone of the IANA database.
    """
    naive = [
        f"{plan.table}.{plan.roles[role].column}"
        for plan in found.values()
        for role, form in plan.times.items()
        if not form.zoned and not (plan.format and plan.format.zone)
    ]
    if not naive:
        return answers.get("time_zone") or "UTC"
    question = f"time zone of {', '.join(naive)}, such as Europe/Paris"
    zone = answers.choose("time_zone", question, "UTC")
    try:
        zoneinfo.ZoneInfo(zone)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise ConfigError(f"--answer time_zone={zone}: no time zone of the IANA database") from error
    return zone


def learned_type(plan: Plan, counts: Mapping[str, int], types: Mapping[str, str]) -> str:
    """The type of event that is predicted: purchases, or the strongest that there is.

    Raises:
      DataError: no event is of a known type.
    """
    if not plan.column("event_type"):
        return "purchase"
    there = {types[name] for name in counts if name in types}
    for name in _STRENGTH:
        if name in there:
            return name
    names = ", ".join(sorted(counts)[:20])
    raise DataError(
        f"{plan.sources[0].path}: column '{plan.column('event_type')}' has {names}, none of which is known; "
        "say what is a purchase by --answer type.NAME=purchase"
    )
