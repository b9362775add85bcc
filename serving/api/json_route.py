"""A FastAPI route that takes a shorter path from the bytes of a request to the bytes of its response."""

from typing import Any

from fastapi import params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.utils import create_model_field
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from serving.api.problems import TooLarge, UnknownMediaType
from serving.api.validation import validate_json

LENGTH, JSON = b"content-length", (b"content-type", b"application/json")


class JsonRoute(APIRoute):
    """A route with one JSON object in the request and one in the response. FastAPI documents it like any other.

    The endpoint is an `async def` with two parameters: the request's pydantic model, and the app's ApiContext. It
    returns an instance of its `response_model`. Give `body` where the model is known only when the app is built.

    Pydantic's own JSON parser parses and validates the body in one step, its serializer writes the response, and
    nothing happens in between. FastAPI would parse the body into Python objects, validate those, resolve dependencies,
    and turn the response into Python objects again before writing it, which is most of the processor time of a
    request. So such a route has no path, header or query parameters and no dependencies but the context.
    """

    def __init__(self, *arguments: Any, body: type[BaseModel] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if body is not None:
            self.body_field = create_model_field("body", body, field_info=params.Body(annotation=body))
        assert self.body_field is not None
        self._model: type[BaseModel] = self.body_field.field_info.annotation  # type: ignore[assignment]
        self.app = self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = scope["app"].state.context
        headers = Headers(scope=scope)
        check_content_type(headers, "application/json")
        body = await read_body(headers, receive, context.settings.most_bytes)
        try:
            request = validate_json(self._model, body)
        except ValidationError as error:
            raise invalid_request(error, "body") from None
        response = await self.endpoint(request, context)
        content = response.__pydantic_serializer__.to_json(response)
        start: Message = {"type": "http.response.start", "status": 200}
        start["headers"] = [(LENGTH, str(len(content)).encode()), JSON]
        await send(start)
        await send({"type": "http.response.body", "body": content})


def invalid_request(error: ValidationError, part: str) -> RequestValidationError:
    """A model's error as FastAPI's, for its handler: `part` is body or query."""
    errors = error.errors(include_url=False, include_input=False)
    return RequestValidationError([each | {"loc": (part, *each["loc"])} for each in errors])


async def read_body(headers: Headers, receive: Receive, max_bytes: int) -> bytes:
    """The whole body of a request. Raises TooLarge, and ClientDisconnect when the caller hangs up before its end."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise TooLarge(f"the body has {length[:20]} bytes; the limit is {max_bytes}")
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"the body exceeds the limit of {max_bytes} bytes")
        chunks.append(chunk)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def check_content_type(headers: Headers, *accepted: str) -> None:
    """Raise UnknownMediaType unless the body's content type is one of these."""
    value = headers.get("content-type", "")
    if value.partition(";")[0].strip().lower() not in accepted:
        raise UnknownMediaType(f"the Content-Type is {value!r}; send the body as {' or '.join(accepted)}")
