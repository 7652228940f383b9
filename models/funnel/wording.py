"""Phrases that depend on a number."""

from __future__ import annotations

import gettext

from schema.config import Numbered


def wording(phrase: Numbered, plural: str, most: int) -> list[str]:
    """The phrase for each of 0 to `most`, with the form that gettext's expression chooses."""
    form_of = gettext.c2py(plural)
    return [phrase.exact.get(n, phrase.forms[form_of(n)]).replace("{n}", str(n)) for n in range(most + 1)]
