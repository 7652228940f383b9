"""Fingerprints of data and code: the parts of a component's cache key that TFX does not see.

Both are computed where the pipeline is built and passed as parameters: a changed input file
or a changed line of a component's source re-runs that component and what follows it, and
nothing else. Nothing here imports TensorFlow, TFX or (for local files) Beam.
"""

import ast
import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from components.common import tables

_ROOT = Path(__file__).resolve().parents[2]
_FIRST_PARTY = ("components", "kubeflow", "models", "pipeline", "schema", "serving", "shelfwise_env")

#: Where the closure of imports ends: modules (a package: with all that is in it) whose change cannot
#: change what a component computes, and why. Each entry is reviewed; a wrong one serves stale models.
CONTRACTS = {
    "schema.config": "a component sees settings only as values, which are its parameter `config`",
    "schema.errors": "says how a failure reads; a failed execution is never cached",
    "components.common.artifact_types": "TFX compares the types of inputs and outputs itself",
}

#: Distributions whose version is part of every cache key; those that are not installed do not count.
_LIBRARIES = (
    *("tfx", "tensorflow", "tensorflow-cpu", "tensorflow-text"),
    *("tf-keras", "keras", "keras-hub", "keras-nlp"),
)


def data_version(paths: Iterable[str] | Mapping[str, str]) -> str:
    """Fingerprint (path, size, modification time) of the input files.

    Args:
      paths: files, URLs or glob patterns; as a mapping, by the configuration key that names
        each (``{"events.path": "/data/transactions.parquet"}``), which errors then name.

    Returns:
      16 hexadecimal digits.

    Raises:
      DataError: a path matches no file.
    """
    named = paths.items() if isinstance(paths, Mapping) else [("", path) for path in paths]
    digest = hashlib.sha256()
    for key, pattern in sorted(named):
        for path in tables.match(pattern, key):
            size, modified = _stat(path)
            digest.update(f"{path}\0{size}\0{modified}\n".encode())
    return digest.hexdigest()[:16]


def code_version(module: str) -> str:
    """Fingerprint of the code that a component runs.

    It covers the source of the module and of every first-party module that it imports, directly or
    not, up to `CONTRACTS`, and the versions of TFX, TensorFlow, TensorFlow Text and Keras. Nothing is
    imported.

    Args:
      module: dotted name of the component's package (all modules in it count) or of a module, e.g.
        ``"components.event_example_gen"``.

    Returns:
      16 hexadecimal digits; independent of where the code is installed.

    Raises:
      ModuleNotFoundError: there is no such first-party module.
    """
    return _sources().version(module)


class Sources:
    """The first-party modules below a folder, and what imports what, read from their source.

    An import counts wherever it stands, inside a function too, unless only type checkers see it. So
    does a string that is the dotted name of a module: what is started with ``python -m`` or imported
    by name.

    Args:
      root: the folder that holds the packages `components`, `models`, ...
    """

    def __init__(self, root: Path):
        self._root = root
        self._libraries = library_versions()
        self._read: dict[str, tuple[tuple[int, int], _Module]] = {}

    def version(self, module: str) -> str:
        """See :func:`code_version`."""
        digest = hashlib.sha256()
        for name in sorted(self.closure(module)):
            digest.update(f"{name}\0{self._module(name).digest}\n".encode())
        for library, version in self._libraries.items():
            digest.update(f"{library}=={version}\n".encode())
        return digest.hexdigest()[:16]

    def closure(self, module: str) -> frozenset[str]:
        """Names of the modules that count for a module or package; see :func:`code_version`."""
        if self._file(module) is None:
            raise ModuleNotFoundError(f"code_version: '{module}' is no module with Python source")
        waiting = [module, *self._inside(module)]
        found: set[str] = set()
        passed: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in found or name in passed:
                continue
            # importing a.b.c runs the __init__ of a and of a.b first, whether a.b.c counts or not
            waiting += [parent] if (parent := name.rpartition(".")[0]) else []
            if _is_cut(name):
                passed.add(name)
            else:
                found.add(name)
                waiting += self._module(name).names
        return frozenset(found)

    def _inside(self, package: str) -> list[str]:
        folder = self._root.joinpath(*package.split("."))
        return [
            ".".join(path.relative_to(self._root).with_suffix("").parts)
            for path in sorted(folder.rglob("*.py"))
            if path.name != "__init__.py"
        ]

    def _file(self, name: str) -> str | None:
        if name.partition(".")[0] not in _FIRST_PARTY:
            return None
        path = os.path.join(self._root, *name.split("."))
        candidates = (os.path.join(path, "__init__.py"), f"{path}.py")
        return next((candidate for candidate in candidates if os.path.isfile(candidate)), None)

    def _module(self, name: str) -> "_Module":
        path = self._file(name)
        assert path is not None, name
        stat = os.stat(path)
        stamp = (stat.st_mtime_ns, stat.st_size)
        if path not in self._read or self._read[path][0] != stamp:
            source = Path(path).read_bytes()
            package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
            imported = set(_imported(ast.parse(source, path), package))
            names = frozenset(each for each in imported if self._file(each))
            self._read[path] = (stamp, _Module(hashlib.sha256(source).hexdigest(), names))
        return self._read[path][1]


def library_versions() -> dict[str, str]:
    """Version of each installed library whose release may change what a component computes."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class _Module(NamedTuple):
    """A source file: its SHA-256, and the first-party modules that it imports itself."""

    digest: str
    names: frozenset[str]


@functools.cache
def _sources() -> Sources:
    return Sources(_ROOT)


def _is_cut(name: str) -> bool:
    return any(name == cut or name.startswith(f"{cut}.") for cut in CONTRACTS)


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that a syntax tree may import; `package` is what relative imports start from."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            yield node.value
            yield f"{node.value}.__main__"
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _stat(path: str) -> tuple[int, float]:
    if "://" not in path:
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime
    from apache_beam.io.filesystems import FileSystems

    found = FileSystems.match([path])[0].metadata_list[0]
    return found.size_in_bytes, found.last_updated_in_seconds
