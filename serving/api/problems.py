"""Errors as the API tells them, `{"error": {"message", "fields": [...]}}`, and which HTTP status each has."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from processing.errors import BadInput, Conflict, FraudlineError, NotFound
from processing.store.interface import StoreUnavailable
from serving.decision.errors import NoModel


class UnknownMediaType(FraudlineError):
    """A body of another type than the route takes."""


class TooLarge(FraudlineError):
    """A request of more rows or bytes than the route takes."""


class Unreadable(FraudlineError):
    """A body as a whole is not of the form that its content type says."""


class NoKey(FraudlineError):
    """No key, or none that is valid."""


class NotAllowed(FraudlineError):
    """A valid key, but not for this."""


class Misdirected(FraudlineError):
    """A request that names another host than this machine, where only this machine is answered."""


class Busy(FraudlineError):
    """More is under way than the server does at once."""


class TooOften(FraudlineError):
    """More requests than a key's rate allows. `seconds` until the next one is let in."""

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
    Unreadable: 422,
    TooOften: 429,
    StoreUnavailable: 503,
    NoModel: 503,
    Busy: 503,
}
MOST_TOLD = 100  # fields of one request whose errors are told
LONGEST_NAME = 100  # characters
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


def refusals(*statuses: int, guarded: bool = True) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its OpenAPI description; those of a wrong key too, if it needs one."""
    return {status: {"model": Refusal} for status in sorted({*statuses, 421, *((401, 403, 429) if guarded else ())})}


def install(app: FastAPI) -> None:
    """Have the app answer every error in this shape; `RequestIds` does so for those that nobody expected."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, http_problem)
    app.add_exception_handler(FraudlineError, _fraudline)


def _answer(
    status: int, message: str, fields: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body = Refusal(error=Problem(message=message, fields=list(fields)))
    return JSONResponse(body.model_dump(), status, headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # A place is told without "body" or "query".
    problem = problem_of([wrong | {"loc": wrong["loc"][1:]} for wrong in error.errors()], "the body")
    return _answer(422, problem.message, problem.fields)


def problem_of(errors: Iterable[Mapping[str, Any]], what: str) -> Problem:
    """Pydantic's errors as one problem: what is wrong with `what` as a whole, else with its fields."""
    whole, of_fields = "", []
    for wrong in errors:
        if wrong["type"] == "json_invalid":
            whole = whole or f"{what} is not valid JSON: {wrong['ctx']['error']}"
        elif not wrong["loc"]:
            whole = whole or f"expected a JSON object as {what}"
        else:
            of_fields.append(wrong)
    told = field_problems(of_fields)
    return Problem(message=whole or summary(told), fields=told)


def field_problems(errors: Iterable[Mapping[str, Any]]) -> list[FieldProblem]:
    """Pydantic's errors as we tell them, one for a field, of the first fields; those about no field are left out.

    A field's name may be the caller's own, so it is cut off where it would only fill the answer.
    """
    fields: dict[str, str] = {}
    for wrong in errors:
        if wrong["loc"]:
            said = MESSAGES.get(wrong["type"], wrong["msg"].removeprefix("Value error, "))
            fields.setdefault(shortened(".".join(str(part) for part in wrong["loc"])), said)
            if len(fields) == MOST_TOLD:
                break
    return [FieldProblem(field=field, message=said) for field, said in fields.items()]


def shortened(name: str) -> str:
    """A name that a caller gave, as an error may tell it."""
    return name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "..."


def summary(told: Sequence[FieldProblem]) -> str:
    """What is wrong with some fields, in one line."""
    return "; ".join(f"{problem.field}: {problem.message}" for problem in told[:5])


def http_problem(request: Request, error: Exception) -> Response:
    """The answer to an address or a method that no route has, in JSON."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return _answer(error.status_code, message, headers=error.headers)


def _fraudline(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FraudlineError)
    return answer_to(error)


def answer_to(error: FraudlineError) -> JSONResponse:
    """The answer that an error has. Raises the error itself if it has none."""
    status = status_of(error)
    if status is None:
        raise error
    return _answer(status, str(error), headers=headers_of(status, error))


def status_of(error: FraudlineError) -> int | None:
    """The HTTP status of an error; None if it is none that a caller should meet."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)


def headers_of(status: int, error: FraudlineError) -> dict[str, str] | None:
    """What the answer to an error has to say in its headers."""
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if status in (429, 503):
        return {"Retry-After": str(math.ceil(getattr(error, "seconds", 1.0)))}
    return None


def unexpected() -> JSONResponse:
    """The answer to an error in the server itself."""
    return _answer(500, "an error on our side; the server's log has it under this answer's X-Request-ID")
