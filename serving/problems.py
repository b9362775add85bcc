"""Errors as the API tells them, `{"error": {"message", "fields": [...]}}`, and which HTTP status each has."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from processing.errors import BadInput, Conflict, FraudlineError, NotFound
from processing.online import StoreUnavailable


class NoModel(FraudlineError):
    """No model is loaded, so nothing can be scored yet."""


STATUS: dict[type[FraudlineError], int] = {
    BadInput: 400,
    NotFound: 404,
    Conflict: 409,
    StoreUnavailable: 503,
    NoModel: 503,
}
MESSAGES = {  # in place of pydantic's own words, by its error type
    "missing": "is missing",
    "extra_forbidden": "is not a field of this request",
    "finite_number": "expected a finite number",
}


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(BaseModel):
    """What is wrong, and with which fields if it is about fields."""

    message: str
    fields: list[FieldProblem] = []


class Refusal(BaseModel):
    """The body of every answer that is an error."""

    error: Problem


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its OpenAPI description."""
    return {status: {"model": Refusal} for status in statuses}


def install(app: FastAPI) -> None:
    """Have the app answer every error in this shape; `RequestIds` does so for those that nobody expected."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(FraudlineError, _fraudline)


def _answer(
    status: int, message: str, fields: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body = Refusal(error=Problem(message=message, fields=list(fields)))
    return JSONResponse(body.model_dump(), status, headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields: dict[str, str] = {}
    whole = []
    for wrong in error.errors():
        place = [str(part) for part in wrong["loc"][1:]]  # without "body" or "query"
        if wrong["type"] == "json_invalid":
            whole.append(f"the body is not valid JSON: {wrong['ctx']['error']} at character {wrong['loc'][-1]}")
        elif not place:
            whole.append("expected a JSON object as the body, with Content-Type: application/json")
        else:
            said = MESSAGES.get(wrong["type"], wrong["msg"].removeprefix("Value error, "))
            fields.setdefault(".".join(place), said)
    told = [FieldProblem(field=field, message=said) for field, said in fields.items()]
    message = whole[0] if whole else "; ".join(f"{problem.field}: {problem.message}" for problem in told[:5])
    return _answer(422, message, told)


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return _answer(error.status_code, message, headers=error.headers)


def _fraudline(request: Request, error: Exception) -> JSONResponse:
    for kind in type(error).__mro__:
        if status := STATUS.get(kind):
            return _answer(status, str(error), headers={"Retry-After": "1"} if status == 503 else None)
    raise error


def unexpected() -> JSONResponse:
    """The answer to an error in the server itself."""
    return _answer(500, "an error on our side; the server's log has it under this answer's X-Request-ID")
