"""What stands before every route: request ids, limits, the log's line and the metrics."""

from __future__ import annotations

import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
from starlette.exceptions import HTTPException

from schema.config.gateway import Limits
from serving.gateway.errors import problem
from serving.gateway.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNLIMITED = ("/health/live", "/health/ready", "/metrics")  # what an overloaded process still answers
_log = structlog.get_logger("shelfwise.gateway")


class Front:
    """An ASGI middleware.

    Args:
      app: what it stands before.
      limits: sizes and numbers.
      metrics: where it counts.
    """

    def __init__(self, app: Any, limits: Limits, metrics: Metrics) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._too_long = f"the body is longer than {limits.body_bytes} bytes; send less"
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started, status, begun = time.perf_counter(), 500, False

        async def sending(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        async def refuse(code: int, message: str, **more: str) -> None:
            await problem(code, message, request_id, more)(scope, receive, sending)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            if self._in_flight > self._limits.concurrent and scope["path"] not in _UNLIMITED:
                await refuse(503, "too many requests at once; try again", **{"Retry-After": "1"})
            elif _length(headers) > self._limits.body_bytes:
                await refuse(413, self._too_long)
            else:
                await self._app(scope, self._counted(receive), sending)
        except Exception as error:
            # Without the error's own words: they may repeat what somebody sent.
            frames = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
            _log.error("unexpected error", error=type(error).__name__, frames=frames[-8:])
            if begun:
                raise
            await refuse(500, "unexpected error; the log has it under the request's id")
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)
            self._told(scope, status, time.perf_counter() - started)
            structlog.contextvars.unbind_contextvars("request_id")

    def _counted(self, receive: Receive) -> Receive:
        """`receive`, until a body that did not say its length is too long."""
        size = 0

        async def receiving() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limits.body_bytes:
                raise HTTPException(413, self._too_long)
            return message

        return receiving

    def _told(self, scope: Scope, status: int, seconds: float) -> None:
        # The path holds ids; its pattern does not.
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        _log.info(
            "request",
            route=route,
            method=method,
            status=status,
            ms=round(seconds * 1000, 2),
            caller=scope["state"].get("caller", ""),
        )


_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def _length(headers: dict[bytes, bytes]) -> int:
    text = headers.get(b"content-length", b"")
    return int(text) if text.isdigit() else 0
