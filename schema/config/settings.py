"""What one component sees of the configuration.

Example::

    class Settings(schema.config.Settings):
        split: Split
        users: Users | None
        ranking: Lists  # of `ranking` only what the lists are: new layers do not re-run this

    settings = Settings.of(config)
    assert Settings.from_json(settings.to_json()) == settings
"""

from __future__ import annotations

import typing
from typing import Any, Self, TypeVar

from schema.config.base import Section
from schema.config.shop import Config

S = TypeVar("S", bound=Section)


def narrow(section: Section, kind: type[S]) -> S:
    """The part of a section that a smaller section describes.

    Args:
      section: has every field of `kind`, and may have more.
      kind: the smaller section, such as `Lists` of a `Ranking`.

    Returns:
      A `kind` (never a subclass, so that equality and JSON are of its own fields only).
    """
    return kind(**{name: getattr(section, name) for name in kind.model_fields})


class Settings(Section):
    """Base of the settings of a component: the fields are named like sections of `Config`.

    A field whose type is smaller than the section gets only that part (see :func:`narrow`), so that a
    change of the rest neither re-runs the component nor is visible to it. A component that takes more
    than parts of sections overrides :meth:`of`.
    """

    @classmethod
    def of(cls, config: Config) -> Self:
        """What the component sees of `config`."""
        return cls(
            **{
                name: _part(getattr(config, name), field.annotation)
                for name, field in cls.model_fields.items()
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The settings whose :meth:`to_json` is `text`.

        Raises:
          pydantic.ValidationError: `text` is not the JSON of such settings.
        """
        return cls.model_validate_json(text)


def _part(value: Any, annotation: Any) -> Any:
    """`value` as the declared type: a section of exactly that class, everything else unchanged."""
    if not isinstance(value, Section):
        return value
    for kind in (annotation, *typing.get_args(annotation)):  # X, or X | None
        if isinstance(kind, type) and issubclass(kind, Section):
            return value if type(value) is kind else narrow(value, kind)
    return value
