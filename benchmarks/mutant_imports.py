"""Which modules of ours can be imported once for all mutants of a file: those that do not import it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path


def apart_from(names: Sequence[str], path: Path, root: Path) -> list[str]:
    """The modules out of `names` that import a file neither themselves nor through others.

    Args:
      names: modules of ours, in the order in which they were imported.
      path: the file.
      root: folder that they are below.
    """
    changed = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    known = set(names)

    @functools.cache
    def direct(name: str) -> frozenset[str]:
        base = root.joinpath(*name.split("."))
        file = next((one for one in (base.with_suffix(".py"), base / "__init__.py") if one.is_file()), None)
        found = set(_imported(ast.parse(file.read_text()))) if file else set()
        parents = {one.rpartition(".")[0] for one in [name, *found]}
        return frozenset((found | parents) & (known | {changed}))

    def reached(name: str) -> set[str]:
        seen, todo = {name}, [name]
        while todo:
            new = direct(todo.pop()) - seen
            seen |= new
            todo += new
        return seen

    tests = ("test_", "conftest")  # pytest itself imports these
    return [
        name
        for name in names
        if not name.rpartition(".")[2].startswith(tests) and changed not in reached(name)
    ]


def _imported(node: ast.AST) -> Iterator[str]:
    """Names imported when the module is; those of functions are when they are called."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imported(child)
