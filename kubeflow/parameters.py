"""Numbers of the configuration that are given when a run is started, not when the pipeline is compiled.

A component has its settings as one JSON text. Where a number is a parameter of the pipeline, the compiled
text has a placeholder of it, ``{{$.inputs.parameters['pipelinechannel--split_test_days']}}``, as the KFP
SDK writes f-strings: every back end puts the value there before the command starts.

Which numbers of which texts these are is found by compiling twice, the second time with numbers that
occur nowhere else. Whatever else differs between the two was decided by the number as it was compiled,
and such a number cannot be a parameter.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pydantic

from kubeflow.spec import tasks
from schema.config import Config
from schema.config.base import Section
from schema.errors import ConfigError

_CHANNEL = "pipelinechannel--"  # how the KFP SDK calls an input that only placeholders use
_MARK = 0.000_731_901  # what a marked number differs by, times its place in the list


def name_of(key: str) -> str:
    """The parameter's name, e.g. `split_test_days` of the key `split.test_days`."""
    return key.replace(".", "_")


def defaults(config: Config) -> dict[str, float | int]:
    """Key -> value of the numbers that `kubeflow.parameters` names.

    Raises:
      ConfigError: a key that is none, or holds no number.
    """
    found: dict[str, Any] = {}
    for key in config.kubeflow.parameters:
        value: Any = config
        kind: Any = None
        for part in key.split("."):
            if not isinstance(value, Section) or part not in type(value).model_fields:
                raise ConfigError(f"kubeflow.parameters: {key} is no key of the configuration")
            kind = type(value).model_fields[part].annotation
            value = getattr(value, part)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(
                f"kubeflow.parameters: {key} is {value!r}; give it a number, which will be the default"
            )
        # a default may be the 28 of a field that holds 28.0
        found[key] = pydantic.TypeAdapter(kind).validate_python(value)
    return found


def marked(config: Config) -> tuple[Config, dict[str, float | int]]:
    """The configuration with numbers that occur nowhere else, and these numbers by key."""
    marks: dict[str, float | int] = {}
    for place, (key, value) in enumerate(defaults(config).items(), start=1):
        # near the value: it must lie within the setting's bounds
        marks[key] = value + 7_319_010 + place if isinstance(value, int) else value * (1 + _MARK * place)
        config = _replaced(config, key.split("."), marks[key])
    return config, marks


def apply(compiled: Mapping[str, Any], of_marks: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The spec with the numbers as parameters of the pipeline.

    Args:
      compiled: the spec with the numbers of the configuration.
      of_marks: the spec with :func:`marked` numbers.
      config: the shop.

    Raises:
      ConfigError: no step has such a number in its settings, or the pipeline depends on it otherwise.
    """
    values, marks = defaults(config), marked(config)[1]
    _check(compiled, of_marks, values, marks)
    spec = copy.deepcopy(dict(of_marks))
    used: set[str] = set()
    for body in tasks(spec).values():
        found = _in_task(body.get("inputs", {}).get("parameters", {}), marks)
        definitions = spec["components"][body["componentRef"]["name"]].get("inputDefinitions", {})
        for key in found:
            definitions["parameters"][_CHANNEL + name_of(key)] = _type(values[key])
        used |= found
    if unused := [key for key in values if key not in used]:
        raise ConfigError(f"kubeflow.parameters: {unused[0]} is in no step's settings")
    spec["root"].setdefault("inputDefinitions", {})["parameters"] = {
        name_of(key): _type(value) | {"defaultValue": value, "isOptional": True}
        for key, value in values.items()
    }
    for part in (spec["deploymentSpec"], spec["components"], tasks(spec)):
        if left := [key for key, mark in marks.items() if json.dumps(mark) in json.dumps(part)]:
            raise ConfigError(f"kubeflow.parameters: {left[0]} is in the command of a step; it cannot be one")
    return spec


def _in_task(parameters: dict[str, Any], marks: Mapping[str, float | int]) -> set[str]:
    """Puts placeholders in the place of marked numbers; the keys that were found."""
    found = set()
    for source in parameters.values():
        text = source.get("runtimeValue", {}).get("constant")
        if not isinstance(text, str):
            continue
        for key, mark in marks.items():
            if json.dumps(mark) in text:
                found.add(key)
                placeholder = f"{{{{$.inputs.parameters['{_CHANNEL}{name_of(key)}']}}}}"
                text = text.replace(json.dumps(mark), placeholder)
        source["runtimeValue"]["constant"] = text
    for key in found:
        parameters[_CHANNEL + name_of(key)] = {"componentInputParameter": name_of(key)}
    return found


def _check(
    compiled: Mapping[str, Any],
    of_marks: Mapping[str, Any],
    values: Mapping[str, float | int],
    marks: Mapping[str, float | int],
) -> None:
    """The two specs may differ in the numbers themselves only."""
    for name, task in tasks(dict(of_marks)).items():
        text = json.dumps(task, sort_keys=True)
        for key, mark in marks.items():
            text = text.replace(json.dumps(mark), json.dumps(values[key]))
        if text != json.dumps(tasks(dict(compiled)).get(name), sort_keys=True):
            raise ConfigError(
                f"kubeflow.parameters: {name} was compiled with something that follows from one of "
                f"{', '.join(values)}; compile the pipeline for each value instead"
            )


def _type(value: float | int) -> dict[str, Any]:
    return {"parameterType": "NUMBER_INTEGER" if isinstance(value, int) else "NUMBER_DOUBLE"}


def _replaced(section: Any, path: list[str], value: float | int) -> Any:
    head, *rest = path
    inner = _replaced(getattr(section, head), rest, value) if rest else value
    return section.model_copy(update={head: inner})
