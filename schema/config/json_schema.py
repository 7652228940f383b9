"""JSON Schema of the configuration, with which editors complete, explain and check YAML files.

`schema/config.schema.json` holds it for editors; the first line of each shipped configuration names
that file. After a change of a section::

    python -m schema.config.json_schema > schema/config.schema.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from schema.config.shop import Config


class _Strict(GenerateJsonSchema):
    """Where keys must match a pattern, such as names of features, no others are allowed."""

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        if "patternProperties" in found:
            found["additionalProperties"] = False
        return found


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of a whole configuration file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(schema_generator=_Strict),
        "title": "Shelfwise configuration",
    }


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m schema.config.json_schema") -> int:
    """Prints the schema.

    Args:
      argv: arguments without the program's name; those of the process if None.
      prog: the program's name in its help.

    Returns:
      The exit status: 0.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Prints the JSON Schema of configurations. A YAML file whose first line is "
        "`# yaml-language-server: $schema=FILE` is completed and checked by editors with it.",
    )
    parser.parse_args(argv)
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
