"""Reads a configuration file and explains in one line what is wrong with it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
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


class _GivenTwiceError(yaml.MarkedYAMLError):
    """A key that a mapping has already."""


class _Loader(yaml.SafeLoader):
    """Refuses equal keys: PyYAML keeps the last one, and what the first one said is lost.

    Values that look like a type and are none, such as the date 2020-13-45, raise YAML errors, too.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            value = str(node.value)[:80]
            raise yaml.constructor.ConstructorError(
                problem=f"'{value}' is no {kind}; correct it, or put it in quotes if it is text",
                problem_mark=node.start_mark,
            ) from error

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.ScalarNode] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            before = first.setdefault((key.tag, key.value), key)
            if before is not key:
                lines = f"lines {before.start_mark.line + 1} and {key.start_mark.line + 1}"
                raise _GivenTwiceError(problem=f"'{key.value}' is given twice, in {lines}; join the two")
        return node


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
      yaml.YAMLError: no YAML, or a mapping with equal keys.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise yaml.MarkedYAMLError(problem="it is nested too deeply") from error
    except OverflowError as error:  # of an escape such as "\UFFFFFFFF"
        raise yaml.MarkedYAMLError(problem="an escape in it is no character") from error


def parse_settings(settings: Sequence[str], flag: str = "--set") -> dict[str, Any]:
    """The overrides of a command line, for :func:`load`.

    Args:
      settings: texts ``key.path=value``, the values in YAML.
      flag: what they were given by, for messages; empty for plain arguments.

    Raises:
      ConfigError: no such text, no YAML, or a mapping with equal keys.
    """
    overrides: dict[str, Any] = {}
    for setting in settings:
        said = f"{flag} {setting}".strip()
        key, equals, text = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"{said}: expected key.path=value, e.g. retrieval.epochs=2")
        try:
            overrides[key] = parse_yaml(text)
        except _GivenTwiceError as error:
            raise ConfigError(f"{said}: {error.problem}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{said}: '{text}' is not a valid YAML value") from error
    return overrides


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the path of a YAML configuration"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except _GivenTwiceError as error:
        raise ConfigError(f"{path}: {error.problem}") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{path}{line}: not valid YAML ({problem})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections at the top level")
    return tree


def explain(error: pydantic.ValidationError) -> str:
    """All errors in one line; each names the key's path and says what to do about it."""
    messages = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"] if part != "[key]")
        if item["type"] == "extra_forbidden":
            messages.append(f"unknown key '{where}'; remove it or correct its spelling")
        elif item["type"] == "missing":
            messages.append(f"key '{where}' is missing; add it")
        elif item["type"] == "string_type" and (kind := _unquoted(item["input"])):
            messages.append(f"{where}: {item['input']} is {kind} and should be text; put it in quotes")
        else:
            text = re.sub(r"^Value error, ", "", item["msg"])
            messages.append(f"{where}: {text} (got {str(item['input'])[:80]!r})" if where else text)
    return "; ".join(messages)


def _unquoted(value: Any) -> str | None:
    """What YAML took a word without quotes for, None if that does not explain the value."""
    if isinstance(value, bool):
        return "what YAML reads for a word such as yes, no, on or off"
    if isinstance(value, int | float):
        return "a number"
    return "a date" if isinstance(value, dt.date) else None


def _find(folder: str) -> str:
    if "://" in folder:
        return folder
    here = Path(folder)
    return str(here if here.is_absolute() or here.exists() else _PROJECT / folder)
