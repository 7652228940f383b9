"""Who asks: API keys, what they open, and how often."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from schema.config.gateway import ApiKey, Gateway, Role
from serving.gateway.errors import Refused

_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="One of gateway.api_keys.")
_bearer = HTTPBearer(auto_error=False, description="The same as Authorization: Bearer KEY.")


class Bucket:
    """A token bucket: `per_minute` tokens, refilled evenly."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._size, self._rate, self._now = float(per_minute), per_minute / 60, now
        self._tokens, self._at = self._size, now()

    def take(self) -> float:
        """Takes a token: 0, or the seconds until there is one."""
        now = self._now()
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._size)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


class Keys:
    """Checks keys; without any configured, everybody may do everything.

    Args:
      settings: of the gateway.
      now: a clock that only goes forward, in seconds.
    """

    def __init__(self, settings: Gateway, now: Callable[[], float] = time.monotonic) -> None:
        self._keys: Sequence[ApiKey] = settings.api_keys
        self._buckets = {key.name: Bucket(key.per_minute, now) for key in settings.api_keys}
        self._open = Bucket(settings.limits.per_minute, now)

    def check(self, given: str | None, role: Role) -> str:
        """The caller's name, "" where no key is needed.

        Raises:
          Refused: 401 without a key or with a wrong one, 403 if it does not open `role`, 429 if it came
            too often.
        """
        if not self._keys:
            name, bucket = "", self._open
        else:
            key = self._find(given)
            if key is None:
                raise Refused(401, "no valid API key; send it as X-API-Key", {"WWW-Authenticate": "Bearer"})
            if role not in key.roles:
                raise Refused(403, f"the API key does not open '{role}'")
            name, bucket = key.name, self._buckets[key.name]
        seconds = bucket.take()
        if seconds:
            raise Refused(429, "too many requests; slow down", {"Retry-After": str(int(seconds) + 1)})
        return name

    def _find(self, given: str | None) -> ApiKey | None:
        digest = hashlib.sha256((given or "").encode()).hexdigest()
        found = None
        for key in self._keys:  # all of them, each in the same time, whichever it is
            if hmac.compare_digest(digest, key.sha256):
                found = key
        return found if given else None


def needs(role: Role) -> Callable[..., str]:
    """A dependency that gives the caller's name, and refuses who may not do this."""

    def caller(
        request: Request,
        header: Annotated[str | None, Security(_header)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> str:
        given = header if header is not None else bearer.credentials if bearer else None
        name = request.app.state.services.keys.check(given, role)
        request.state.caller = name
        return name

    return caller


def allowed(role: Role) -> object:
    """`needs`, for a router that does not ask for the name."""
    return Depends(needs(role))
