"""Plain HTTP, for the tests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request


def call(
    url: str, body: object = None, timeout: float = 20, headers: dict[str, str] | None = None
) -> tuple[int, object]:
    """GET, or POST of `body` (bytes as they are, else JSON): (status, parsed JSON or text)."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            status, kind, content = response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        status, kind, content = error.code, error.headers["Content-Type"], error.read()
    return status, json.loads(content) if kind == "application/json" else content.decode()
