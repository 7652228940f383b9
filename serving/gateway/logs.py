"""The log: JSON lines on stderr, without anything that says who asked or what for."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

# Whatever a caller passes by mistake: these never reach a line.
_PERSONAL = frozenset({"user_id", "query", "prefix", "key", "authorization", "cookie", "email", "ip"})


def configure(json_lines: bool = True) -> None:
    """Sets structlog up for this process, and sends uvicorn's own lines through it."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_persons,
    ]
    renderer = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def without_persons(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Drops the entries of a line that would say who it is about."""
    return {name: value for name, value in event.items() if name not in _PERSONAL}
