"""Errors with a canonical status code, independent of the transport that reports them."""

from __future__ import annotations

import enum
import re

_FUNCTION = re.compile(r"\{\{function_node [^}]*\}\} *")  # names of the exporting program's functions


class Code(enum.IntEnum):
    """The canonical codes; numbers are those of gRPC and TensorFlow."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StatusError(Exception):
    """A request or a version that failed: `code` and one line of text."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def from_tensorflow(error: Exception, context: str = "") -> StatusError:
    """The status of an error raised by TensorFlow.

    Args:
      error: any exception; `tf.errors.OpError` keeps its code, OSError and the like become
        UNKNOWN.
      context: text to put before the message.

    Returns:
      The status, its message cut to what says what went wrong: TensorFlow wraps it in the
      stack trace of the exporting program and in node names.
    """
    code = Code(error.error_code) if hasattr(error, "error_code") else Code.UNKNOWN
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[0].startswith("Graph execution error"):
        # The reason stands after the "<stack traces unavailable>" or "File ..." lines.
        kept = [
            line
            for line in lines
            if not line.startswith(("Graph execution", "Detected at", "File ", "<stack"))
        ]
        lines = kept or lines
    text = " ".join(line for line in lines if not line.startswith("[[")) or type(error).__name__
    text = text.split(" [Op:")[0]
    text = _FUNCTION.sub("", text)
    return StatusError(code, f"{context}{text[:1000]}")
