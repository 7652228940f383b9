"""JSON documents and their single values, as TensorFlow Serving's REST API reads and writes them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.model_server.core.errors import Code, StatusError

_SHOWN = 256  # characters of a value in an error message
_ENCODER = json.JSONEncoder()
B64 = "b64"  # the only key of an object that stands for bytes


def parse(body: bytes) -> dict[str, Any]:
    """A request's JSON object.

    Raises:
      StatusError: INVALID_ARGUMENT: not JSON, not UTF-8 or not an object.
    """
    if not body.strip():
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)  # takes NaN and Infinity, as TF Serving does
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: not UTF-8 at offset: {error.start}") from error
    except RecursionError as error:
        raise invalid("JSON Parse error: nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {show(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    """The request's `signature_name`, "" if it has none.

    Raises:
      StatusError: INVALID_ARGUMENT: it is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {show(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def write_error(message: str) -> bytes:
    """`{"error": message}`."""
    return dump({"error": message})


def is_object(value: Any) -> bool:
    """Whether `value` has named members; `{"b64": "..."}` is a value."""
    return isinstance(value, dict) and not (list(value) == [B64] and isinstance(value[B64], str))


def decode_base64(value: dict[str, Any]) -> bytes:
    """The bytes of `{"b64": "..."}`."""
    if is_object(value):
        raise invalid(f"JSON Value: {show(value)} not formatted correctly for base64 data")
    text = value[B64].replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def utf8(text: str) -> bytes:
    """A string as UTF-8."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise invalid(f"JSON Value: {json.dumps(text)[:200]} is not valid Unicode") from error


def float32(value: float) -> float:
    """A float of 32 bits with as few digits as it needs: 0.2 and not 0.20000000298."""
    return float(str(np.float32(value)))


def dump(document: Any) -> bytes:
    """The text of an answer."""
    return json.dumps(document, ensure_ascii=False, indent=None).encode("utf-8")


def show(value: Any) -> str:
    """A value as an error message quotes it."""
    text = ""
    for part in _ENCODER.iterencode(value):  # no more of it than is shown
        text += part[: _SHOWN + 1]
        if len(text) > _SHOWN:
            return text[:_SHOWN] + "..."
    return text


def kind(value: Any) -> str:
    """A JSON value's type as TensorFlow Serving calls it."""
    if isinstance(value, bool):
        return str(value)
    kinds = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return kinds.get(type(value), "Null")


def invalid(message: str) -> StatusError:
    """The error of a request that is wrong."""
    return StatusError(Code.INVALID_ARGUMENT, message)
