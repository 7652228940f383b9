"""Fingerprints of data and code: the parts of a component's cache key that TFX does not see.

Both are computed where the pipeline is built and passed as parameters: a changed input file
or a changed line of a component's source re-runs that component and what follows it, and
nothing else. Nothing here imports TensorFlow, TFX or (for local files) Beam.
"""

import hashlib
import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from components.common import tables


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


def code_version(*modules: str) -> str:
    """Fingerprint of the source text of modules and packages (a package: all its .py files).

    Args:
      *modules: dotted names, e.g. ``"components.event_example_gen", "schema.config"``. They
        are located, not imported (only their parent packages are).

    Returns:
      16 hexadecimal digits; independent of where the code is installed.

    Raises:
      ModuleNotFoundError: a name is no module with Python source.
    """
    digest = hashlib.sha256()
    for name in sorted(set(modules)):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise ModuleNotFoundError(f"code_version: '{name}' is no module with Python source")
        origin = Path(spec.origin)
        folder = origin.parent
        files = sorted(folder.rglob("*.py")) if spec.submodule_search_locations else [origin]
        for file in files:
            digest.update(f"{name}\0{file.relative_to(folder).as_posix()}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _stat(path: str) -> tuple[int, float]:
    if "://" not in path:
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime
    from apache_beam.io.filesystems import FileSystems

    found = FileSystems.match([path])[0].metadata_list[0]
    return found.size_in_bytes, found.last_updated_in_seconds
