"""Exports that are recognised by their header, and how each is mapped."""

from __future__ import annotations

from pipeline.onboarding.formats import google, logs, shops
from pipeline.onboarding.formats.base import Format

__all__ = ["FORMATS", "Format", "recognise"]

#: In the order in which they are tried: a header that fits two is of the first.
FORMATS: tuple[Format, ...] = (*google.FORMATS, *logs.FORMATS, *shops.FORMATS)


def recognise(columns: tuple[str, ...], table: str | None = None) -> Format | None:
    """The export that has these columns; None if none is known.

    Args:
      columns: of the file.
      table: the table that the rows should be of; any if None.
    """
    return next(
        (form for form in FORMATS if (table is None or form.table == table) and form.matches(columns)), None
    )
