"""Who looks at the page: a cookie with an id made for the browser, or the household that it plays."""

from __future__ import annotations

import dataclasses
import re
import secrets
from urllib.parse import quote, unquote

from fastapi import Request, Response

COOKIE = "sw_user"
LANGUAGE_COOKIE = "sw_language"
_AGE = 180 * 86_400  # seconds
_NEW = re.compile(r"new-[\w-]{22}")


@dataclasses.dataclass(frozen=True)
class Viewer:
    """One browser's person.

    Attributes:
      user_id: what events and lists are kept under.
      is_new: whether the id was made for this browser, rather than chosen among the shop's households.
      fresh: whether it was made for this very answer, which must then set the cookie.
    """

    user_id: str
    is_new: bool
    fresh: bool = False


def viewer_of(request: Request, may_choose: bool) -> Viewer:
    """The viewer that the cookie names; a new one where it names none, or none that is allowed.

    Args:
      request: with the cookie.
      may_choose: whether a visitor may be a household. Without it no cookie opens a household's history.
    """
    kind, _, value = request.cookies.get(COOKIE, "").partition(".")
    if kind == "new" and _NEW.fullmatch(value):
        return Viewer(value, True)
    if kind == "be" and may_choose and 0 < len(value) <= 600:
        return Viewer(unquote(value), False)
    return someone_new()


def someone_new() -> Viewer:
    """A person whom nobody has seen; the id has 128 random bits, so that nobody can guess it."""
    return Viewer(f"new-{secrets.token_urlsafe(16)}", True, True)


def remember(response: Response, viewer: Viewer, secure: bool) -> None:
    """Sets the cookie that names the viewer."""
    value = f"new.{viewer.user_id}" if viewer.is_new else f"be.{quote(viewer.user_id, safe='')}"
    _set(response, COOKIE, value, secure)


def remember_language(response: Response, language: str, secure: bool) -> None:
    """Sets the cookie with the language that was asked for."""
    _set(response, LANGUAGE_COOKIE, language, secure)


def _set(response: Response, name: str, value: str, secure: bool) -> None:
    response.set_cookie(name, value, max_age=_AGE, path="/", secure=secure, httponly=True, samesite="lax")
