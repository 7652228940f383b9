"""The figures of a release as Markdown tables, and the documents that show them.

    python -m benchmarks.tables            # prints every table of the latest release
    python -m benchmarks.tables --write    # puts them into docs/benchmarks.md

`benchmarks/results/<release>.json` holds each table with the command that printed its figures. A
document shows a table between `<!-- table: NAME -->` and `<!-- end -->`, so that a figure stands in
one place and `tests/benchmarks/test_tables.py` can compare the two.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
_SHOWN = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def latest() -> Path:
    """The results of the highest release.

    Raises:
      FileNotFoundError: there are none.
    """
    found = sorted(
        RESULTS.glob("*.json"), key=lambda path: [int(part) for part in re.findall(r"\d+", path.stem)]
    )
    if not found:
        raise FileNotFoundError(f"{RESULTS}: no results of any release")
    return found[-1]


def markdown(table: Mapping[str, Any]) -> str:
    """A table in Markdown: header, rows, and the commands that print its figures.

    Args:
      table: `columns` and `rows` (cells as text; a row starts with its name), `commands`, `measured`.
    """
    rows = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    commands = "; ".join(f"`{command}`" for command in table["commands"])
    return "\n".join([*lines, "", f"Measured {table['measured']} by {commands}.", ""])


def fill(document: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """A document with every table that it shows replaced by the one of `tables`.

    Raises:
      KeyError: it shows a table that the results do not have.
    """
    return _SHOWN.sub(lambda found: f"{found[1]}{markdown(tables[found[2]])}{found[3]}", document)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    tables = json.loads(latest().read_text(encoding="utf-8"))["tables"]
    if options.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(fill(text, tables), encoding="utf-8")
        return 0
    for name, table in tables.items():
        print(f"## {name}: {table['title']}\n\n{markdown(table)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
