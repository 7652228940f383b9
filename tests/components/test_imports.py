"""An executor is never another component's library: what is shared stands in components/common."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "components"
ROOMS = sorted(path.parent for path in ROOT.glob("*/__init__.py"))


def imported(path):
    """Dotted names that a module imports, with the names it takes from each."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_component_imports_no_other_component(room):
    others = {other.name for other in ROOMS} - {room.name, "common"}
    modules = list(room.rglob("*.py"))
    assert modules
    for path in modules:
        for name in imported(path):
            parts = name.split(".")
            assert parts[0] != "components" or parts[1] not in others, (
                f"{path.relative_to(ROOT)} imports {name}"
            )
