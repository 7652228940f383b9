"""Which listed items are promoted now: the model says it in the words of its reasons."""

from __future__ import annotations

import re

from schema import names as F
from schema.config import Reasons
from schema.reasons import REASONS
from serving.client import Recommendation


class Offers:
    """Tells items that are promoted now.

    Args:
      templates: the shop's words (`serving.reasons`), those that its model was built with.
    """

    def __init__(self, templates: Reasons) -> None:
        words = [getattr(templates, reason.key) for reason in REASONS if "offer" in reason.key]
        patterns = ("(?:.+)".join(map(re.escape, re.split(r"\{\w+\}", each))) for each in words)
        self._said = re.compile("|".join(patterns), re.DOTALL)

    def has(self, found: Recommendation) -> bool:
        """Whether it is of source `planned`, or its reason speaks of an offer."""
        return found.source == F.PLANNED or self._said.fullmatch(found.reason) is not None
