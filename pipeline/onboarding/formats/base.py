"""What a recognised export is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import pyarrow as pa

from pipeline.onboarding.flatten import fold

Shape = Callable[[pa.Table, Mapping[str, pa.Table]], pa.Table]


@dataclasses.dataclass(frozen=True, eq=False)
class Format:
    """An export that is recognised by its header and mapped whole.

    Attributes:
      name: as a person knows it.
      table: the table that its rows are of.
      needs: columns that it has, compared by :func:`fold`.
      roles: role -> columns that may have it, after `shape`; the first that is there has it.
      lacks: columns that it does not have.
      any_of: columns of which it has one at least.
      upper: whether its columns are in upper case.
      joined: name -> needed columns of further files that `shape` is given whole.
      shape: makes flat rows, one an event, item or user, of the file's rows; None where they are.
      whole: whether `shape` needs all rows of a file together.
      zone: zone of times that say none; None where it is the shop's.
      separator: what stands between the names of a category path.
      root: first name of category paths that says nothing.
      words: event type as written -> one of the types of `roles.TYPES`.
      no_user: words that mean "no user".
      ordered_only: the times only say the order of a user's events.
      attributes: whether further columns with few values are attributes; else they are left out.
      note: what a person should know.
    """

    name: str
    table: Literal["events", "items", "users"]
    needs: tuple[str, ...]
    roles: Mapping[str, str | tuple[str, ...]]
    lacks: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    upper: bool = False
    joined: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    shape: Shape | None = None
    whole: bool = False
    zone: str | None = None
    separator: str = ">"
    root: str = ""
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    no_user: tuple[str, ...] = ()
    ordered_only: bool = False
    attributes: bool = False
    note: str = ""

    def matches(self, columns: tuple[str, ...]) -> bool:
        """Whether a file with these columns is of the format."""
        folded = {fold(name) for name in columns}
        if not {fold(name) for name in self.needs} <= folded:
            return False
        if self.upper and not {name.upper() for name in self.needs} <= set(columns):
            return False
        if self.any_of and not {fold(name) for name in self.any_of} & folded:
            return False
        return not {fold(name) for name in self.lacks} & folded

    def joins(self, columns: tuple[str, ...]) -> str | None:
        """The name under which `shape` wants a file with these columns; None if it does not."""
        folded = {fold(name) for name in columns}
        for name, needs in self.joined.items():
            if {fold(need) for need in needs} <= folded:
                return name
        return None

    def columns_of(self, columns: tuple[str, ...]) -> dict[str, str]:
        """Role -> its column among those of the shaped rows."""
        known = {fold(name): name for name in columns}
        found = {}
        for role, given in self.roles.items():
            for name in (given,) if isinstance(given, str) else given:
                if fold(name) in known:
                    found[role] = known[fold(name)]
                    break
        return found
