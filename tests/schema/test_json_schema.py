"""The JSON Schema that editors read: up to date, complete, and of one mind with the loader."""

import copy
import json
import re
from pathlib import Path

import pydantic
import pytest
import yaml

from schema import config
from schema.config import json_schema

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "pipeline" / "configs").glob("*.yaml"))
SCHEMA = json_schema.json_schema()
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
NO_CHECKS = {"$defs", "$schema", "default", "description", "format", "title"}


def violations(value, schema, where="$"):
    """What of `value` breaks `schema`: the keywords that pydantic writes, straight from their definition."""
    if "$ref" in schema:
        yield from violations(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], where)
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{where} is no {kind}"
        return
    for keyword, wanted in schema.items():
        match keyword:
            case "properties":
                for name in wanted.keys() & value.keys():
                    yield from violations(value[name], wanted[name], f"{where}.{name}")
            case "required":
                yield from (f"{where}.{name} is missing" for name in wanted if name not in value)
            case "additionalProperties":
                patterns = schema.get("patternProperties", {})
                for name in value.keys() - schema.get("properties", {}).keys():
                    if any(re.search(pattern, name) for pattern in patterns):
                        continue
                    if wanted is False:
                        yield f"{where}.{name} is unknown"
                    elif wanted is not True:
                        yield from violations(value[name], wanted, f"{where}.{name}")
            case "patternProperties":
                for pattern, of_pattern in wanted.items():
                    for name in value:
                        if re.search(pattern, name):
                            yield from violations(value[name], of_pattern, f"{where}.{name}")
            case "items":
                for place, item in enumerate(value):
                    yield from violations(item, wanted, f"{where}[{place}]")
            case "anyOf":
                if all([*violations(value, one, where)] for one in wanted):
                    yield f"{where} fits none of anyOf"
            case "propertyNames":
                for key in value:
                    yield from violations(key, wanted, f"key {key} of {where}")
            case "enum":
                if value not in wanted:
                    yield f"{where} is none of {wanted}"
            case "pattern":
                if not re.search(wanted, value):
                    yield f"{where} does not match {wanted}"
            case "minItems" | "minLength":
                if len(value) < wanted:
                    yield f"{where} is too short"
            case "maxItems" | "maxLength":
                if len(value) > wanted:
                    yield f"{where} is too long"
            case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
                kept = {
                    "minimum": value >= wanted,
                    "maximum": value <= wanted,
                    "exclusiveMinimum": value > wanted,
                    "exclusiveMaximum": value < wanted,
                }
                if not kept[keyword]:
                    yield f"{where} breaks {keyword} {wanted}"
            case "$ref" | "type":
                pass
            case _:
                assert keyword in NO_CHECKS, keyword


def as_json(tree):
    """What an editor sees: keys and dates are text."""
    return json.loads(json.dumps(tree, default=str))


def test_the_file_for_editors_is_that_of_the_code():
    text = (ROOT / "schema" / "config.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == SCHEMA, "run python -m schema.config.json_schema > schema/config.schema.json"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configurations_name_the_file_and_fit(path):
    text = path.read_text(encoding="utf-8")
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert (path.parent / named[1]).resolve() == ROOT / "schema" / "config.schema.json"
    assert [*violations(as_json(yaml.safe_load(text)), SCHEMA)] == []


def test_a_whole_configuration_fits():
    """Every key of every section, with its default."""
    whole = as_json(config.load(CONFIGS[0]).model_dump(mode="json"))
    assert [*violations(whole, SCHEMA)] == []


@pytest.mark.parametrize(
    ("dotted", "value", "found"),
    [
        ("evnts", {}, "$.evnts is unknown"),
        ("ranking.epoch", 3, "$.ranking.epoch is unknown"),
        ("candidates.collaborative.rnk", 3, "$.candidates.collaborative.rnk is unknown"),
        ("ranking.epochs", 0, "$.ranking.epochs breaks minimum 1"),
        ("ranking.epochs", "3", "$.ranking.epochs is no integer"),
        ("retrieval.temperature", 0, "$.retrieval.temperature breaks exclusiveMinimum 0"),
        ("split.evaluate_on", "train", "$.split.evaluate_on is none of ['test', 'eval']"),
        ("items.categorical", {"Colour": "c"}, "$.items.categorical.Colour is unknown"),
        ("items.categorical", {"colour": 3}, "$.items.categorical.colour is no string"),
        ("items.text", [], "$.items.text is too short"),
        ("name", "Not A Name", "$.name does not match ^[a-z][a-z0-9_]*$"),
        ("events.path", None, "$.events fits none of anyOf"),
        ("users", {"path": "u.csv"}, "$.users fits none of anyOf"),
    ],
)
def test_what_the_loader_refuses_does_not_fit(dotted, value, found):
    tree = copy.deepcopy(yaml.safe_load(CONFIGS[0].read_text()))
    *parents, leaf = dotted.split(".")
    node = tree
    for key in parents:
        node = node.setdefault(key, {})
    node[leaf] = value
    assert [*violations(as_json(tree), SCHEMA)] == [found]


def test_a_missing_key_does_not_fit():
    assert sorted(violations({"name": "x", "data": {}}, SCHEMA)) == [
        "$.data.root is missing",
        "$.items is missing",
    ]


def sections(kind):
    yield kind
    for section in kind.__subclasses__():
        if section.__module__.startswith("schema.config."):
            yield from sections(section)


def test_every_setting_says_what_it_is():
    """A section says it in its own docstring, everything else under the field."""
    for section in sections(config.Section):
        assert section.__doc__, section
        for name, field in section.model_fields.items():
            kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
            described = field.description or any(
                isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) for kind in kinds
            )
            assert described, f"{section.__name__}.{name}"
            first = (field.description or "x.").splitlines()[0]
            assert first.endswith((".", ":")), f"{section.__name__}.{name}: {first}"


def test_the_command_prints_it(capsys):
    assert json_schema.main([]) == 0
    printed = capsys.readouterr().out
    assert printed == (ROOT / "schema" / "config.schema.json").read_text(encoding="utf-8")
