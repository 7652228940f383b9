"""How the gateway says no: one JSON shape for every error.

`{"error": "<code>", "message": "<what to do>", "request_id": "...", "fields": [...]}`. No message repeats a
value of the request: it may be a person's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "too_many_requests",
    500: "internal",
    503: "unavailable",
}


class Field(pydantic.BaseModel):
    """One field that is wrong."""

    where: str
    """Its path, such as body.events.3.item_id."""
    message: str


class Problem(pydantic.BaseModel):
    """What is answered instead, when a request cannot be."""

    error: str
    """A code: bad_request, unauthorized, forbidden, not_found, too_large, invalid, too_many_requests, ..."""
    message: str
    request_id: str
    fields: list[Field] = []


class Refused(Exception):
    """A request that is not answered; `status` is HTTP's."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's documentation: the errors that it has on top of those that every route may have."""
    return {status: {"model": Problem} for status in sorted({400, 401, 403, 413, 422, 429, 503, *statuses})}


def problem(
    status: int,
    message: str,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    fields: Sequence[Field] = (),
) -> Response:
    """The answer of an error."""
    body = Problem(
        error=_CODES.get(status, "error"), message=message, request_id=request_id, fields=list(fields)
    )
    return Response(body.model_dump_json(), status, dict(headers or {}), "application/json")


def install(app: FastAPI) -> None:
    """Makes every error of an app one of these."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem(error.status, str(error), request.state.request_id, error.headers)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), request.state.request_id, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The errors' `input` and `ctx` hold what was sent.
    fields = [
        Field(where=".".join(str(part) for part in each["loc"]), message=each["msg"].split(", input")[0])
        for each in error.errors()[:20]
    ]
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return problem(400, "the body is no JSON; send application/json", request.state.request_id)
    names = ", ".join(field.where for field in fields[:3])
    return problem(422, f"{names or 'the request'}: see fields", request.state.request_id, fields=fields)


def encode(value: Any) -> bytes:
    """JSON without white space; refuses NaN and infinities, which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
