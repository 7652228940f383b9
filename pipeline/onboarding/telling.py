"""What `init` shows: every column and what is done with it, what became of the rows, what follows."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline.onboarding.facts import Facts, buys_again
from pipeline.onboarding.prepare import Report
from pipeline.onboarding.proposal import Plan
from pipeline.onboarding.roles import Guess
from pipeline.onboarding.vocabulary import WEIGHTS

_SHOWN = 6


def plan_lines(plan: Plan) -> list[str]:
    """What is done with every column of a table's files."""
    first = plan.sources[0]
    more = f" and {len(plan.sources) - 1} more" if len(plan.sources) > 1 else ""
    written = f"{first.kind}"
    if first.kind == "csv":
        written = f"{first.csv.encoding}, separated by {first.csv.separator!r}"
    lines = [
        f"\n{plan.table}: {first.path}{more} ({written}): {plan.format.name if plan.format else 'a table'}"
    ]
    if plan.format and plan.format.note:
        lines.append(f"  note: {plan.format.note}")
    width = max((len(name) for name in (*plan.columns, *plan.left)), default=0)
    by_column: dict[str, list[Guess]] = {}
    for one in plan.roles.values():
        by_column.setdefault(one.column, []).append(one)
    for name in dict.fromkeys((*plan.columns, *plan.left)):
        if name in by_column:
            what = ", ".join(
                f"{one.role} ({one.confidence:.2f}: {one.reason}{_details(plan, one.role)})"
                for one in by_column[name]
            )
        elif name in plan.texts:
            what = "words about the item" + (", and an attribute" if name in plan.attributes else "")
        elif name in plan.attributes:
            kind = (
                "a sensitive attribute, slices the evaluation only"
                if name in plan.sensitive
                else "an attribute"
            )
            what = "a channel" if plan.table == "promotions" else kind
        else:
            what = f"left out: {plan.left.get(name, 'no role is known for it')}"
        lines.append(f"  {name:<{width}}  {what}")
    return lines


def _details(plan: Plan, role: str) -> str:
    if role == "user_id" and plan.pseudonyms:
        return "; personal data, kept as a keyed hash only"
    if role in plan.times and str(plan.times[role]) not in plan.roles[role].reason:
        return f"; {plan.times[role]}"
    if role in plan.marks and plan.marks[role] == "comma":
        return "; decimals behind a comma"
    if role == "category" and plan.separator:
        return f"; paths divided by '{plan.separator.strip()}'"
    return ""


def type_lines(
    counts: Mapping[str, int], types: Mapping[str, str], learned: str, kept: Sequence[str]
) -> list[str]:
    """What becomes of each type of event."""
    lines = []
    for name, count in counts.items():
        kind = types.get(name)
        if kind == learned:
            what = f"{kind}: predicted"
        elif kind and kind in kept:
            what = f"{kind}, weighs {WEIGHTS[kind]:g}: history, and learned from"
        elif kind:
            what = f"{kind}: left out"
        else:
            what = f"unknown, left out (--answer type.{name}=purchase if it is one)"
        lines.append(f"  event type '{name}', {count:,} rows: {what}")
    return lines


def report_lines(report: Report) -> list[str]:
    """What became of the rows of the events."""
    lines = [left_out("events", report.kept, report.out, report.rows)]
    if report.service:
        some = ", ".join(f"{name} ({count:,})" for name, count in report.service.most_common(_SHOWN))
        lines.append(f"  no goods: {some} (--answer no_goods=keep keeps them)")
    return lines


def left_out(table: str, kept: int, out: Counter[str], rows: int | None = None) -> str:
    """One line on kept rows, and one each on reasons why others were not."""
    of = f" of {rows:,}" if rows is not None else ""
    lines = [f"\n{table}: {kept:,}{of} rows kept"]
    lines += [f"  left out: {count:,} {reason}" for reason, count in out.most_common()]
    return "\n".join(lines)


def fact_lines(seen: Facts) -> list[str]:
    """What the events say about how to learn from them."""
    day = lambda seconds: dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d")  # noqa: E731
    lines = [
        f"events: {seen.rows:,} of {seen.users:,} users and {seen.items:,} items, "
        f"{day(seen.first)} to {day(seen.last)}"
    ]
    if seen.unknown:
        lines.append(f"  {seen.unknown:.1%} of them are of items that the catalogue lacks")
    if seen.leave_one_out:
        lines.append("  few of the last days' users were there before: of each user the last session is test")
    else:
        lines.append(f"  evaluation and label windows of {seen.window_days:g} days")
    if not buys_again(seen):
        lines.append("  hardly anything is bought twice: no candidates from what a user bought before")
    return lines


def head(plans: Mapping[str, Plan]) -> list[str]:
    """Remarks at the top of the YAML."""
    lines = [
        "Proposed by `shelfwise init`, which prepared the tables below data.root; for new files run it again."
    ]
    for plan in plans.values():
        kind = plan.format.name if plan.format else "columns found by name and content"
        roles = ", ".join(f"{one.role} from '{one.column}'" for one in plan.roles.values())
        lines.append(
            f"{plan.table}: {', '.join(source.path for source in plan.sources[:3])} ({kind}): {roles}."
        )
    return lines
