"""Errors that a user can put right.

Anything raised as a :class:`UserError` reaches the terminal as one line (no traceback) and
ends the process with status 1. Its message names the file, row, field or configuration key,
and says what to do about it.
"""

import re


class UserError(Exception):
    """A mistake in data, configuration or a request; the message says where it is and what to do."""


class ConfigError(UserError):
    """The YAML configuration is wrong; the message names the key's path."""


class DataError(UserError):
    """The shop's data is wrong; the message names the file, column or row."""


class RequestError(UserError):
    """A request is wrong; the message names the field."""


class GateError(UserError):
    """A quality gate (data anomalies, index recall) stopped the run; the message says why."""


# Beam and the TFX launcher wrap an exception in others and keep only its text, so the
# original is searched in the chain first and in the text afterwards.
_IN_TEXT = re.compile(r"(?:UserError|ConfigError|DataError|RequestError|GateError): ([^\n]+)")


def find_user_error(error: BaseException) -> str | None:
    """The message of the :class:`UserError` at the root of ``error``, or None.

    Args:
      error: an exception as it left Beam or the TFX launcher.

    Returns:
      One line of text, without the suffix that Beam appends (``[while running ...]``).
    """
    seen: set[int] = set()
    link: BaseException | None = error
    text = str(error)
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, UserError):
            return _one_line(str(link))
        text = f"{text}\n{type(link).__name__}: {link}"
        link = link.__cause__ or link.__context__
    found = _IN_TEXT.search(text)
    return _one_line(found.group(1)) if found else None


def _one_line(text: str) -> str:
    return " ".join(re.sub(r"\s*\[while running .*", "", text, flags=re.S).split())
