"""Templates to HTML: everything that is filled in is escaped, and nothing has a script or style inline."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import jinja2

FOLDER = Path(__file__).resolve().parent
STATIC = FOLDER / "static"
MOUNTED_AT = "/page/static"


@functools.cache
def environment() -> jinja2.Environment:
    """The templates; a name that a template does not get is an error, not an empty text."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["asset"] = asset
    return found


def html(template: str, *, part: bool, **values: Any) -> str:
    """A page, or only its parts.

    Args:
      template: file name.
      part: whether a script asked, which replaces the parts of the page that it has.
      **values: what the template and its layout need.
    """
    layout = "parts.html" if part else "page.html"
    return environment().get_template(template).render(layout=layout, **values)


def asset(name: str) -> str:
    """The address of a static file; it changes with the content, so that browsers may keep the file."""
    return f"{MOUNTED_AT}/{_versions().get(name, '0')}/{name}"


@functools.cache
def _versions() -> dict[str, str]:
    # A module imports others by their relative address, so that all files share one version.
    files = static_files()
    digest = hashlib.blake2b(digest_size=6)
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return {path.name: digest.hexdigest() for path in files}


def static_version() -> str:
    """The part of the addresses that changes with the content."""
    return next(iter(_versions().values()))


@functools.cache
def static_files() -> list[Path]:
    """The files under `static/`."""
    return sorted(path for path in STATIC.iterdir() if path.is_file())
