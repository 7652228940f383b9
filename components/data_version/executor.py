"""Takes the fingerprint of files by their configuration keys."""

from __future__ import annotations

import json
from collections.abc import Mapping

from components.common import fingerprint
from schema.config import Data


def files_json(data: Data, paths: Mapping[str, str]) -> str:
    """The parameter `files` of the component: where the files are, and which they are."""
    return json.dumps({"root": data.root, "paths": dict(paths)}, sort_keys=True)


def run(files: str) -> str:
    """The fingerprint of the files as they are now.

    Args:
      files: see :func:`files_json`.

    Returns:
      See :func:`components.common.fingerprint.data_version`.

    Raises:
      ConfigError: the Python package that carries the data is not installed.
      DataError: a path matches no file.
    """
    given = json.loads(files)
    data = Data(root=given["root"])
    return fingerprint.data_version({key: data.resolve(path) for key, path in given["paths"].items()})
