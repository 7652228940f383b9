"""What every section of the configuration is: strict, frozen, with one canonical JSON text."""

from __future__ import annotations

import json
from typing import Annotated

import pydantic
from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""A name that becomes part of feature and file names: lower case letters, digits and underscores."""


class Section(pydantic.BaseModel):
    """Base of all sections.

    An unknown key is an error, so that a misspelt key is never ignored. So are inf and nan: a gate or a
    weight of inf or nan is one that is switched off without a word. The text under a field is
    its description, in the code and in the JSON Schema that editors read.
    """

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    def to_json(self) -> str:
        """Canonical JSON: equal sections give equal text, so it can be part of a cache key."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)
