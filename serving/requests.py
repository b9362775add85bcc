"""A request's id: the caller's own or a new one, in every log line about it and in the answer."""

import re
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import unexpected

HEADER = "X-Request-ID"
ACCEPTED = re.compile(r"[\w.:/=+-]{1,128}", re.ASCII)


class RequestIds:
    """ASGI middleware. A caller's id that could garble a log is replaced. An error that nobody expected is logged
    and answered here, so that log line and answer carry the id too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if ACCEPTED.fullmatch(given) else uuid.uuid4().hex

        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            except Exception:
                structlog.get_logger().exception("request_failed", path=scope["path"])
                if begun:
                    raise
                await unexpected()(scope, receive, send_with_id)
