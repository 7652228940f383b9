"""Reads a configuration file and explains in one line what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pydantic
import yaml

from schema.config.shop import Config
from schema.errors import ConfigError

_PROJECT = Path(__file__).resolve().parents[2]  # the folder that holds the package `schema`


def load(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Reads and checks a configuration file.

    Args:
      path: the YAML file.
      overrides: values by dotted path that replace the file's (``{"data.sample_users": 100}``).

    Returns:
      The checked configuration. A relative `schema_dir` is resolved against the working directory,
      then against the folder that holds the `schema` package.

    Raises:
      ConfigError: unreadable file, wrong YAML, unknown key, wrong type or value.
    """
    path = Path(path)
    tree = _read(path)
    for dotted, value in (overrides or {}).items():
        node = tree
        *parents, leaf = dotted.split(".")
        for key in parents:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
            if not isinstance(node, dict):
                raise ConfigError(f"{path}: '{dotted}' goes below '{key}', which is a value and no section")
        node[leaf] = value
    try:
        config = Config.model_validate(tree)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}") from error
    return config.model_copy(update={"schema_dir": _find(config.schema_dir)})


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the path of a YAML configuration"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise ConfigError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections at the top level")
    return tree


def explain(error: pydantic.ValidationError) -> str:
    """All errors in one line; each names the key's path and says what to do about it."""
    messages = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            messages.append(f"unknown key '{where}'; remove it or correct its spelling")
        elif item["type"] == "missing":
            messages.append(f"key '{where}' is missing; add it")
        else:
            text = re.sub(r"^Value error, ", "", item["msg"])
            messages.append(f"{where}: {text} (got {str(item['input'])[:80]!r})" if where else text)
    return "; ".join(messages)


def _find(folder: str) -> str:
    if "://" in folder:
        return folder
    here = Path(folder)
    return str(here if here.is_absolute() or here.exists() else _PROJECT / folder)
