"""Schemas of the prepared tables, as text: strict in shapes and types, open in values."""

from __future__ import annotations

import dataclasses
import math

import pyarrow as pa
import pyarrow.compute as pc

from components.catalog_example_gen.executor import item_roles, user_roles
from components.catalog_example_gen.exposures import exposure_roles
from components.common.tables import Role
from pipeline.onboarding.facts import Facts
from schema import names as F
from schema.config import Config

_LATEST = 4_102_444_800  # 2100-01-01
_SLACK = 0.5  # of the share of examples that have an attribute, what a later table may lose
_MEANT = "Proposed by `shelfwise init` from the data; review it (schema/README.md)."


@dataclasses.dataclass(frozen=True)
class _Feature:
    name: str
    type: str
    shape: str
    presence: float = 1.0
    domain: str = ""
    comment: str = ""

    def text(self) -> str:
        count = "min_count: 1" if self.presence > 0 else "min_count: 0"
        lines = [f"  # {self.comment}"] if self.comment else []
        lines += [
            f'  name: "{self.name}"',
            f"  type: {self.type}",
            f"  presence {{ min_fraction: {self.presence:g} {count} }}",
        ]
        lines += [f"  {line}" for line in (self.shape, self.domain) if line]
        return "\n".join(["feature {", *lines, "}"])


_ONE = "shape { dim { size: 1 } }"
_SOME = "value_count { min: 1 max: 1 }"
_LIST = "value_count { min: 1 }"


def items(config: Config, table: pa.Table) -> str:
    """The schema of the catalogue's examples.

    Args:
      config: the proposed configuration.
      table: the prepared items.
    """
    found = [_attribute(role, table) for role in item_roles(config.items)]
    if config.exposures:
        found.append(_Feature("exposure_week", "INT", "", domain=f"int_domain {{ min: 0 max: {_LATEST} }}"))
        channels = [f"exposure_{name}" for name in config.exposures.channels]
        found += [_Feature(name, "FLOAT", "", domain=_floats(0, None)) for name in channels]
        assert exposure_roles(config.exposures)
    return _text(f"The catalogue: {table.num_rows:,} items.", found)


def users(config: Config, table: pa.Table) -> str:
    """The schema of the users' examples; arguments as for :func:`items`."""
    assert config.users is not None
    return _text(
        f"The users: {table.num_rows:,} with attributes.",
        [_attribute(role, table) for role in user_roles(config.users)],
    )


def events(config: Config, facts: Facts) -> str:
    """The schema of the sessions."""
    assert config.events is not None
    kinds = 'domain: "event_type"'
    found = [
        _Feature("session_id", "BYTES", _ONE),
        _Feature("user_id", "BYTES", _ONE),
        _Feature(
            *("timestamp", "INT", _ONE),
            domain=f"int_domain {{ min: {facts.first} max: {_LATEST} }}",
            comment="Unix seconds; nothing is older than the first event seen.",
        ),
        _Feature("target_item_id", "BYTES", _LIST),
        _Feature("target_event_type", "BYTES", _LIST, domain=kinds),
        _Feature("target_weight", "FLOAT", _LIST, domain=_floats(0, 100)),
        _Feature("target_quantity", "FLOAT", _LIST, domain=_floats(0, None)),
        _Feature("target_value", "FLOAT", _LIST, domain=_floats(0, None)),
        _Feature("history_item_id", "BYTES", ""),
        _Feature("history_age_days", "FLOAT", "", domain=_floats(0, None)),
        _Feature("history_event_type", "BYTES", "", domain=kinds),
    ]
    if config.events.columns.query:
        found.append(_Feature("target_query", "BYTES", _LIST))
    found += [_Feature(F.context(name), "BYTES", _ONE) for name in config.events.context]
    names = "".join(f'  value: "{name}"\n' for name in config.events.event_weights)
    domain = f'string_domain {{\n  name: "event_type"\n{names}}}'
    return _text(f"The sessions: {facts.rows:,} events.", found) + domain + "\n"


def _attribute(role: Role, table: pa.Table) -> _Feature:
    if role.required:
        return _Feature(role.name, "BYTES", _ONE)
    column = table.column(role.column)
    missing = column.null_count
    if pa.types.is_string(column.type):
        missing += pc.sum(pc.equal(column, "")).as_py() or 0
    share = 1 - missing / max(table.num_rows, 1)
    least = math.floor(share * _SLACK * 100) / 100
    kind = {"number": "FLOAT", "timestamp": "INT"}.get(role.kind, "BYTES")
    domain = _floats(None, None) if kind == "FLOAT" else ""
    seen = f"In {share:.1%} of the examples."
    return _Feature(role.name, kind, _SOME, least, domain, seen)


def _floats(low: float | None, high: float | None) -> str:
    limits = "".join(
        f"{name}: {value:g} " for name, value in (("min", low), ("max", high)) if value is not None
    )
    return f"float_domain {{ {limits}disallow_nan: true disallow_inf: true }}"


def _text(title: str, features: list[_Feature]) -> str:
    head = [f"# {title} {_MEANT}", "dataset_constraints { min_examples_count: 1 }"]
    return "\n".join([*head, *(feature.text() for feature in features)]) + "\n"
