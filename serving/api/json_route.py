"""A FastAPI route with a shorter way from the request's bytes to the answer's."""

from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from serving.api.problems import TooLarge, UnknownMediaType
from serving.api.validation import validated

LENGTH, JSON = b"content-length", (b"content-type", b"application/json")


class JsonRoute(APIRoute):
    """A route of one JSON object in the body and one in the answer, documented as FastAPI documents any route.

    Its endpoint is an `async def` with one parameter, annotated with the request's pydantic model, that returns an
    instance of its `response_model`. The body is parsed and validated in one go by pydantic's own JSON parser, the
    answer is written by its serializer, and nothing lies in between. (FastAPI parses the body into Python objects,
    validates those, solves dependencies, and turns the answer into Python objects again before it is written: most
    of the processor time of a request. Paths, headers, queries and dependencies are therefore not for such a route.)
    """

    def __init__(self, *arguments: Any, most_bytes: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.most_bytes = most_bytes
        assert self.body_field is not None
        self._request: type[BaseModel] = self.body_field.field_info.annotation  # type: ignore[assignment]
        self.app = self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        must_be(headers, "application/json")
        body = await read_body(headers, receive, self.most_bytes)
        try:
            asked = validated(self._request, body)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            raise RequestValidationError([wrong | {"loc": ("body", *wrong["loc"])} for wrong in found]) from None
        reply = await self.endpoint(asked)
        content = reply.__pydantic_serializer__.to_json(reply)
        start: Message = {"type": "http.response.start", "status": 200}
        start["headers"] = [(LENGTH, str(len(content)).encode()), JSON]
        await send(start)
        await send({"type": "http.response.body", "body": content})


async def read_body(headers: Headers, receive: Receive, most_bytes: int) -> bytes:
    """The whole body of a request. Raises TooLarge, and ClientDisconnect when the caller leaves before its end."""
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most_bytes:
        raise TooLarge(f"the body has {announced[:20]} bytes; at most {most_bytes} are taken")
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        piece = message.get("body", b"")
        size += len(piece)
        if size > most_bytes:
            raise TooLarge(f"the body has more than the {most_bytes} bytes that are taken")
        pieces.append(piece)
        if not message.get("more_body"):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def must_be(headers: Headers, *kinds: str) -> None:
    """Raise UnknownMediaType unless the body is said to be of one of these kinds."""
    said = headers.get("content-type", "")
    if said.partition(";")[0].strip().lower() not in kinds:
        raise UnknownMediaType(f"the body's Content-Type is {said!r}; send it with Content-Type: {' or '.join(kinds)}")
