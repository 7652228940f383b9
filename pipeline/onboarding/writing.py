"""The proposed configuration as YAML, with the reasons as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pipeline.onboarding.derive import feature
from pipeline.onboarding.facts import Facts, buys_again
from pipeline.onboarding.proposal import Plan
from pipeline.onboarding.vocabulary import WEIGHTS

_TEXT_ORDER = ("title", "brand", "category_path", "category", "tags", "description")
_CATEGORICAL = ("category", "subcategory", "brand")
_MORE_TEXTS = 6
_FEW_ITEMS = 200


def sections(
    name: str,
    folder: str,
    plans: Mapping[str, Plan],
    items: pa.Table,
    facts: Facts | None,
    written: Sequence[str],
    choices: Mapping[str, Any],
) -> dict[str, Any]:
    """The configuration as a tree.

    Args:
      name: of the shop.
      folder: of the prepared tables and the schemas.
      plans: what was read.
      items: the prepared items.
      facts: of the prepared events; None without events.
      written: columns of the prepared events.
      choices: `learned` (the predicted type of event), `kept` (all types), `guests` and `time_zone`.
    """
    tree: dict[str, Any] = {"name": name, "data": {"root": folder}}
    if facts is not None:
        tree["events"] = _events(facts, written, choices)
    tree["items"] = _items(items, plans.get("items"))
    if "users" in plans and plans["users"].attributes:
        tree["users"] = _users(plans["users"])
    if "promotions" in plans:
        tree["exposures"] = _exposures(plans["promotions"])
    tree["schema_dir"] = f"{folder}/schema"
    if facts is not None:
        tree |= _learning(facts)
    if "title" in tree["items"]["text"]:
        tree["search"] = {"title": "title"}
    elif not any(_has_words(items, name) for name in tree["items"]["text"]):
        tree["search"] = {"enabled": False}  # nothing that anybody would type, and no query to learn from
    tree["serving"] = {"time_zone": choices["time_zone"]}
    return tree


def write(path: Path, tree: Mapping[str, Any], remarks: Sequence[str]) -> None:
    """Writes the YAML file, remarks on top."""
    lines = [f"# {line}" for text in remarks for line in textwrap.wrap(text, 110, subsequent_indent="  ")]
    body = yaml.safe_dump(
        dict(tree), sort_keys=False, allow_unicode=True, default_flow_style=False, width=110
    )
    path.write_text("\n".join([*lines, body]), encoding="utf-8")


def _events(facts: Facts, written: Sequence[str], choices: Mapping[str, Any]) -> dict[str, Any]:
    roles = ["user_id", "item_id", "timestamp", "event_type", "quantity", "value", "query"]
    if facts.no_session == 0:
        roles.insert(3, "session_id")
    found: dict[str, Any] = {
        "path": "events.parquet",
        "columns": {role: role for role in roles if role in written},
        "default_event_type": choices["learned"],
        "event_weights": _weights(choices),
    }
    if facts.guests:
        found["guests"] = choices["guests"]
    if facts.leave_one_out and "session_id" not in found["columns"]:
        found["session_gap_minutes"] = 0  # each event is tested by those before it
    return found


def _weights(choices: Mapping[str, Any]) -> dict[str, float]:
    """Of the types of event, the predicted one 1."""
    most = WEIGHTS[choices["learned"]]
    return {name: round(WEIGHTS[name] / most, 3) for name in choices["kept"]}


def _items(items: pa.Table, plan: Plan | None) -> dict[str, Any]:
    there = [name for name in items.schema.names if items.column(name).null_count < items.num_rows]
    text = [name for name in _TEXT_ORDER if name in there]
    if "category_path" in text and "category" in text:
        text.remove("category")
    more = [feature(name) for name in plan.texts] if plan else []
    text += [name for name in more if name in there and name not in text][:_MORE_TEXTS]
    extra = [feature(name) for name in plan.attributes] if plan else []
    categorical = [name for name in (*_CATEGORICAL, *extra) if name in there and name != "item_id"]
    categorical = [name for name in dict.fromkeys(categorical) if _varies(items, name)]
    found: dict[str, Any] = {"path": "items.parquet", "item_id": "item_id", "text": text or ["item_id"]}
    if categorical:
        found["categorical"] = {name: name for name in categorical}
    for role in ("category", "brand"):
        if role in categorical:
            found[role] = role
    for role in ("price", "added", "popularity"):
        if role in there:
            found[role] = role
    return found


def _has_words(items: pa.Table, name: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(items.column(name).cast(pa.string()), r"\pL")).as_py())


def _varies(items: pa.Table, name: str) -> bool:
    return pc.count_distinct(items.column(name)).as_py() > 1


def _users(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = {
        "path": "users.parquet",
        "user_id": "user_id",
        "categorical": {feature(name): feature(name) for name in plan.attributes},
    }
    if plan.sensitive:
        found["sensitive"] = [feature(name) for name in plan.sensitive]
    return found


def _exposures(plan: Plan) -> dict[str, Any]:
    time: dict[str, Any] = {"column": "time"}
    if plan.period:
        time |= {"unit": plan.period, "origin": plan.origin}
    found: dict[str, Any] = {
        "path": "promotions.parquet",
        "item_id": "item_id",
        "time": time,
        "channels": {feature(name): feature(name) for name in plan.attributes},
    }
    if plan.column("store"):
        found["store"] = "store"
    return found


def _learning(facts: Facts) -> dict[str, Any]:
    days = facts.window_days
    found: dict[str, Any] = {}
    if facts.leave_one_out:
        found["split"] = {"strategy": "leave_one_out"}
    elif days != 28:
        found["split"] = {"eval_days": days, "test_days": days}
    if days != 28:
        found["ranking"] = {"window_days": days, "soon_days": min(7.0, days)}
    candidates: dict[str, Any] = {}
    if facts.frequent < _FEW_ITEMS:
        candidates["min_events"] = 1 if facts.frequent < _FEW_ITEMS // 4 else 3
        found["retrieval"] = {"min_item_events": 1}
    if not buys_again(facts):
        candidates["buy_again"] = 0
        found["quality"] = {"must_beat": ["popularity", "popularity_recent"]}
    if candidates:
        found["candidates"] = candidates
    return found
