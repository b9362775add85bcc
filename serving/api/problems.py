"""Errors as the API reports them, `{"error": {"message", "fields": [...]}}`, and the HTTP status of each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from processing.errors import BadInput, Conflict, FraudlineError, NotFound
from processing.store.interface import StoreUnavailable
from serving.decision.follower import NoModel


class UnknownMediaType(FraudlineError):
    """The route does not accept a body of this type."""


class TooLarge(FraudlineError):
    """The request has more rows or bytes than the route accepts."""


class MalformedRequest(FraudlineError):
    """The body, or the query, cannot be read as what it claims to be."""


class NoKey(FraudlineError):
    """The request has no key, or none that is valid."""


class NotAllowed(FraudlineError):
    """The key is valid, but does not permit this."""


class Misdirected(FraudlineError):
    """The request names a host other than this machine, on a server that only answers this machine."""


class Busy(FraudlineError):
    """The server is already doing as much as it does at once."""


class TooManyRequests(FraudlineError):
    """The key exceeds its rate. `seconds` until the next request is accepted."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


STATUS: dict[type[FraudlineError], int] = {
    BadInput: 400,
    NoKey: 401,
    NotAllowed: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    UnknownMediaType: 415,
    Misdirected: 421,
    MalformedRequest: 422,
    TooManyRequests: 429,
    StoreUnavailable: 503,
    NoModel: 503,
    Busy: 503,
}
MAX_FIELD_ERRORS = 100  # in one response
MAX_NAME_LENGTH = 100  # characters of a caller's own text in an error
MESSAGES = {  # replace pydantic's wording, by its error type
    "missing": "is missing",
    "extra_forbidden": "is not a field of this request",
    "finite_number": "expected a finite number",
}


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class ErrorDetail(BaseModel):
    """What is wrong, and with which fields."""

    message: str
    fields: list[FieldError] = Field(default=[], description="An entry for each invalid field, if any")


class ErrorResponse(BaseModel):
    """The body of every error."""

    error: ErrorDetail


def error_responses(*statuses: int, needs_key: bool = True) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for its OpenAPI description."""
    every = {*statuses, 421, *((401, 403, 429) if needs_key else ())}
    return {status: {"model": ErrorResponse} for status in sorted(every)}


def add_error_handlers(app: FastAPI) -> None:
    """Make the app report all errors in this form. `RequestMiddleware` reports unexpected ones."""
    app.add_exception_handler(RequestValidationError, _report_invalid)
    app.add_exception_handler(HTTPException, http_error_response)
    app.add_exception_handler(FraudlineError, _report)


def _json(
    status: int, message: str, fields: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body = ErrorResponse(error=ErrorDetail(message=message, fields=list(fields)))
    return JSONResponse(body.model_dump(), status, headers)


def _report_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Locations begin with "body" or "query", which callers do not need.
    detail = error_detail([each | {"loc": each["loc"][1:]} for each in error.errors()], "the body")
    return _json(422, detail.message, detail.fields)


def _report(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FraudlineError)
    return error_response(error)


def http_error_response(request: Request, error: Exception) -> Response:
    """The response for a path or method that no route has, in JSON."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return _json(error.status_code, message, headers=error.headers)


def error_response(error: FraudlineError) -> JSONResponse:
    """The response for an error. Raises the error itself if callers should not see it."""
    status = status_of(error)
    if status is None:
        raise error
    return _json(status, str(error), headers=headers_of(status, error))


def unexpected_error_response() -> JSONResponse:
    """The response for an error in the server itself."""
    return _json(500, "internal error; look for this response's X-Request-ID in the server's log")


def status_of(error: FraudlineError) -> int | None:
    """The HTTP status of an error; None if callers should not see it."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)


def headers_of(status: int, error: FraudlineError) -> dict[str, str] | None:
    """The headers that belong to the response for an error."""
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if status in (429, 503):
        return {"Retry-After": str(math.ceil(getattr(error, "seconds", 1.0)))}
    return None


def error_detail(errors: Iterable[Mapping[str, Any]], subject: str) -> ErrorDetail:
    """Pydantic's errors as one: about the `subject` as a whole if possible, otherwise about its fields."""
    whole, in_fields = "", []
    for error in errors:
        if error["type"] == "json_invalid":
            whole = whole or f"{subject} is not valid JSON: {error['ctx']['error']}"
        elif not error["loc"]:
            whole = whole or f"expected a JSON object as {subject}"
        else:
            in_fields.append(error)
    fields = field_errors(in_fields)
    return ErrorDetail(
        message=whole or "; ".join(f"{each.field}: {each.message}" for each in fields[:5]), fields=fields
    )


def field_errors(errors: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    """Pydantic's errors about fields, the first of each field, for the first fields only.

    Field names may come from the caller, so long ones are shortened.
    """
    messages: dict[str, str] = {}
    for error in errors:
        if error["loc"]:
            message = MESSAGES.get(error["type"], error["msg"].removeprefix("Value error, "))
            messages.setdefault(shorten(".".join(str(part) for part in error["loc"])), message)
            if len(messages) == MAX_FIELD_ERRORS:
                break
    return [FieldError(field=field, message=message) for field, message in messages.items()]


def shorten(name: str) -> str:
    """A caller's text, short enough for an error message."""
    return name if len(name) <= MAX_NAME_LENGTH else name[:MAX_NAME_LENGTH] + "..."
